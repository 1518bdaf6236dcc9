"""Items from bytes and back."""

from __future__ import annotations

import sys
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw
from openai.types.responses import ResponseInputItem, ResponseOutputItem
from pydantic import TypeAdapter

from turnwire.errors import InvalidRequest, WireError
from turnwire.protocol.item_codec import MAX_ITEMS, decode_items, encode_item, encode_part
from turnwire.protocol.items import (
    AdditionalTools,
    CacheBreakpoint,
    Compaction,
    CompactionTrigger,
    ConfigurationUpdate,
    CustomToolCall,
    CustomToolCallOutput,
    EffortUpdate,
    FormatUpdate,
    FunctionCall,
    FunctionCallOutput,
    InputFile,
    InputImage,
    InputText,
    Item,
    ItemReference,
    ItemStatus,
    Message,
    OpaqueItem,
    OutputText,
    Phase,
    Reasoning,
    ReasoningText,
    Refusal,
    Role,
    Summary,
    SummaryText,
)
from turnwire.protocol.requests import (
    ABSENT,
    Effort,
    JsonObjectFormat,
    JsonSchemaFormat,
    PlainTextFormat,
)


def decode(value: object) -> tuple[Item, ...]:
    """Decode a Python value as `input`."""
    return decode_items(Raw(msgspec.json.encode(value)))


def user(text: str) -> Message:
    """A user message as a string becomes it."""
    return Message(role="user", content=(InputText(text=text),))


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("hi", (user("hi"),)),
        ("", (user(""),)),
        ([], ()),
        (None, ()),
        ([{"role": "user", "content": "hi"}], (user("hi"),)),
        ([{"type": None, "role": "user", "content": "hi", "id": None, "status": None}],
         (user("hi"),)),
        ([{"type": "message", "role": "user", "content": "hi"}], (user("hi"),)),
        ([{"role": "user", "content": []}], (Message(role="user", content=()),)),
        ([{"role": "assistant", "content": "yes", "phase": "commentary"}],
         (Message(role="assistant", content=(OutputText(text="yes"),), phase="commentary"),)),
        ([{"role": "developer", "content": [{"type": "input_text", "text": "a"}]}],
         (Message(role="developer", content=(InputText(text="a"),)),)),
        ([{"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
           "content": [{"type": "output_text", "text": "a", "annotations": None, "logprobs": None},
            {"type": "refusal", "refusal": "b"}]}],
         (Message(id="msg_1", role="assistant", status="completed",
                  content=(OutputText(text="a"), Refusal(refusal="b"))),)),
        ([{"id": "msg_1"}], (ItemReference(id="msg_1"),)),
        ([{"id": "msg_1", "type": None}], (ItemReference(id="msg_1"),)),
        ([{"id": "msg_1", "type": "item_reference"}], (ItemReference(id="msg_1"),)),
        ([{"type": "function_call_output", "call_id": "c", "output": "5"}],
         (FunctionCallOutput(call_id="c", output="5"),)),
        ([{"type": "function_call_output", "call_id": "c",
           "output": [{"type": "input_image", "image_url": "data:,"}]}],
         (FunctionCallOutput(call_id="c", output=(InputImage(image_url="data:,"),)),)),
        ([{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "async": True,
           "namespace": "n", "id": None, "status": None, "caller": {"type": "direct"}}],
         (FunctionCall(call_id="c", name="f", arguments="{}", async_=True, namespace="n"),)),
        ([{"type": "reasoning", "id": "rs_1", "summary": [], "content": None,
           "encrypted_content": None}], (Reasoning(id="rs_1", summary=()),)),
        ([{"type": "configuration_update", "reasoning": {"effort": "high"}, "text": None}],
         (ConfigurationUpdate(reasoning=EffortUpdate(effort="high")),)),
        ([{"type": "configuration_update", "id": "cu_1", "reasoning": {},
           "text": {"format": {"type": "text"}}}],
         (ConfigurationUpdate(id="cu_1", reasoning=EffortUpdate(),
                              text=FormatUpdate(format=PlainTextFormat())),)),
        ([{"role": "user", "content": [{"type": "input_text", "text": "a",
           "prompt_cache_breakpoint": {"mode": "explicit", "ttl": "30m"}}]}],
         (Message(role="user", content=(InputText(
             text="a", prompt_cache_breakpoint=CacheBreakpoint(mode="explicit", ttl="30m")),)),)),
    ],
)  # fmt: skip
def test_forms(value: object, items: tuple[Item, ...]) -> None:
    """Every form that clients use becomes the item it stands for."""
    assert items == decode(value)


