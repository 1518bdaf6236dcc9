"""Bytes of a streamed chat completion, to chunks.

One chunk is one `data:` line. Fields are those that some server sends, each tolerated where it is
absent or null; unknown ones are not read. Sources: the API references of OpenAI, vLLM, llama.cpp
server, Ollama, LM Studio, TGI, DeepSeek, Mistral and OpenRouter.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from turnwire.errors import EngineError

__all__ = [
    "NO_ERROR",
    "Choice",
    "Chunk",
    "ChunkStream",
    "ContentPiece",
    "Delta",
    "EventLines",
    "FunctionDelta",
    "Score",
    "Scores",
    "Timings",
    "ToolCallDelta",
    "TopScore",
    "Usage",
    "decode_chunk",
]

MAX_LINE_BYTES: Final = 8 * 1024 * 1024
"""A whole call with a large file as argument comes in one line from some servers."""
MAX_WHOLE_BYTES: Final = 64 * 1024 * 1024
"""Of an answer that is not streamed."""
DONE: Final = b"[DONE]"
NO_ERROR: Final = Raw(b"null")


class FunctionDelta(Struct):
    """`tool_calls[].function`; some servers send the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallDelta(Struct):
    """One entry of `tool_calls`; `index` and `id` are each left out by some servers."""

    index: int | None = None
    id: str | None = None
    function: FunctionDelta | None = None


class ContentPiece(Struct):
    """One part of a content in parts (Mistral): text, or thinking in parts of its own."""

    type: str = "text"
    text: str = ""
    thinking: str | list[ContentPiece] = ""


class Delta(Struct):
    """`choices[].delta`, or `message` where a server does not stream."""

    content: str | list[ContentPiece] | None = None
    reasoning_content: str | None = None  # DeepSeek, vLLM, llama-server, SGLang
    reasoning: str | None = None  # Ollama, OpenRouter, LM Studio, newer vLLM
    refusal: str | None = None
    tool_calls: list[ToolCallDelta] | None = None


class TopScore(Struct):
    """How likely a token was; `bytes` is null from some servers."""

    token: str = ""
    logprob: float = 0.0
    bytes: tuple[int, ...] | None = None


class Score(TopScore):
    """The same of a token of the text, and what else was likely in its place."""

    top_logprobs: tuple[TopScore, ...] | None = None


class Scores(Struct):
    """`choices[].logprobs`."""

    content: tuple[Score, ...] | None = None


class Choice(Struct):
    """The one choice that is asked for."""

    index: int = 0
    delta: Delta | None = None
    message: Delta | None = None
    logprobs: Scores | None = None
    finish_reason: str | None = None


class _PromptDetails(Struct):
    cached_tokens: int | None = None


class _CompletionDetails(Struct):
    reasoning_tokens: int | None = None


class Usage(Struct):
    """Token counts."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: int | None = None  # DeepSeek

    @property
    def num_cached(self) -> int:
        """Prompt tokens that were not computed again."""
        details = self.prompt_tokens_details
        found = details.cached_tokens if details is not None else None
        return found or self.prompt_cache_hit_tokens or 0

    @property
    def num_reasoning(self) -> int:
        """Output tokens that were reasoning."""
        details = self.completion_tokens_details
        return (details.reasoning_tokens or 0) if details is not None else 0


class Timings(Struct):
    """llama-server's own counts, beside `usage`."""

    cache_n: int = 0


class Chunk(Struct):
    """One event of a stream, or a whole answer that was not streamed.

    Attributes:
        error: What went wrong, in any shape; null if nothing did.
    """

    choices: list[Choice] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: Raw = NO_ERROR


_CHUNK: Final = msgspec.json.Decoder(Chunk)


def decode_chunk(data: bytes) -> Chunk:
    """Decode one event.

    Raises:
        EngineError: it is no chunk.
    """
    try:
        return _CHUNK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise EngineError("it sent something that is no chat completion") from error


class EventLines:
    """Cuts an event stream into the values of its `data` lines; reads may end anywhere.

    An event that a server writes as `error: {...}` (llama-server once did) is a value as well.
    Comments, other fields and empty lines say nothing. Values are JSON on one line, so lines
    need not be joined; servers that forget the empty line between events are understood, too.
    """

    __slots__ = ("_pieces", "_size")

    def __init__(self) -> None:
        self._pieces: list[bytes] = []  # of a line that is not whole
        self._size = 0

    def feed(self, data: bytes) -> list[bytes]:
        """The values that `data` completes, in order.

        Raises:
            EngineError: a line is too long.
        """
        end = data.rfind(b"\n")
        if end < 0:
            self._hold(data)
            return []
        if self._pieces:
            self._pieces.append(data[:end])
            whole = b"".join(self._pieces)
            self._pieces.clear()
        else:
            whole = data[:end]
        self._size = 0
        if end + 1 < len(data):
            self._hold(data[end + 1 :])
        # White space around a value is JSON's to ignore.
        return [
            line[5:] if line.startswith(b"data:") else b'{"error":' + line[6:] + b"}"
            for line in whole.split(b"\n")
            if line.startswith((b"data:", b"error:"))
        ]

    def finish(self) -> list[bytes]:
        """The value of a last line without an end."""
        return self.feed(b"\n") if self._pieces else []

    def _hold(self, data: bytes) -> None:
        self._size += len(data)
        if self._size > MAX_LINE_BYTES:
            raise EngineError("it sent a line without an end")
        self._pieces.append(data)


class ChunkStream:
    """The body of an answer, in chunks: of an event stream, or of one JSON value.

    Attributes:
        done: The server said `[DONE]`; what follows is not read.
    """

    __slots__ = ("_lines", "_pieces", "_seen", "_size", "done")

    def __init__(self, *, streams: bool) -> None:
        """
        Args:
            streams: Whether it is an event stream.
        """
        self._lines = EventLines() if streams else None
        self._pieces: list[bytes] = []
        self._size = 0
        self._seen = False
        self.done = False

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that `data` completes, in order.

        Raises:
            EngineError: they are none, or too long.
        """
        if self._lines is not None:
            return self._decoded(self._lines.feed(data))
        self._size += len(data)
        if self._size > MAX_WHOLE_BYTES:
            raise EngineError("its answer is too long")
        self._pieces.append(data)
        return []

    def finish(self) -> list[Chunk]:
        """The chunks that the end of the body completes.

        Raises:
            EngineError: there was none at all, or the last is none.
        """
        values = self._lines.finish() if self._lines is not None else [b"".join(self._pieces)]
        chunks = self._decoded(values)
        if not self._seen:
            raise EngineError("it sent something that is no chat completion")
        return chunks

    def _decoded(self, values: list[bytes]) -> list[Chunk]:
        chunks: list[Chunk] = []
        for value in values:
            self._seen = True
            if value.strip() == DONE:
                self.done = True
                break
            chunks.append(decode_chunk(value))
        return chunks
