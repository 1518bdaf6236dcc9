"""What a person sees of one answer: events in, pieces of text out. No terminal, no socket."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from msgspec import Struct

from turnwire.model_config import Prices

__all__ = ["Answer", "Chat", "Piece", "Tone", "clean"]

Tone = Literal["said", "thought", "note", "fault"]
Json = dict[str, Any]

_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_TERMINAL: Final = ("response.completed", "response.incomplete", "response.failed")


class Piece(Struct, frozen=True):
    """Text to show as it is; it brings its own line breaks."""

    text: str
    tone: Tone


class Chat:
    """A conversation, as its client keeps it.

    Attributes:
        model: Who is asked.
        effort: How hard it is to think, or None for its own way.
        items: Everything so far, to be sent again should the server have forgotten.
        latest: The response to go on from, if the connection still knows it.
    """

    def __init__(self, model: str, effort: str | None = None) -> None:
        self.model = model
        self.effort = effort
        self.items: list[Json] = []
        self.latest: str | None = None

    def ask(self, text: str) -> Json:
        """The event that asks; `keep` what came of it."""
        question = {"type": "message", "role": "user", "content": text}
        new = [question] if self.latest is not None else [*self.items, question]
        event: Json = {
            "type": "response.create",
            "model": self.model,
            "input": new,
            "store": False,
        }
        if self.latest is not None:
            event["previous_response_id"] = self.latest
        if self.effort is not None:
            event["reasoning"] = {"effort": self.effort, "summary": "auto"}
        return event

    def keep(self, text: str, answer: Answer) -> None:
        """Remember a question and its answer, if it came to one."""
        if answer.response_id is None or answer.output is None:
            # A turn that failed is forgotten by the connection, and what it went on from too.
            self.latest = None
            return
        self.items.append({"type": "message", "role": "user", "content": text})
        self.items += answer.output
        self.latest = answer.response_id

    def reset(self) -> None:
        """Begin anew."""
        self.items = []
        self.latest = None

    def disconnected(self) -> None:
        """Another connection knows nothing: the next question brings everything."""
        self.latest = None


class Answer:
    """One answer, read while it arrives.

    Attributes:
        ended: Whether no more events come.
        response_id: Of a response that can be continued, else None.
        output: Its items, else None.
        unknown_parent: Whether the server forgot what was to be continued: ask again in full.
    """

    def __init__(self, asked_at: float, prices: Prices | None = None) -> None:
        """
        Args:
            asked_at: When the question was sent, in seconds of any clock.
            prices: Of the model, if they are known.
        """
        self.ended = False
        self.response_id: str | None = None
        self.output: Sequence[Json] | None = None
        self.unknown_parent = False
        self._asked_at = asked_at
        self._prices = prices
        self._first_at: float | None = None
        self._tone: Tone | None = None

    def feed(self, event: Mapping[str, Any], now: float) -> list[Piece]:
        """What an event shows.

        Args:
            event: As the server sent it.
            now: By the clock of `asked_at`.
        """
        kind = event.get("type", "")
        if kind in ("response.output_text.delta", "response.refusal.delta"):
            return self._say(event["delta"], "said", now)
        if kind in ("response.reasoning_text.delta", "response.reasoning_summary_text.delta"):
            return self._say(event["delta"], "thought", now)
        if kind == "response.reasoning_summary_part.added" and event.get("summary_index"):
            return self._say("\n\n", "thought", now)
        if kind == "response.output_item.done":
            return self._item(event["item"], now)
        if kind == "error":
            return self._fail(event["error"])
        if kind in _TERMINAL:
            return self._end(event["response"], now)
        return []

    def lost(self, reason: str) -> list[Piece]:
        """What is shown when the connection ended first."""
        self.ended = True
        return [Piece(f"{self._break()}{clean(reason)}\n", "fault")]

    def _say(self, text: str, tone: Tone, now: float) -> list[Piece]:
        if self._first_at is None:
            self._first_at = now
        before = "\n" if self._tone not in (None, tone) else ""
        self._tone = tone
        return [Piece(before + clean(text), tone)]

    def _item(self, item: Mapping[str, Any], now: float) -> list[Piece]:
        if item["type"] not in ("function_call", "custom_tool_call"):
            return []
        words = item.get("arguments", item.get("input", ""))
        return self._say(f"{item['name']}({words})", "note", now)

    def _fail(self, error: Mapping[str, Any]) -> list[Piece]:
        self.ended = True
        self.unknown_parent = error.get("code") == "previous_response_not_found"
        return self._fault(error)

    def _end(self, response: Mapping[str, Any], now: float) -> list[Piece]:
        self.ended = True
        status = response["status"]
        pieces: list[Piece] = []
        if status in ("completed", "incomplete"):
            self.response_id = response["id"]
            self.output = response["output"]
        if status == "incomplete":
            reason = (response.get("incomplete_details") or {}).get("reason", "unknown")
            pieces.append(Piece(f"{self._break()}cut off: {reason}\n", "note"))
        elif status == "cancelled":
            pieces.append(Piece(f"{self._break()}cancelled\n", "note"))
        elif status != "completed":
            pieces += self._fault(response.get("error") or {"message": status})
        elif line_open := self._break():
            pieces.append(Piece(line_open, "said"))
        if response.get("usage"):
            pieces.append(Piece(f"{self._usage(response['usage'], now)}\n", "note"))
        return pieces

    def _fault(self, error: Mapping[str, Any]) -> list[Piece]:
        pieces = [Piece(f"{self._break()}{clean(error['message'])}\n", "fault")]
        if error.get("code") == "context_length_exceeded":
            pieces.append(Piece("/reset begins a new conversation\n", "note"))
        return pieces

    def _break(self) -> str:
        """The end of a line that is not at its end."""
        broken, self._tone = self._tone is not None, None
        return "\n" if broken else ""

    def _usage(self, usage: Mapping[str, Any], now: float) -> str:
        num_input, num_output = usage["input_tokens"], usage["output_tokens"]
        num_cached = usage["input_tokens_details"]["cached_tokens"]
        parts = [f"{num_input:,} tokens in ({num_cached:,} cached), {num_output:,} out"]
        if self._first_at is not None:
            parts.append(f"first after {1000 * (self._first_at - self._asked_at):.0f} ms")
            sec = now - self._first_at
            if num_output > 1 and sec > 0:
                parts.append(f"{num_output / sec:,.0f} a second")
        if self._prices is not None:
            parts.append(f"cost {self._prices.cost(num_input, num_cached, num_output):.6f}")
        return "; ".join(parts)


def clean(text: str) -> str:
    """Text that a terminal only shows: what would move its cursor or change it is left out."""
    return _CONTROL.sub("", text)