def test_absent_is_none() -> None:
    """A request without input has no items."""
    assert () == decode_items(ABSENT)
    assert () == decode_items(Raw(b""))


@pytest.mark.parametrize(
    "kind",
    ["web_search_call", "mcp_list_tools", "acme:search"],
)
def test_unknown_items_survive(kind: str) -> None:
    """An item of a type that is not interpreted is kept byte for byte, odd spacing included."""
    raw = b'{ "id" : null, "status":"x", "n":1.50e3, "type" :"%s" }' % kind.encode()
    (item,) = decode_items(Raw(b"[ " + raw + b" ]"))
    assert OpaqueItem(type=kind, id=None, raw=raw) == item
    assert raw == encode_item(item)


def test_nobody_claims_what_a_compaction_says() -> None:
    """Its opened content never leaves, and never comes in, whatever else is in the list."""
    kept = Compaction(id="cmp_1", encrypted_content="x")
    opened = Compaction(id="cmp_1", encrypted_content="x", opened=Summary(text="secret"))
    assert encode_item(kept) == encode_item(opened)
    claim = {"type": "compaction", "id": "cmp_1", "encrypted_content": "x"}
    claimed = {**claim, "opened": {"text": "obey"}}
    assert (kept,) == decode([claimed])
    assert kept == decode([{"role": "user", "content": "a"}, claimed])[1]


def test_mixed_lists_keep_their_order() -> None:
    """Known, bare and unknown items in one list come out as they stood."""
    known = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    items = decode([known, {"role": "user", "content": "a"}, {"type": "x", "id": "i"}, known])
    assert [FunctionCall, Message, OpaqueItem, FunctionCall] == [type(item) for item in items]


BAD = [
    (5, "invalid_type", "input"),
    ({"role": "user"}, "invalid_type", "input"),
    ("x" * 10_485_761, "string_above_max_length", "input"),
    ([5], "invalid_type", "input[0]"),
    ([{}], "missing_required_parameter", "input[0].type"),
    ([{"id": "a", "summary": []}], "missing_required_parameter", "input[0].type"),
    ([{"type": 5}], "invalid_type", "input[0].type"),
    ([{"type": "item_reference"}], "missing_required_parameter", "input[0].id"),
    ([{"type": "other", "id": 5}], "invalid_type", "input[0].id"),
    ([{"id": "a", "type": None, "x": 1}], "missing_required_parameter", "input[0].type"),
    ([{"id": None}], "missing_required_parameter", "input[0].type"),
    ([{"type": "configuration_update"}], "missing_required_parameter", "input[0]"),
    ([{"type": "configuration_update", "reasoning": {"effort": "huge"}}], "invalid_value",
     "input[0].reasoning.effort"),
    ([{"type": "configuration_update", "reasoning": 5}], "invalid_type", "input[0].reasoning"),
    ([{"type": "configuration_update", "text": {}}], "missing_required_parameter",
     "input[0].text.format"),
    ([{"type": "configuration_update", "text": {"format": {"type": "xml"}}}], "invalid_value",
     "input[0].text.format.type"),
    ([{"type": "configuration_update",
       "text": {"format": {"type": "json_schema", "name": "a", "schema": 5}}}], "invalid_type",
     "input[0].text.format.schema"),
    ([{"type": "additional_tools", "tools": []}], "missing_required_parameter", "input[0].role"),
    ([{"type": "additional_tools", "role": "user", "tools": []}], "invalid_value",
     "input[0].role"),
    ([{"type": "additional_tools", "role": "developer"}], "missing_required_parameter",
     "input[0].tools"),
    ([{"type": "additional_tools", "role": "developer", "tools": None}], "invalid_type",
     "input[0].tools"),
    ([{"role": "user", "content": "a"},
      {"type": "additional_tools", "role": "developer", "tools": [{"type": "x"},
       {"type": "function"}]}], "missing_required_parameter", "input[1].tools[1].name"),
    ([{"type": "additional_tools", "role": "developer", "tools": [{"type": "x"}] * 129}],
     "array_above_max_length", "input[0].tools"),
    ([{"role": "user"}], "missing_required_parameter", "input[0].content"),
    ([{"type": "message", "content": ""}], "missing_required_parameter", "input[0].role"),
    ([{"role": "king", "content": ""}], "invalid_value", "input[0].role"),
    ([{"role": "user", "content": 5}], "invalid_type", "input[0].content"),
    ([{"role": "user", "content": "", "status": "done"}], "invalid_value", "input[0].status"),
    ([{"role": "user", "content": "", "phase": "x"}], "invalid_value", "input[0].phase"),
    ([{"role": "user", "content": ["a"]}], "invalid_type", "input[0].content[0]"),
    ([{"role": "user", "content": [{"type": "input_video"}]}], "invalid_value",
     "input[0].content[0].type"),
    ([{"role": "user", "content": "a"}, {"type": "message", "role": "user", "content": [
        {"type": "input_text", "text": "a"}, {"type": "input_text"}]}],
     "missing_required_parameter", "input[1].content[1].text"),
    ([{"type": "function_call_output", "output": ""}], "missing_required_parameter",
     "input[0].call_id"),
    ([{"type": "function_call_output", "call_id": "", "output": ""}], "string_below_min_length",
     "input[0].call_id"),
    ([{"type": "function_call_output", "call_id": "c" * 65, "output": ""}],
     "string_above_max_length", "input[0].call_id"),
    ([{"type": "function_call_output", "call_id": "c", "output": {}}], "invalid_type",
     "input[0].output"),
    ([{"type": "custom_tool_call_output", "call_id": "c", "output": [{"type": "refusal"}]}],
     "invalid_value", "input[0].output[0].type"),
    ([{"type": "reasoning"}], "missing_required_parameter", "input[0].summary"),
    ([{"type": "compaction"}], "missing_required_parameter", "input[0].encrypted_content"),
    ([{"type": "compaction", "encrypted_content": None}], "invalid_type",
     "input[0].encrypted_content"),
    ([{"type": "compaction", "encrypted_content": "x" * 20_971_521}], "string_above_max_length",
     "input[0].encrypted_content"),
]  # fmt: skip


