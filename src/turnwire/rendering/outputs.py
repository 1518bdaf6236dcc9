"""What a model answers with, found out by what its chat template writes.

A template that is given a conversation with calls shows how its model was trained to write them,
where thoughts stand, and which token ends an answer.
"""

from __future__ import annotations

import json
import re
from typing import Final

from msgspec import Raw

from turnwire.errors import ConfigError
from turnwire.protocol.tools import EMPTY_TOOL_SET, OfferedTool, ToolSet
from turnwire.rendering.formats import Format
from turnwire.rendering.generic import Rendering
from turnwire.rendering.hermes import hermes_format
from turnwire.rendering.jinja import TemplateRefused
from turnwire.rendering.llama3 import llama3_format
from turnwire.rendering.messages import ChatCall, ChatMessage, ChatResult, Head
from turnwire.rendering.mistral import mistral_format
from turnwire.rendering.pieces import Pieces
from turnwire.rendering.spelled import find_spelling, spelled_format
from turnwire.rendering.spelling import PROBE
from turnwire.rendering.tagged import Tags
from turnwire.rendering.tokenizer import Tokenizer

__all__ = ["PLAIN", "answer_ends", "find_format", "shows_calls"]

PLAIN: Final = "plain"
"""The format of models whose calls are not known here: thoughts and text."""

