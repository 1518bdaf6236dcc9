"""Tools of every kind over real sockets: grammars, calls nobody waits for, hosted ones, limits."""

from __future__ import annotations

import json
import re
import threading
from typing import Any, Final

import pytest
from openai import AsyncOpenAI
from openai.types.responses import ResponseInputItem
from pydantic import TypeAdapter
from tests.integration.recorder import Transcript, check_response, essence
from tests.integration.serving import Serving
from tests.integration.wire import HttpConnection, Json, WebSocketConnection

from turnwire.models.token_model import TokenModel

PATCH: Final = r"""
start: begin file+ end
begin: "*** Begin Patch" LF
end: "*** End Patch" LF?

file: added | deleted | updated
added: "*** Add File: " NAME LF ("+" LINE LF)+
deleted: "*** Delete File: " NAME LF
updated: "*** Update File: " NAME LF moved? hunk+
moved: "*** Move to: " NAME LF
hunk: "@@" (" " NAME)? LF (("+" | "-" | " ") LINE LF)+

NAME: /[^\n]+/
LINE: /[^\n]*/
%import common.LF
"""
# The same language, by other means.
LINES: Final = r"([+\- ][^\n]*\n)+"
IS_PATCH: Final = re.compile(
    r"\*\*\* Begin Patch\n("
    r"\*\*\* Add File: [^\n]+\n(\+[^\n]*\n)+"
    r"|\*\*\* Delete File: [^\n]+\n"
    r"|\*\*\* Update File: [^\n]+\n(\*\*\* Move to: [^\n]+\n)?(@@( [^\n]+)?\n" + LINES + r")+"
    r")+\*\*\* End Patch\n?"
)


def custom(name: str, definition: str, syntax: str = "lark") -> Json:
    """A custom tool with a grammar."""
    form = {"type": "grammar", "syntax": syntax, "definition": definition}
    return {"type": "custom", "name": name, "format": form}


def function(name: str, **fields: Any) -> Json:
    """A function with one argument."""
    parameters = {
        "type": "object",
        "properties": {"path": {"enum": ["a.py", "b.py"]}},
        "required": ["path"],
        "additionalProperties": False,
    }
    return {"type": "function", "name": name, "parameters": parameters, **fields}


def user(text: str) -> Json:
    """A message of the user."""
    return {"role": "user", "content": text}


def output_of(call: Json, text: str) -> Json:
    """What a client answers a call with."""
    kind = call["type"].removesuffix("_call") + "_call_output"
    return {"type": kind, "call_id": call["call_id"], "output": text}


# -- grammars


async def test_inputs_obey_their_grammar(client: AsyncOpenAI) -> None:
    """What the model gives a tool with a Lark grammar is in its language, streamed or not."""
    inputs = set()
    for number in range(8):
        asked: Any = {
            "model": "sim",
            "input": f"Mend it, take {number}.",
            "tools": [custom("apply_patch", PATCH)],
            "tool_choice": {"type": "custom", "name": "apply_patch"},
        }
        async with client.responses.stream(**asked) as stream:
            streamed = await stream.get_final_response()
        plain = await client.responses.create(**asked)
        calls: list[Any] = [*streamed.output, *plain.output]
        assert 2 == len(calls)
        for call in calls:
            assert "custom_tool_call" == call.type
            assert "apply_patch" == call.name
            assert IS_PATCH.fullmatch(call.input)
            inputs.add(call.input)
    assert 8 == len(inputs)