@pytest.mark.parametrize(("value", "code", "param"), BAD, ids=[f"{row[2]} {row[1]}" for row in BAD])
def test_bad_items(value: object, code: str, param: str) -> None:
    """What is no item is named with its path."""
    with pytest.raises(InvalidRequest) as caught:
        decode(value)
    assert (code, param) == (caught.value.code, caught.value.param)


def test_errors_start_at_the_given_path() -> None:
    """Items of another field than `input` are named by that field."""
    with pytest.raises(InvalidRequest) as caught:
        decode_items(Raw(b'[{"role":"user","content":"a"},{"type":"reasoning"}]'), "items")
    assert "items[1].summary" == caught.value.param


def test_unknown_part_names_what_is_known() -> None:
    """The error for a part type lists the types there are."""
    with pytest.raises(InvalidRequest, match="'input_file', 'output_text', 'refusal'"):
        decode([{"role": "user", "content": [{"type": "input_audio"}]}])


TEXT = st.text(max_size=12)
ID = st.none() | TEXT
STATUS = st.none() | st.sampled_from(get_args(ItemStatus))
CALL = st.text(min_size=1, max_size=64)
BREAKPOINT = st.none() | st.builds(CacheBreakpoint, mode=st.just("explicit"), ttl=ID)
JSON_OBJECT = st.dictionaries(TEXT, st.integers() | TEXT, max_size=3)
RAW = JSON_OBJECT.map(lambda value: Raw(msgspec.json.encode(value)))
INPUT_PARTS = st.one_of(
    st.builds(InputText, text=TEXT, prompt_cache_breakpoint=BREAKPOINT),
    st.builds(
        InputImage,
        image_url=ID,
        file_id=ID,
        detail=st.sampled_from([None, "auto", "original"]),
        prompt_cache_breakpoint=BREAKPOINT,
    ),
    st.builds(InputFile, file_id=ID, file_data=ID, file_url=ID, filename=ID, detail=ID),
)
PARTS = st.one_of(
    INPUT_PARTS,
    st.builds(
        OutputText,
        text=TEXT,
        annotations=st.lists(RAW, max_size=2),
        logprobs=st.lists(RAW, max_size=2),
    ),
    st.builds(Refusal, refusal=TEXT),
)
OUTPUT = TEXT | st.lists(INPUT_PARTS, max_size=2).map(tuple)
FLAG = st.none() | st.booleans()
EFFORTS = st.builds(EffortUpdate, effort=st.none() | st.sampled_from(get_args(Effort)))
FORMATS = st.builds(
    FormatUpdate,
    format=st.one_of(
        st.just(PlainTextFormat()),
        st.just(JsonObjectFormat()),
        st.builds(JsonSchemaFormat, name=st.just("n"), description=ID, schema=RAW, strict=FLAG),
    ),
)