# Whatever a model's files say, these end an answer; engines know them by name too.
_END_NAMES: Final = (
    *("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>"),
    *("<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<end_of_turn>"),
    "<\uff5cend\u2581of\u2581sentence\uff5c>",  # DeepSeek's
)
_THINKING: Final = (
    ("<think>", "</think>"),
    ("[THINK]", "[/THINK]"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("<|channel>", "<channel|>"),  # Gemma's, which has a word behind it
)
_WORDS: Final = re.compile(r"</?tool_call>|\bname\b|\barguments\b")
_TOLD: Final = {"<tool_call>", "</tool_call>", "name", "arguments"}
"""What a template says to a model that is to call as Hermes does."""
_QUESTION: Final = ChatMessage("user", "q")
_ANSWER: Final = "zyxwv"
_TOOLS: Final = ToolSet(
    raw=b"probe", offered={"zyx": OfferedTool(name="zyx", description="D")}, echo=Raw(b"[]")
)  # templates may leave calls out where there are none
_CALL: Final = ChatMessage("assistant", calls=(ChatCall("zyx", '{"w": 1}', "call_1"),))


def find_format(tokenizer: Tokenizer, rendering: Rendering, stop: frozenset[int]) -> Format:
    """How outputs are read, by how the template writes them; `PLAIN` if its calls are not known.

    Args:
        tokenizer: The model's vocabulary.
        rendering: Its template.
        stop: Ids that end an output, as far as the model's files say.

    Raises:
        ConfigError: nothing says which token ends an answer.
    """
    special = tokenizer.special
    stop |= answer_ends(rendering) | {special[name] for name in _END_NAMES if name in special}
    if not stop:
        raise ConfigError(
            "neither the model's files nor its chat template say which token ends an answer"
        )
    begun = (_begun(tokenizer, rendering, None), _begun(tokenizer, rendering, "medium"))
    text = _text(tokenizer, _pieces(rendering, _QUESTION, _CALL))
    if '"name": "zyx"' in text and "<tool_call>" in text:
        return hermes_format(tokenizer, stop, begun)
    if "[TOOL_CALLS]" in special and "[TOOL_CALLS]" in text:
        return mistral_format(tokenizer, stop, begun, style=text)
    if '{"name": "zyx", "parameters": {' in text:
        return llama3_format(tokenizer, stop, begun)
    thinking = _thinking(tokenizer, rendering.chat.source)
    written = [_written(tokenizer, rendering, message) for message in PROBE]
    found = find_spelling(written)
    if found is None and written[-1] and not shows_calls(tokenizer, rendering):
        if set(_WORDS.findall(rendering.chat.source)) >= _TOLD:
            return hermes_format(tokenizer, stop, begun)
        found = find_spelling(_told(tokenizer))
    if found is not None:
        stop |= _first_token(tokenizer, found.behind)
        return spelled_format(tokenizer, found, stop, begun, thinking)
    return Format(name=PLAIN, tokenizer=tokenizer, tags=thinking, stop=stop, begun=begun)


def shows_calls(tokenizer: Tokenizer, rendering: Rendering) -> bool:
    """Whether the template shows the model what it called before."""
    call = PROBE[-1]
    return call.calls[0].name in _written(tokenizer, rendering, call)


def _told(tokenizer: Tokenizer) -> list[str]:
    """What a template would write for `PROBE` whose model has a token that opens a list of calls.

    Some templates leave calls out of what they show; their vocabularies say how they are written.
    """
    special = tokenizer.special
    if "<|tool_call|>" not in special:
        return ["" for _ in PROBE]
    end = "<|/tool_call|>" if "<|/tool_call|>" in special else ""
    listed = [
        [{"name": call.name, "arguments": call.decoded()} for call in message.calls]
        for message in PROBE
    ]
    return [f"<|tool_call|>{json.dumps(calls)}{end}" for calls in listed]


def _thinking(tokenizer: Tokenizer, source: str) -> Tags:
    """The tags around thoughts: those that the template knows, or that are tokens."""
    special = tokenizer.special
    known = [pair for pair in _THINKING if pair[1] in source]
    known += [pair for pair in _THINKING if pair[0] in special and pair[1] in special]
    if not known:
        return Tags()
    think, end_think = known[0]
    return Tags(
        think=special.get(think, think),
        end_think=special.get(end_think, end_think),
        thought="thought\n" if think == "<|channel>" else "",
    )


def _pieces(
    rendering: Rendering,
    *messages: ChatMessage,
    effort: str | None = None,
    tools: ToolSet = EMPTY_TOOL_SET,
) -> Pieces:
    opening = messages[-1].role == "user"
    head = Head(None, tools, effort)
    try:
        return rendering.render(head, messages, opening=opening, thinking=effort is not None)
    except TemplateRefused:
        return []


def answer_ends(rendering: Rendering) -> frozenset[int]:
    """The first token behind an answer."""
    pieces = _pieces(rendering, _QUESTION, ChatMessage("assistant", _ANSWER), _QUESTION)
    places = [n for n, piece in enumerate(pieces) if isinstance(piece, str) and _ANSWER in piece]
    for piece in pieces[places[0] + 1 :] if places else ():
        if isinstance(piece, int):
            return frozenset((piece,))
    return frozenset()


def _begun(tokenizer: Tokenizer, rendering: Rendering, effort: str | None) -> bool:
    """Whether the opening ends inside a thought."""
    pieces = _pieces(rendering, _QUESTION, effort=effort)
    return _text(tokenizer, pieces).rstrip().endswith(tuple(think for think, _ in _THINKING))


def _written(tokenizer: Tokenizer, rendering: Rendering, message: ChatMessage) -> str:
    """What the template makes of a message with calls, and of their outputs behind it."""
    results = tuple(ChatResult(call.name, "r", call.call_id) for call in message.calls)
    called = ChatMessage("tool", results=results)
    messages = (_QUESTION, message, called)
    pieces = _pieces(rendering, *messages, tools=_TOOLS) or _pieces(rendering, *messages)
    return _text(tokenizer, pieces)


def _first_token(tokenizer: Tokenizer, text: str) -> frozenset[int]:
    special = tokenizer.special
    names = sorted(special, key=len, reverse=True)
    found = re.search("|".join(map(re.escape, names)), text) if names else None
    return frozenset() if found is None else frozenset((special[found.group()],))


def _text(tokenizer: Tokenizer, pieces: Pieces) -> str:
    names = {token_id: name for name, token_id in tokenizer.special.items()}
    return "".join(names[piece] if isinstance(piece, int) else piece for piece in pieces)
