"""Tests of `turnwire.rendering.probe`."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import structs
from tests.unit.rendering.imitations import GEMMA, LLAMA3, MISTRAL, QWEN2, QWEN3, byte_level

from turnwire.errors import ConfigError
from turnwire.protocol.tools import EMPTY_TOOL_SET
from turnwire.rendering.generic import Quirks, Rendering
from turnwire.rendering.jinja import ChatTemplate
from turnwire.rendering.messages import ChatCall, ChatMessage, ChatResult, Head
from turnwire.rendering.probe import CONVERSATIONS, find_quirks, rewrites

SPECIAL = byte_level(("<a>", "<b>", "<s>")).special
TURNS = "{% for m in messages %}<a>{{ m.role }}:{{ m.content }}{{ m.tool_calls }}<b>{% endfor %}"
STRICT = "{% if messages[0].role == 'system' %}{{ raise_exception('No.') }}{% endif %}" + TURNS
LATE = (
    "{% for m in messages[1:] if m.role == 'system' %}{{ raise_exception('No.') }}{% endfor %}"
    + TURNS
)
DROPS = (
    "{% for m in messages %}{% if m.role != 'system' or loop.first %}"
    "<a>{{ m.role }}:{{ m.content }}<b>{% endif %}{% endfor %}"
)
ALTERNATES = (
    "{% for m in messages %}{% if not loop.first and m.role == messages[loop.index0 - 1].role %}"
    "{{ raise_exception('Alternate.') }}{% endif %}{% endfor %}" + TURNS
)
TEXTS = "{% for m in messages %}{% for c in m.tool_calls %}{{ '' + c.function.arguments }}" + (
    "{% endfor %}{% endfor %}" + TURNS
)
SILENT = (
    "{% for m in messages %}<a>{% if m.content is not none %}{{ m.content }}{% else %}"
    "{% for c in m.tool_calls %}{{ c.function.name + c.function.arguments }}{% endfor %}"
    "{% endif %}<b>{% endfor %}"
)
NUMBERED = (
    "{% for m in messages %}<a>{% if m.role == 'tool' %}{{ m.tool_call_id }}:{% endif %}"
    "{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.id }}{{ c.function.arguments | tojson }}"
    "{% endfor %}<b>{% endfor %}"
)
EAGER = "{% for tool in tools %}{{ tool }}{% endfor %}" + TURNS


def rendering(source: str, **quirks: Any) -> Rendering:
    return Rendering(ChatTemplate(source, SPECIAL), Quirks(**quirks))


@pytest.mark.parametrize(
    ("source", "quirks"),
    [
        pytest.param(TURNS, {}, id="takes everything"),
        pytest.param(STRICT, {"system": False}, id="no system message"),
        pytest.param(LATE, {"late_system": "user"}, id="no late one"),
        pytest.param(DROPS, {"late_system": "user"}, id="a late one is dropped in silence"),
        pytest.param(ALTERNATES, {"alternate": True}, id="turns that alternate"),
        pytest.param(TEXTS, {"arguments": "text"}, id="arguments as text"),
        pytest.param(EAGER, {"no_tools": "empty"}, id="a list of tools"),
        pytest.param(
            SILENT, {"arguments": "text", "beside_calls": False}, id="no text beside calls"
        ),
        pytest.param(NUMBERED, {"ids": "numbered"}, id="ids that say the tool"),
        pytest.param(QWEN3, {}, id="like Qwen"),
        pytest.param(LLAMA3, {}, id="like Llama"),
        pytest.param(MISTRAL, {"alternate": True, "late_system": "user"}, id="like Mistral"),
        pytest.param(
            GEMMA, {"system": False, "alternate": True, "late_system": "user"}, id="like Gemma"
        ),
    ],
)
def test_quirks(source: str, quirks: dict[str, Any]) -> None:
    """What a template does not take is found, and nothing else is changed for it."""
    chat = ChatTemplate(source, SPECIAL, variables={"bos_token": "", "eos_token": ""})
    assert Quirks(**quirks) == find_quirks(chat).quirks


def test_a_template_that_takes_nothing() -> None:
    """It cannot be used, and says why."""
    with pytest.raises(ConfigError, match="takes no conversation: Never"):
        find_quirks(ChatTemplate("{{ raise_exception('Never.') }}", SPECIAL))


LATER = "{% if messages | length > 3 %}<s>{% endif %}" + TURNS
TRIMS = (
    "{% for m in messages %}<a>{{ m.content if loop.last else m.content | trim }}<b>{% endfor %}"
)
ANY = {"a user's message", "the output of a tool"}


@pytest.mark.parametrize(
    ("source", "kinds"),
    [
        pytest.param(TURNS, set(), id="appends"),
        pytest.param(LATER, ANY, id="a tag in front"),
        pytest.param(TRIMS, ANY, id="the last one differs"),
        pytest.param(QWEN2, set(), id="like Qwen 2.5"),
    ],
)
def test_rewrites(source: str, kinds: set[str]) -> None:
    """Where a prompt is no prefix of the next one, it is said by what that was changed."""
    found = rewrites(find_quirks(ChatTemplate(source, SPECIAL)))
    names = {conversation.name for conversation in CONVERSATIONS}
    assert kinds == {line.partition(": ")[2].partition(" changes")[0] for line in found}
    assert {line.partition(": ")[0] for line in found} <= names


def test_what_a_token_in_front_is() -> None:
    """It is there once, whether the template writes it or not."""
    head, messages = CONVERSATIONS[0].head, CONVERSATIONS[0].messages[:1]
    for source in (TURNS, "<s>" + TURNS):
        begun = find_quirks(ChatTemplate(source, SPECIAL), SPECIAL["<s>"])
        pieces = begun.render(head, messages, opening=False, thinking=False)
        assert [SPECIAL["<s>"], SPECIAL["<a>"]] == pieces[:2]


def test_messages_as_templates_get_them() -> None:
    """Roles, ids of nine letters, arguments as objects, and reasoning under both its names."""
    loop = next(c for c in CONVERSATIONS if c.name == "reasoning")
    plain = rendering(TURNS)
    call, result = plain.given(loop.messages[1])[0], plain.given(loop.messages[2])[0]
    assert ("First a.", "First a.") == (call["reasoning_content"], call["thinking"])
    assert {"path": "a", "line": [1, 2.5]} == call["tool_calls"][0]["function"]["arguments"]
    assert 9 == len(call["tool_calls"][0]["id"])
    assert call["tool_calls"][0]["id"] == result["tool_call_id"]
    assert ("tool", "read_file") == (result["role"], result["name"])
    text = rendering(TURNS, arguments="text").given(loop.messages[1])[0]
    assert '{"path": "a", "line": [1, 2.5]}' == text["tool_calls"][0]["function"]["arguments"]


def said(source: str, *messages: ChatMessage) -> str:
    """What a template makes of a conversation, without its tags."""
    found = find_quirks(ChatTemplate(source, SPECIAL))
    head = Head(None, EMPTY_TOOL_SET)
    pieces = found.render(head, messages, opening=False, thinking=False)
    return "|".join(piece for piece in pieces if isinstance(piece, str))


def test_text_beside_calls() -> None:
    """It is a message of its own where a template shows calls only without any."""
    message = ChatMessage("assistant", "So.", calls=(ChatCall("f", "{}", "c"),))
    assert "So.|f{}" == said(SILENT, message)
    assert "Go.|f{}" == said(SILENT, ChatMessage("user", "Go."), structs.replace(message, text=""))


def test_numbered_ids() -> None:
    """They count the calls of the whole conversation, and outputs bear the same."""
    called = [
        ChatMessage("assistant", calls=tuple(ChatCall("f", "{}", f"{n}{m}") for m in range(2)))
        for n in range(2)
    ]
    results = [
        ChatMessage("tool", results=tuple(ChatResult("f", "r", f"{n}{m}") for m in (1, 0)))
        for n in range(2)
    ]
    assert (
        "functions.f:0{}functions.f:1{}|functions.f:1:r|functions.f:0:r"
        "|functions.f:2{}functions.f:3{}|functions.f:3:r|functions.f:2:r"
    ) == said(NUMBERED, called[0], results[0], called[1], results[1])