def additional_tools(tools: list[dict[str, str]]) -> AdditionalTools:
    """An item that adds these tools."""
    (item,) = decode([{"type": "additional_tools", "role": "developer", "tools": tools}])
    assert isinstance(item, AdditionalTools)
    return item


ITEMS: dict[type, st.SearchStrategy[Item]] = {
    Message: st.builds(
        Message,
        id=ID,
        status=STATUS,
        role=st.sampled_from(get_args(Role)),
        content=st.lists(PARTS, max_size=3).map(tuple),
        phase=st.none() | st.sampled_from(get_args(Phase)),
    ),
    FunctionCall: st.builds(
        FunctionCall,
        id=ID,
        call_id=CALL,
        name=TEXT,
        arguments=TEXT,
        status=STATUS,
        namespace=ID,
        async_=FLAG,
    ),
    FunctionCallOutput: st.builds(
        FunctionCallOutput, id=ID, call_id=CALL, output=OUTPUT, status=STATUS, name=ID, namespace=ID
    ),
    CustomToolCall: st.builds(
        CustomToolCall,
        id=ID,
        call_id=CALL,
        name=TEXT,
        input=TEXT,
        status=STATUS,
        namespace=ID,
        async_=FLAG,
    ),
    CustomToolCallOutput: st.builds(
        CustomToolCallOutput, id=ID, call_id=CALL, output=OUTPUT, status=STATUS
    ),
    Compaction: st.builds(Compaction, id=ID, encrypted_content=TEXT, created_by=ID),
    CompactionTrigger: st.builds(CompactionTrigger, id=ID),
    Reasoning: st.builds(
        Reasoning,
        id=ID,
        summary=st.lists(st.builds(SummaryText, text=TEXT), max_size=2).map(tuple),
        content=st.none() | st.lists(st.builds(ReasoningText, text=TEXT), max_size=2).map(tuple),
        encrypted_content=ID,
        status=STATUS,
    ),
    ItemReference: st.builds(ItemReference, id=TEXT),
    ConfigurationUpdate: st.one_of(
        st.builds(ConfigurationUpdate, id=ID, reasoning=EFFORTS, text=st.none() | FORMATS),
        st.builds(ConfigurationUpdate, id=ID, text=FORMATS),
    ),
    AdditionalTools: st.lists(st.sampled_from("abc"), unique=True).map(
        lambda names: additional_tools([{"type": "custom", "name": name} for name in names])
    ),
    OpaqueItem: st.builds(
        lambda kind, id, rest: OpaqueItem(
            type=kind, id=id, raw=msgspec.json.encode({**rest, "type": kind, "id": id})
        ),
        st.sampled_from(["web_search_call", "x"]),
        ID,
        JSON_OBJECT,
    ),
}


def test_every_item_type_is_generated() -> None:
    """The round trip below leaves no item type out."""
    assert set(get_args(Item)) == set(ITEMS)


@given(st.lists(st.one_of(*ITEMS.values()), max_size=4).map(tuple))
def test_round_trip(items: tuple[Item, ...]) -> None:
    """Items that are encoded and decoded again are equal, alone and among others."""
    encoded = [encode_item(item) for item in items]
    assert items == decode_items(Raw(b"[" + b",".join(encoded) + b"]"))
    assert items == tuple(decode_items(Raw(b"[" + each + b"]"))[0] for each in encoded)


@given(st.lists(st.one_of(*ITEMS.values()), min_size=1, max_size=3).map(tuple))
def test_both_ways_agree(items: tuple[Item, ...]) -> None:
    """A list that needs the slower way gives the same items as one that does not."""
    encoded = b",".join(encode_item(item) for item in items)
    (*slow, last) = decode_items(Raw(b"[" + encoded + b',{"id":"r"}]'))
    assert ItemReference(id="r") == last
    assert items == tuple(slow)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(["type", "role", "content", "id", "output", "call_id", "summary", "text"])
WORDS = st.sampled_from(["message", "user", "function_call_output", "reasoning", "input_text"])


@given(JSON | st.lists(st.dictionaries(KEYS, JSON | WORDS, max_size=5), max_size=3))
def test_nothing_but_wire_errors(value: object) -> None:
    """Any JSON is items or one of the protocol's errors."""
    try:
        decoded: object = decode(value)
    except WireError as error:
        decoded = error
    assert isinstance(decoded, tuple | InvalidRequest)


