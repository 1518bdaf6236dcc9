"""What is said between Turnwire and a llama-server: its `/completion`, in token ids.

Pure: bytes in, structs out. Facts of the other side, each found by trying it (b11549):

* Events are `data: {...}` lines, one token each; there is no `[DONE]`, comments are pings.
* An event that reports progress has a token too, `0`, which was not sampled.
* The token that ends an output is told like any other; the last event then has `stop_type`.
* A token that ends inside of a character is not told; see `turnwire.engines.withheld`.
* `response_fields` keeps the whole prompt, as text, out of the last event.
* `cache_n` is what was not computed again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Struct

__all__ = [
    "Failure",
    "Frame",
    "Frames",
    "Likely",
    "Probability",
    "Progress",
    "Props",
    "Timings",
    "body",
    "failure_text",
    "probe_body",
]

_MAX_FRAME_BYTES: Final = 8 << 20
_MAX_REASON_CHARS: Final = 300

_FIELDS: Final = (
    "tokens",
    "tokens_predicted",
    "stop",
    "stop_type",
    "timings",
    "model",
)
_GRAMMAR: Final = "generation_settings/grammar"


class Progress(Struct):
    """How far the prompt is; in tokens."""

    cache: int = 0


class Timings(Struct):
    """Counts of one generation: prompt tokens found, prompt tokens computed, tokens sampled."""

    cache_n: int = 0
    prompt_n: int = 0
    predicted_n: int = 0


class Failure(Struct):
    """What went wrong, in the server's words."""

    message: str = ""
    type: str = ""


class Likely(Struct):
    """A token and the logarithm of its probability, before temperature and grammar."""

    id: int
    logprob: float


class Probability(Likely):
    """The same of the token that was sampled, and the likeliest in its place."""

    top_logprobs: list[Likely] = []


class Frame(Struct):
    """One event.

    Attributes:
        tokens: The id sampled, where it is not a report of progress.
        content: Text since the last event.
        tokens_predicted: Ids sampled so far.
        stop: The last event.
        stop_type: `eos`, `limit` or `word`, in the last event.
        model: What was asked, in the last event.
        completion_probabilities: Of the id sampled, if they were asked for.
        grammar: What the server obeys, in the last event of a probe.
    """

    tokens: list[int] = []
    content: str = ""
    tokens_predicted: int = 0
    stop: bool = False
    stop_type: str = ""
    prompt_progress: Progress | None = None
    timings: Timings | None = None
    model: str = ""
    completion_probabilities: list[Probability] = []
    error: Failure | None = None
    grammar: str = msgspec.field(default="", name=_GRAMMAR)


class _Settings(Struct):
    n_ctx: int = 0


class Props(Struct):
    """What `/props` says, as far as it is read.

    Attributes:
        default_generation_settings: With `n_ctx`, the window of one slot.
        total_slots: Generations at the same time.
    """

    total_slots: int
    default_generation_settings: _Settings


class _Refusal(Struct):
    error: Failure


_FRAME: Final = msgspec.json.Decoder(Frame)
_REFUSAL: Final = msgspec.json.Decoder(_Refusal)
_ENCODER: Final = msgspec.json.Encoder()


class Frames:
    """Cuts what is received into events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """Take what has come; return the events that are whole now.

        What cannot be read is an event with an error, and the last one that counts.
        """
        *lines, self._rest = (self._rest + data if self._rest else data).split(b"\n")
        # Between the events are empty lines and comments.
        found = [_frame(line) for line in lines if line.startswith((b"data:", b"error:"))]
        if len(self._rest) > _MAX_FRAME_BYTES:
            self._rest = b""
            found.append(_unreadable("an event is too large"))
        return found


def _frame(line: bytes) -> Frame:
    name, _, text = line.partition(b":")
    try:
        if name == b"data":
            return _FRAME.decode(text)
        return Frame(error=msgspec.json.decode(text, type=Failure))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        return _unreadable(str(error))


def _unreadable(reason: str) -> Frame:
    return Frame(error=Failure(message=f"what it says cannot be read: {reason}"))


def body(
    prompt: Iterable[bytes], settings: Mapping[str, object], constraint: bytes = b""
) -> Sequence[bytes]:
    """The request's body, in pieces.

    Args:
        prompt: Ids as JSON, without brackets, in pieces.
        settings: Of slot, cache and sampling.
        constraint: More members of the object, as JSON without braces.
    """
    fixed = _ENCODER.encode({**_FIXED, **settings})
    end = b"," + constraint + b"}" if constraint else b"}"
    return (b'{"prompt":[', *prompt, b"],", fixed[1:-1], end)


_FIXED: Final = {
    "stream": True,
    "return_tokens": True,
    "return_progress": True,
    "response_fields": _FIELDS,
    # Nothing that the request did not ask for: the server's defaults cut the distribution.
    "samplers": ("temperature", "top_p"),
}


def probe_body(asked: Mapping[str, object]) -> Sequence[bytes]:
    """A request for one token, whose last event says what grammar was obeyed."""
    fixed = {**_FIXED, "prompt": (0,), "n_predict": 1, "temperature": 0.0, "cache_prompt": False}
    return (_ENCODER.encode({**fixed, "response_fields": ("stop", "model", _GRAMMAR), **asked}),)


def failure_text(status: int, data: bytes) -> str:
    """An HTTP error in one line, in the server's own words if it has any."""
    try:
        reason = " ".join(_REFUSAL.decode(data).error.message.split())
    except msgspec.DecodeError:
        reason = ""
    return f"HTTP {status}: {reason[:_MAX_REASON_CHARS]}" if reason else f"HTTP {status}"
