"""What a chat template does, found out when a model is loaded.

Three questions, each answered by rendering small conversations:

* How does it want to be spoken to (`find_quirks`)? Some templates take no system message behind
  the first, insist on turns that alternate, or want arguments as text.
* Does it only ever append (`rewrites`)? For users, outputs of tools and answers, with and
  without tools and reasoning: is the prompt of a turn a prefix of the next one's?
* Does a renderer of ours give exactly its ids (`differences`)?
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Raw, Struct, structs

from turnwire.errors import ConfigError, InvalidRequest
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolSet
from turnwire.rendering.family import FamilyTemplate
from turnwire.rendering.generic import Quirks, Rendering
from turnwire.rendering.jinja import ChatTemplate, TemplateRefused
from turnwire.rendering.messages import ChatCall, ChatMessage, ChatResult, Head
from turnwire.rendering.pieces import Pieces

__all__ = ["CONVERSATIONS", "Conversation", "differences", "find_quirks", "rewrites"]


class Conversation(Struct, frozen=True, eq=False):
    """A conversation to try a template with.

    Attributes:
        name: What is special about it.
        head: In front.
        messages: Ends with a message that the model answers.
    """

    name: str
    head: Head
    messages: tuple[ChatMessage, ...]


_READ: Final = OfferedTool(
    name="read_file",
    description="Reads a file.",
    parameters=b'{"type": "object", "properties": {"path": {"type": "string"}}, '
    b'"required": ["path"]}',
)
_TOOLS: Final = ToolSet(raw=b"probe", offered={"read_file": _READ}, echo=Raw(b"[]"))


def _user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


def _said(text: str, reasoning: str = "") -> ChatMessage:
    return ChatMessage("assistant", text, reasoning)


def _called(*paths: str, text: str = "", reasoning: str = "") -> ChatMessage:
    calls = tuple(
        ChatCall("read_file", f'{{"path": "{path}", "line": [1, 2.5]}}', f"call_{path}")
        for path in paths
    )
    return ChatMessage("assistant", text, reasoning, calls)


def _returned(*paths: str) -> ChatMessage:
    results = tuple(
        ChatResult("read_file", f"{path} holds: <b>Grüße</b>\n", f"call_{path}") for path in paths
    )
    return ChatMessage("tool", results=results)


_CHAT: Final = (
    *(_user("Hello."), _said("Hi there.\n\nGo on."), _user(" Why?\n"), _said("So."), _user("Ah.")),
)
_LOOP: Final = (
    *(_user("Look at a."), _called("a"), _returned("a"), _called("b"), _returned("b")),
    *(_said("Both are there."), _user("And c?"), _called("c"), _returned("c")),
)
_THINKING: Final = (
    *(_user("Look at a."), _called("a", reasoning="First a."), _returned("a")),
    *(_called("b", reasoning="Now b.\n\nYes."), _returned("b")),
    *(
        _said("Both are there.", "Done, I think."),
        _user("Thanks."),
        _said("Bye.", "A farewell."),
        _user("One more."),
    ),
)


def _conversations() -> Iterator[Conversation]:
    for told, instructions in (("", None), (" with instructions", "Be brief.")):
        plain, tools = Head(instructions, EMPTY_TOOL_SET), Head(instructions, _TOOLS)
        thinking = structs.replace(tools, effort="medium")
        yield Conversation(f"a chat{told}", plain, _CHAT)
        yield Conversation(f"a chat{told} and tools", tools, _CHAT)
        yield Conversation(f"calls{told}", tools, _LOOP)
        yield Conversation(f"reasoning{told}", thinking, _THINKING)
    tools = Head("Be brief.", _TOOLS)
    yield Conversation(
        "text beside a call", tools, (_user("Go."), _called("a", text="Wait."), _returned("a"))
    )
    yield Conversation(
        "parallel calls", tools, (_user("Go."), _called("a", "b"), _returned("a", "b"))
    )
    yield _LATE


_STRANGE: Final = (
    _user("Go."),
    ChatMessage("assistant", calls=(ChatCall("zyx_1", '{"path": "wvu_2"}', "call_1"),)),
    ChatMessage("tool", results=(ChatResult("zyx_1", "tsr_3", "call_1"),)),
)
"""A call whose words are nowhere else."""
_LATE: Final = Conversation(
    "a late system message",
    Head("Be brief.", EMPTY_TOOL_SET),
    (_user("Go."), _said("Where?"), ChatMessage("developer", "Be kind."), _user("Here.")),
)
CONVERSATIONS: Final = tuple(_conversations())
"""What every template is tried with."""


def _prompts(conversation: Conversation) -> Iterator[tuple[ChatMessage, ...]]:
    """The messages of each prompt, shortest first: all that the model answers."""
    messages = conversation.messages
    for end in range(1, len(messages) + 1):
        if end == len(messages) or messages[end].role == "assistant":
            yield messages[:end]


def _render(rendering: Rendering, head: Head, messages: tuple[ChatMessage, ...]) -> Pieces:
    thinking = head.effort is not None
    return rendering.render(head, messages, opening=True, thinking=thinking)


def find_quirks(chat: ChatTemplate, bos: int | None = None) -> Rendering:
    """The template with the first way to speak to it that it takes.

    Args:
        chat: The template.
        bos: A token that every prompt begins with, whether the template says so or not.

    Raises:
        ConfigError: it takes no conversation at all.
    """
    hello = (_user("Hello."),)
    nobody, told = Head(None, EMPTY_TOOL_SET), Head("Be brief.", EMPTY_TOOL_SET)
    found = Rendering(chat, Quirks(), bos)
    found = _first_taken(found, nobody, hello, {"no_tools": "none"}, {"no_tools": "empty"})
    reason = _refusal(found, nobody, hello)
    if reason:
        raise ConfigError(f"the chat template takes no conversation: {reason}")
    alternate: dict[str, object] = {"alternate": True}
    found = _first_taken(found, told, hello, {}, {"system": False}, {"system": False, **alternate})
    found = _first_taken(found, told, (*hello, *hello), {}, alternate)
    late: dict[str, object] = {"late_system": "user"}
    found = _first_taken(found, told, _LATE.messages, {}, alternate, late, late | alternate)
    calls = Head(None, _TOOLS)
    found = _first_taken(found, calls, _LOOP[:3], {}, {"arguments": "text"})
    return _first_taken(found, calls, _STRANGE, *_ways_to_show_calls())


def _ways_to_show_calls() -> Iterator[dict[str, object]]:
    """What a template may want, so that calls are in its prompts; the usual first."""
    for ids in ("short", "numbered"):
        for beside_calls in (True, False):
            for arguments in ("object", "text"):
                yield {"ids": ids, "beside_calls": beside_calls, "arguments": arguments}


def _first_taken(
    rendering: Rendering,
    head: Head,
    messages: tuple[ChatMessage, ...],
    *changes: Mapping[str, object],
) -> Rendering:
    """The template under the first change that it takes the conversation with, or as it was."""
    for change in changes:
        quirks = structs.replace(rendering.quirks, **change)
        other = Rendering(rendering.chat, quirks, rendering.bos)
        if not _refusal(other, head, messages) and _shows(other, head, messages):
            return other
    return rendering


def _refusal(rendering: Rendering, head: Head, messages: tuple[ChatMessage, ...]) -> str:
    try:
        _render(rendering, head, messages)
    except TemplateRefused as error:
        return str(error) or "it gives no reason"
    return ""


def _shows(rendering: Rendering, head: Head, messages: tuple[ChatMessage, ...]) -> bool:
    """Whether every text of a user or system message is in the prompt, and every strange call."""
    pieces = _render(rendering, head, messages)
    text = "\n".join(piece for piece in pieces if isinstance(piece, str))
    wanted = [head.instructions or ""]
    wanted += [message.text for message in messages if message.role != "assistant"]
    if messages is _STRANGE:
        wanted += ("zyx_1", "wvu_2")
    return all(one.strip() in text for one in wanted)


def rewrites(rendering: Rendering) -> list[str]:
    """In which conversations the template takes back what it wrote, and by what message."""
    found: list[str] = []
    for conversation in CONVERSATIONS:
        before: Pieces | None = None
        for messages in _prompts(conversation):
            try:
                pieces = _render(rendering, conversation.head, messages)
            except TemplateRefused:
                break
            if before is not None and not _begins(pieces, before):
                who = {"tool": "the output of a tool", "user": "a user's message"}
                by = who.get(messages[-1].role, "a system message")
                found.append(f"{conversation.name}: {by} changes what stood before it")
                break
            before = pieces
    return found


def _begins(pieces: Pieces, before: Pieces) -> bool:
    """Whether a prompt goes on from another; its last text may have grown."""
    if not before or pieces[: len(before)] == before:
        return True
    whole, last = before[:-1], before[-1]
    following = pieces[len(whole)] if len(pieces) > len(whole) else None
    return (
        pieces[: len(whole)] == whole
        and isinstance(last, str)
        and isinstance(following, str)
        and following.startswith(last)
    )


def differences(template: FamilyTemplate, rendering: Rendering) -> list[str]:
    """In which conversations a renderer of ours gives other ids than the model's template.

    Where the template insists on alternating roles, messages that do not alternate are no part of
    the comparison: it takes none as they are, and a renderer of ours writes one behind the other.
    """
    found: list[str] = []
    for conversation in CONVERSATIONS:
        if rendering.quirks.alternate and conversation is _LATE:
            continue
        for messages in _prompts(conversation):
            try:
                wanted = _render(rendering, conversation.head, messages)
            except TemplateRefused:
                break
            try:
                ids = template.prompt(conversation.head, messages)
            except InvalidRequest as error:
                found.append(f"{conversation.name}: {error.message}")
                break
            if template.encoded(wanted) != ids:
                found.append(f"{conversation.name}: {_difference(template, wanted, list(ids))}")
                break
    return found


def _difference(template: FamilyTemplate, wanted: Pieces, ids: list[int]) -> str:
    theirs = list(template.encoded(wanted))
    at = next(
        (n for n, (a, b) in enumerate(zip(theirs, ids, strict=False)) if a != b),
        min(len(theirs), len(ids)),
    )
    decode = template.tokenizer.decode
    begin = max(at - 3, 0)
    return f"{decode(ids[begin : at + 8])!r} for {decode(theirs[begin : at + 8])!r}"