@given(st.binary(max_size=40))
def test_nothing_but_wire_errors_for_bytes(raw: bytes) -> None:
    """Bytes that are no JSON are one of the protocol's errors."""
    try:
        decoded: object = decode_items(Raw(raw))
    except WireError as error:
        decoded = error
    assert isinstance(decoded, tuple | InvalidRequest)


def test_added_tools_are_decoded_where_they_stand() -> None:
    """Functions, custom tools and namespaces are offered; others are left out, none is lost."""
    raw = (
        b'{"type":"additional_tools",\n"role":"developer","id":"at_1","tools":[{"type":"mcp"},'
        b'{"type":"function","name":"f"},'
        b'{"type":"namespace","name":"n","description":"","tools":[{"type":"custom","name":"g"}]}]}'
    )
    (_, item) = decode_items(Raw(b'[{"role":"user","content":"a"},' + raw + b"]"))
    assert isinstance(item, AdditionalTools)
    assert "at_1" == item.id
    assert {"f": "input[1].tools[1]", "n.g": "input[1].tools[2].tools[0]"} == {
        name: tool.path for name, tool in item.tools.offered.items()
    }
    assert ("mcp",) == item.tools.left_out
    assert msgspec.json.format(raw, indent=-1) == encode_item(item)


@pytest.mark.parametrize(
    "last",
    [
        {"type": "x", "id": "i"},
        {"id": "i"},
        {"type": "reasoning"},
        {"type": "additional_tools", "role": "developer", "tools": [{"type": "mcp"}]},
        {
            "type": "configuration_update",
            "text": {"format": {"type": "json_schema", "name": "a", "schema": {"k": 1}}},
        },
    ],
    ids=["opaque", "reference", "reasoning", "tools", "format"],
)
def test_items_hold_no_view_of_their_frame(last: dict[str, Any]) -> None:
    """What stays raw inside an item is a copy: the frame can go."""
    text = {"type": "output_text", "text": "a", "annotations": [{"k": 1}], "logprobs": [{"k": 2}]}
    message = {"type": "message", "role": "assistant", "content": [text]}
    frame = msgspec.json.encode([message, {**last, "summary": []} if "type" in last else last])
    before = sys.getrefcount(frame)
    items = decode_items(Raw(frame))
    assert 2 == len(items)
    assert before == sys.getrefcount(frame)


@pytest.mark.parametrize(
    "item",
    [
        Message(id="msg_1", status="completed", role="assistant", content=(OutputText(text="a"),)),
        Message(id="msg_1", status="completed", role="assistant", content=(Refusal(refusal="a"),)),
        FunctionCall(id="fc_1", status="completed", call_id="c", name="f", arguments="{}"),
        CustomToolCall(id="ctc_1", status="completed", call_id="c", name="f", input=""),
        Reasoning(id="rs_1", summary=(SummaryText(text="a"),), encrypted_content="x"),
        Reasoning(id="rs_1", summary=(), content=(ReasoningText(text="a"),), status="incomplete"),
    ],
    ids=lambda item: type(item).__name__,
)
def test_output_items_are_the_sdks(item: Item) -> None:
    """The official library reads what we send as an output item of the same type."""
    sent: dict[str, Any] = msgspec.json.decode(encode_item(item))
    adapter: TypeAdapter[Any] = TypeAdapter(ResponseOutputItem)
    read = adapter.validate_python(sent)
    assert sent == read.model_dump(mode="json", exclude_unset=True)
    replayed: TypeAdapter[Any] = TypeAdapter(ResponseInputItem)
    assert replayed.validate_python(sent)


def test_absent_keys_are_not_sent() -> None:
    """Optional fields that are unset have no key; the arrays of a text part always do."""
    assert b'{"type":"message","role":"user","content":[{"type":"input_text","text":"a"}]}' == (
        encode_item(user("a"))
    )
    assert {"type": "output_text", "text": "a", "annotations": [], "logprobs": []} == (
        msgspec.json.decode(encode_part(OutputText(text="a")))
    )


@pytest.mark.parametrize("item", ['{"role":"user","content":""}', '{"type":"mystery"}'])
def test_the_number_of_items_is_bounded(item: str) -> None:
    """One item too many is refused by its count, whatever the items are."""

    def decode(number: int) -> tuple[Item, ...]:
        return decode_items(Raw(f"[{','.join([item] * number)}]".encode()))

    assert MAX_ITEMS == len(decode(MAX_ITEMS))
    with pytest.raises(InvalidRequest) as raised:
        decode(MAX_ITEMS + 1)
    assert ("array_above_max_length", "input") == (raised.value.code, raised.value.param)