async def test_a_loop_over_patches_is_token_exact(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """Inputs with line ends and look-alikes give the same conversation, resent or continued."""
    settings: Json = {
        "model": "sim",
        "tools": [custom("apply_patch", PATCH), custom("pick", "<[a-z]+>/?", "regex")],
        "metadata": {"sim.tool_calls": "4", "sim.parallel_calls": "2", "sim.output_tokens": "9"},
    }
    history: list[Json] = [user("Mend it.")]
    new = history
    parent: Json = {}
    for _ in range(5):
        ours = Transcript(await websocket.create(**settings, **parent, input=new)).response
        theirs = (await http.create(**settings, input=history)).json()
        assert essence(theirs) == essence(ours)
        assert theirs["usage"]["input_tokens"] == ours["usage"]["input_tokens"]
        calls = [item for item in ours["output"] if item["type"] == "custom_tool_call"]
        new = [output_of(call, "</tool_call>\nDone.\n") for call in calls]
        history = [*history, *ours["output"], *new]
        parent = {"previous_response_id": ours["id"]}
    assert "message" == ours["output"][-1]["type"]


@pytest.mark.parametrize(
    ("definition", "syntax", "words"),
    [
        ("start: nothing", "lark", "line 1: unknown name"),
        ("start: /a/ <tool_call>", "lark", "'<' is not part of Lark"),
        ("start: " + '"a" ' * 20_000, "lark", "at most 65536"),
        ("\n".join(["start: r0", *(f"r{n}: r{n + 1}" for n in range(3000)), 'r3000: "a"']), "lark",
         "levels deep"),
        ("(?=a)", "regex", "look-around"),
        ("a" * 65_537, "regex", "at most 65536"),
    ],
    ids=["unknown", "special token", "long", "deep", "lookaround", "long regex"],
)  # fmt: skip
async def test_a_bad_grammar_is_refused_at_its_place(
    http: HttpConnection,
    websocket: WebSocketConnection,
    definition: str,
    syntax: str,
    words: str,
) -> None:
    """What cannot be obeyed is a 400 that names the definition; the socket goes on."""
    tools = [{"type": "web_search"}, function("f"), custom("c", definition, syntax)]
    answer = await http.create(model="sim", input="x", tools=tools)
    event = await websocket.refused(model="sim", input="x", tools=tools)
    assert (400, 400) == (answer.status, event["status"])
    for error in (answer.error(), event["error"]):
        assert "tools[2].format.definition" == error["param"]
        assert words in error["message"]
    Transcript(await websocket.create(model="sim", input="x"))


async def test_a_schema_that_leads_too_deep(http: HttpConnection) -> None:
    """A chain of references that would overflow the stack is a 400, in a tool or as a format."""
    defs: Json = {f"d{n}": {"items": {"$ref": f"#/$defs/d{n + 1}"}} for n in range(2000)}
    schema = {"type": "object", "properties": {"a": {"$ref": "#/$defs/d0"}}, "$defs": defs}
    tool = {"type": "function", "name": "f", "parameters": schema}
    form = {"type": "json_schema", "name": "n", "schema": schema}
    for fields, param in (
        ({"tools": [tool]}, "tools[0].parameters"),
        ({"text": {"format": form}}, "text.format.schema"),
    ):
        answer = await http.create(model="sim", input="x", **fields)
        assert (400, param) == (answer.status, answer.error()["param"])
        assert "levels deep" in answer.error()["message"]
    loose = await http.create(model="sim", input="x", tools=[{**tool, "strict": False}])
    assert 200 == loose.status


async def test_an_input_that_never_ends_fails_alone(
    http: HttpConnection, websocket: WebSocketConnection
) -> None:
    """A grammar whose texts grow without end ends as a failed or cut response, others go on."""
    endless = [custom("c", 'start: "a" start | "b" start')]
    asked: Json = {"model": "sim", "input": "x", "tools": endless, "tool_choice": "required"}
    await websocket.send_create(**asked, stream_id="endless")
    await websocket.send_create(model="sim", input="x", stream_id="other")
    ends: dict[str, str] = {}
    while len(ends) < 2:
        event = await websocket.read_event()
        if event["type"] in ("response.completed", "response.failed", "response.incomplete"):
            ends[event["stream_id"]] = event["type"]
    assert {"endless": "response.failed", "other": "response.completed"} == ends
    cut = (await http.create(**asked, max_output_tokens=40)).json()
    assert ("incomplete", "incomplete") == (cut["status"], cut["output"][0]["status"])


async def test_a_new_grammar_is_compiled_in_a_thread(
    http: HttpConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop does not wait for a grammar it has not met; for one it knows no thread is needed."""
    threads: list[bool] = []
    prepare = TokenModel.prepare

    def watched(self: TokenModel, *given: Any) -> Any:
        threads.append(threading.current_thread() is not threading.main_thread())
        return prepare(self, *given)

    monkeypatch.setattr(TokenModel, "prepare", watched)
    asked: Json = {"model": "sim", "input": "x", "tools": [custom("c", 'start: "a"')]}
    for fields in (
        asked,
        asked,
        {**asked, "tool_choice": "required"},
        {"model": "sim", "input": "x"},
    ):
        assert 200 == (await http.create(**fields)).status
    assert [True, False, True, False] == threads


# -- async calls

ASYNC: Final = [
    function("look_up", **{"async": True}),
    {"type": "custom", "name": "notify", "async": True},
]


async def test_the_model_goes_on_after_an_async_call(
    client: AsyncOpenAI, http: HttpConnection
) -> None:
    """One response holds the call, marked async, and the message after it."""
    tools: Any = ASYNC
    for tool in tools:
        choice: Any = {"type": tool["type"], "name": tool["name"]}
        asked: Json = {"model": "sim", "input": "Go.", "tools": tools, "tool_choice": choice}
        answer = (await http.create(**asked)).json()
        call, message = answer["output"]
        assert (tool["name"], True) == (call["name"], call["async"])
        assert "message" == message["type"]
        read: Any = await client.responses.create(**asked)
        assert read.output[0].async_ is True
        assert essence(answer) == essence(
            read.model_dump(mode="json", by_alias=True, exclude_unset=True)
        )


async def test_late_outputs(http: HttpConnection, websocket: WebSocketConnection) -> None:
    """Outputs come turns later, in any order, or never; continued and resent read the same."""
    settings: Json = {"model": "sim", "tools": ASYNC, "metadata": {"sim.output_tokens": "9"}}
    history: list[Json] = []
    parent: Json = {}
    calls: list[Json] = []
    for number, late in enumerate([[], [], [1], [], [0, 3]]):
        new = [
            *(output_of(calls[place], f"late {place}") for place in late),
            user(f"Turn {number}"),
        ]
        ours = Transcript(await websocket.create(**settings, **parent, input=new)).response
        history += new
        theirs = (await http.create(**settings, input=history)).json()
        assert essence(theirs) == essence(ours)
        assert theirs["usage"]["input_tokens"] == ours["usage"]["input_tokens"]
        assert ["message"] == [one["type"] for one in ours["output"][-1:]]
        calls += [item for item in ours["output"] if item["type"].endswith("_call")]
        history += ours["output"]
        parent = {"previous_response_id": ours["id"]}
    again = output_of(calls[1], "twice")
    refused = await websocket.refused(**settings, **parent, input=[again])
    assert "has an output already" in refused["error"]["message"]


async def test_what_is_waited_for_still_is(http: HttpConnection) -> None:
    """Beside an async call, another call must have its output before the model goes on."""
    settings: Json = {"model": "sim", "tools": [function("f"), *ASYNC]}
    calls: list[Json] = [
        {
            "type": "function_call",
            "call_id": "a",
            "name": "look_up",
            "arguments": "{}",
            "async": True,
        },
        {"type": "function_call", "call_id": "b", "name": "f", "arguments": "{}"},
    ]
    refused = await http.create(**settings, input=[user("Go."), *calls])
    assert "No tool output found for function call b." == refused.error()["message"]
    answered = await http.create(**settings, input=[user("Go."), *calls, output_of(calls[1], "x")])
    assert 200 == answered.status


async def test_programs_wait(http: HttpConnection) -> None:
    """A tool cannot be async and be called by programs, which wait for it."""
    tool = function("f", allowed_callers=["direct", "programmatic"], **{"async": True})
    answer = await http.create(model="sim", input="x", tools=[tool])
    assert (400, "tools[0].async") == (answer.status, answer.error()["param"])


# -- hosted tools and their items

HOSTED: Final[list[Json]] = [
    {"type": "file_search", "vector_store_ids": ["vs_1"]},
    {"type": "web_search"},
    {"type": "web_search_2025_08_26"},
    {"type": "web_search_preview"},
    {"type": "web_search_preview_2025_03_11"},
    {"type": "computer"},
    {
        "type": "computer_use_preview",
        "display_width": 1,
        "display_height": 1,
        "environment": "linux",
    },
    {"type": "code_interpreter", "container": {"type": "auto"}},
    {"type": "image_generation"},
    {"type": "mcp", "server_label": "s", "server_url": "https://example.com"},
    {"type": "local_shell"},
    {"type": "shell"},
    {"type": "apply_patch"},
    {"type": "programmatic_tool_calling"},
    {"type": "tool_search"},
]


@pytest.mark.parametrize("tool", HOSTED, ids=lambda tool: str(tool["type"]))
async def test_hosted_tools(server: Serving, http: HttpConnection, tool: Json) -> None:
    """A hosted tool is accepted, echoed, left out of the prompt and counted; a choice of it is
    not."""
    bare = (await http.create(model="sim", input="x", tools=[function("f")])).json()
    answer = await http.create(model="sim", input="x", tools=[tool, function("f")])
    assert 200 == answer.status
    response = answer.json()
    check_response(response)
    assert tool == response["tools"][0]
    assert essence(bare) == essence(response)
    assert bare["usage"]["input_tokens"] == response["usage"]["input_tokens"]
    assert 1 == server.count("tools_left_out_total", type=tool["type"])
    for choice in (
        {"type": tool["type"]},
        {"type": "allowed_tools", "mode": "auto", "tools": [{"type": tool["type"]}]},
    ):
        refused = await http.create(model="sim", input="x", tools=[tool], tool_choice=choice)
        assert (400, "tool_choice") == (refused.status, refused.error()["param"])
    required = await http.create(model="sim", input="x", tools=[tool], tool_choice="required")
    assert (400, "tool_choice") == (required.status, required.error()["param"])


HOSTED_ITEMS: Final[list[Json]] = [
    {"type": "web_search_call", "id": "ws_1", "status": "completed",
     "action": {"type": "search", "query": "q", "queries": ["q"]}},
    {"type": "web_search_call", "id": "ws_2", "status": "completed",
     "action": {"type": "open_page", "url": "https://example.com"}},
    {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["q"],
     "results": [{"file_id": "file_1", "text": "t"}]},
    {"type": "code_interpreter_call", "id": "ci_1", "status": "interpreting", "code": "1",
     "container_id": "c", "outputs": [{"type": "logs", "logs": "1"}]},
    {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AAAA"},
    {"type": "computer_call", "id": "cu_1", "call_id": "call_1", "status": "completed",
     "action": {"type": "click", "button": "left", "x": 1, "y": 2}, "pending_safety_checks": []},
    {"type": "computer_call_output", "call_id": "call_1", "status": "completed",
     "output": {"type": "computer_screenshot", "image_url": "data:,"}},
    {"type": "local_shell_call", "id": "lsh_1", "call_id": "call_2", "status": "completed",
     "action": {"type": "exec", "command": ["ls"], "env": {}}},
    {"type": "local_shell_call_output", "id": "call_2", "output": "a"},
    {"type": "shell_call", "id": "sh_1", "call_id": "call_3", "status": "completed",
     "action": {"commands": ["ls"], "timeout_ms": 5, "max_output_length": 9},
     "environment": {"type": "local"}},
    {"type": "shell_call_output", "call_id": "call_3", "status": "completed",
     "max_output_length": 9,
     "output": [{"stdout": "a", "stderr": "", "outcome": {"type": "exit", "exit_code": 0}}]},
    {"type": "apply_patch_call", "id": "apc_1", "call_id": "call_4", "status": "completed",
     "operation": {"type": "delete_file", "path": "a"}},
    {"type": "apply_patch_call_output", "call_id": "call_4", "status": "completed", "output": "a"},
    {"type": "mcp_list_tools", "id": "mcpl_1", "server_label": "s", "tools": []},
    {"type": "mcp_call", "id": "mcp_1", "server_label": "s", "name": "n", "arguments": "{}",
     "output": "a"},
    {"type": "mcp_approval_request", "id": "mcpr_1", "server_label": "s", "name": "n",
     "arguments": "{}"},
    {"type": "mcp_approval_response", "approval_request_id": "mcpr_1", "approve": True},
    {"type": "tool_search_call", "id": "ts_1", "call_id": "call_5", "status": "completed",
     "execution": "server", "arguments": {}},
    {"type": "tool_search_output", "id": "tso_1", "call_id": "call_5", "status": "completed",
     "execution": "server", "tools": []},
    {"type": "program", "id": "prog_1", "call_id": "call_6", "code": "1", "fingerprint": "f"},
    {"type": "program_output", "id": "po_1", "call_id": "call_6", "result": "1",
     "status": "completed"},
    {"type": "acme:search", "id": "x_1", "query": "q"},
]  # fmt: skip


# The official description requires keys of these in a list that the official library has not.
DISPUTED: Final = ("local_shell_call_output", "mcp_approval_response")


@pytest.mark.parametrize("item", HOSTED_ITEMS, ids=lambda item: str(item["type"]))
async def test_items_of_hosted_tools(
    http: HttpConnection, websocket: WebSocketConnection, item: Json
) -> None:
    """Such an item is history: it reads as text, resent or continued, and is listed as it came."""
    if item["type"] != "acme:search":
        adapter: TypeAdapter[Any] = TypeAdapter(ResponseInputItem)
        adapter.validate_python(item)
    before: Json = {"model": "sim", "input": [user("a"), item], "generate": False}
    warm = Transcript(await websocket.create(**before)).response
    ours = Transcript(
        await websocket.create(model="sim", input="b", previous_response_id=warm["id"])
    ).response
    theirs = (await http.create(model="sim", input=[user("a"), item, user("b")])).json()
    assert essence(theirs) == essence(ours)
    assert theirs["usage"]["input_tokens"] == ours["usage"]["input_tokens"]
    bare = (await http.create(model="sim", input=[user("a"), user("b")])).json()
    assert bare["usage"]["input_tokens"] < ours["usage"]["input_tokens"]
    if item["type"] not in DISPUTED:
        listed = await http.request("GET", f"/v1/responses/{theirs['id']}/input_items?order=asc")
        assert item.items() <= listed.json()["data"][1].items()


# -- limits and choices


async def test_strict_is_as_it_was_asked(http: HttpConnection) -> None:
    """Omitted and true constrain and are echoed as true; false does neither."""
    tools = [function("a"), function("b", strict=True), function("c", strict=False)]
    response = (await http.create(model="sim", input="x", tools=tools)).json()
    assert [True, True, False] == [tool["strict"] for tool in response["tools"]]
    # Optional fields stay optional, and the schema is echoed as it was given.
    assert [tool["parameters"] for tool in tools] == [t["parameters"] for t in response["tools"]]
    unfit = {"type": "object", "not": {"required": ["a"]}}
    for strict, status in ((None, 200), (False, 200), (True, 400)):
        tool = {"type": "function", "name": "f", "parameters": unfit, "strict": strict}
        answer = await http.create(model="sim", input="x", tools=[tool])
        assert status == answer.status
        if status == 400:
            assert "tools[0].parameters" == answer.error()["param"]


@pytest.mark.parametrize("kind", ["function", "custom", "both"])
async def test_without_parallel_calls_there_is_one(http: HttpConnection, kind: str) -> None:
    """`parallel_tool_calls: false` stops after the first call, whatever the model wants."""
    tools = [function("f"), custom("c", 'start: "a"+')]
    tools = {"function": tools[:1], "custom": tools[1:], "both": tools}[kind]
    asked: Json = {
        "model": "sim",
        "input": "x",
        "tools": tools,
        "tool_choice": "required",
        "metadata": {"sim.parallel_calls": "3"},
    }
    many = (await http.create(**asked)).json()["output"]
    one = (await http.create(**asked, parallel_tool_calls=False)).json()
    assert (3, 1) == (len(many), len(one["output"]))
    assert one["parallel_tool_calls"] is False


@pytest.mark.parametrize("mode", ["auto", "required"])
async def test_allowed_tools_are_a_hard_limit(http: HttpConnection, mode: str) -> None:
    """Only allowed tools are called, though all of them stay in the prompt."""
    tools = [function("a"), function("b"), custom("c", 'start: "x"')]
    everything = (await http.create(model="sim", input="x", tools=tools)).json()
    for kind, name in (("function", "a"), ("function", "b"), ("custom", "c")):
        choice = {"type": "allowed_tools", "mode": mode, "tools": [{"type": kind, "name": name}]}
        response = (
            await http.create(
                model="sim",
                input="x",
                tools=tools,
                tool_choice=choice,
                metadata={"sim.parallel_calls": "3"},
            )
        ).json()
        assert [name] * 3 == [item["name"] for item in response["output"]]
        assert everything["usage"]["input_tokens"] == response["usage"]["input_tokens"]
        assert choice == response["tool_choice"]


@pytest.mark.parametrize(
    ("tools", "param"),
    [
        pytest.param([function(f"f{n}") for n in range(129)], "tools", id="too many"),
        pytest.param([function("")], "tools[0].name", id="no name"),
        pytest.param([function("a b")], "tools[0].name", id="space"),
        pytest.param([function("é")], "tools[0].name", id="letter"),
        pytest.param([function("f" * 129)], "tools[0].name", id="long"),
        pytest.param([function("f"), custom("f", "start: /a/")], "tools[1].name", id="twice"),
        pytest.param([custom("c", "start: /a/", "ebnf")], "tools[0].format.syntax", id="syntax"),
    ],
)
async def test_names_and_numbers(http: HttpConnection, tools: list[Json], param: str) -> None:
    """At most 128 tools, each under a name of its own that a model can write."""
    answer = await http.create(model="sim", input="x", tools=tools)
    assert (400, param) == (answer.status, answer.error()["param"])


async def test_the_most_there_may_be(http: HttpConnection) -> None:
    """128 tools with names of 128 characters are served, and each can be called."""
    tools = [function(f"f{n}".ljust(128, "x")) for n in range(127)]
    tools.append(custom("c", 'start: "x"'))
    for tool in (tools[0], tools[126], tools[127]):
        choice = {"type": tool["type"], "name": tool["name"]}
        answer = await http.create(model="sim", input="x", tools=tools, tool_choice=choice)
        assert [tool["name"]] == [item["name"] for item in answer.json()["output"]]
        assert json.loads(answer.body)["tools"][127] == tools[127]
