"""Bytes of a streamed chat completion, to chunks.

One chunk is one `data:` line, nearly always. Fields are those that some server sends, each
tolerated where it is absent or null; unknown ones are not read. Sources: the API references of
OpenAI, vLLM, llama.cpp server, Ollama, LM Studio, TGI, DeepSeek, Mistral and OpenRouter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct, field

from turnwire.errors import EngineError

__all__ = [
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
ABSENT: Final = Raw(b"")
_NOTHING: Final = frozenset((b"", b"null", b"false", b'""', b"{}"))
"""What some servers send as the error of a chunk that has none."""
_NO_CHUNK: Final = "it sent something that is no chat completion"
_BEFORE_ANYTHING: Final = b" \t\r\n\xef\xbb\xbf"  # white space, and a byte order mark
_MOST_TOKENS: Final = 2**53
# Half of a surrogate pair: from servers that cut text in the middle of one.
_LONE_HALF: Final = re.compile(
    rb"\\u[dD](?:[89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|[c-fC-F][0-9a-fA-F]{2})"
)


class FunctionDelta(Struct):
    """`tool_calls[].function`; some servers send the arguments as an object."""

    name: str | None = None
    arguments: str | dict[str, Any] | None = None


class ToolCallDelta(Struct):
    """One entry of `tool_calls`; `index` and `id` are each left out by some servers."""

    index: int | None = None
    id: str | int | None = None
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
    tool_calls: list[ToolCallDelta] | ToolCallDelta | None = None  # not in a list: TGI 2


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
    error: Raw = ABSENT


_Count = int | float | None


class _PromptDetails(Struct):
    cached_tokens: _Count = None


class _CompletionDetails(Struct):
    reasoning_tokens: _Count = None


class Usage(Struct):
    """Token counts, as the server gives them."""

    prompt_tokens: _Count = None
    completion_tokens: _Count = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None
    prompt_cache_hit_tokens: _Count = None  # DeepSeek

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt; 0 if the server does not count them."""
        return _counted(self.prompt_tokens)

    @property
    def num_output(self) -> int | None:
        """Tokens of the output, or None if the server does not count them."""
        return None if self.completion_tokens is None else _counted(self.completion_tokens)

    @property
    def num_cached(self) -> int:
        """Prompt tokens that were not computed again."""
        details = self.prompt_tokens_details
        found = details.cached_tokens if details is not None else None
        return _counted(found) or _counted(self.prompt_cache_hit_tokens)

    @property
    def num_reasoning(self) -> int:
        """Output tokens that were reasoning."""
        details = self.completion_tokens_details
        return _counted(details.reasoning_tokens) if details is not None else 0


def _counted(count: _Count) -> int:
    return 0 if count is None else min(max(int(count), 0), _MOST_TOKENS)


class Timings(Struct):
    """llama-server's own counts, beside `usage`."""

    cache_n: int = 0


class Chunk(Struct):
    """One event of a stream, or a whole answer that was not streamed.

    Attributes:
        error: What went wrong, in any shape.
        object: What it is; older vLLM sends `error` without an `error` in it.
        said: What FastAPI says of an error.
    """

    choices: list[Choice] | None = None
    usage: Usage | None = None
    timings: Timings | None = None
    error: Raw = ABSENT
    object: str | None = None
    said: Raw = field(default=ABSENT, name="detail")

    @property
    def failure(self) -> bytes | None:
        """What went wrong as JSON, or None if nothing did."""
        if self.error is not ABSENT and bytes(self.error) not in _NOTHING:
            return bytes(self.error)
        for choice in self.choices or ():
            if choice.error is not ABSENT and bytes(choice.error) not in _NOTHING:
                return bytes(choice.error)
        return None


_CHUNK: Final = msgspec.json.Decoder(Chunk)


def decode_chunk(data: bytes) -> Chunk:
    """Decode one event. Characters that are none become U+FFFD, as everywhere.

    Raises:
        EngineError: it is no chunk.
    """
    try:
        chunk = _CHUNK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        mended = _LONE_HALF.sub(rb"\\ufffd", data.decode("utf-8", "replace").encode())
        if mended == data:
            raise EngineError(_NO_CHUNK) from error
        try:
            chunk = _CHUNK.decode(mended)
        except (msgspec.DecodeError, RecursionError):
            raise EngineError(_NO_CHUNK) from error
    if chunk.choices is None and (chunk.object == "error" or chunk.said is not ABSENT):
        chunk.error = Raw(data)
    return chunk


class EventLines:
    """Cuts an event stream into the values of its `data` lines; reads may end anywhere.

    An event that a server writes as `error: {...}` (llama-server once did) is a value as well;
    an empty value is the end of an event. Comments and other fields say nothing. Servers that
    forget the empty line between events are understood, too.
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
            b'{"error":' + line[6:] + b"}" if line.startswith(b"error:") else line[5:].strip()
            for line in whole.split(b"\n")
            if line.startswith((b"data:", b"error:")) or line in (b"", b"\r")
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

    Its first byte says which; content types are wrong now and then.

    Attributes:
        done: The server said `[DONE]`; what follows is not read.
    """

    __slots__ = ("_lines", "_parts", "_seen", "_size", "_whole", "done")

    def __init__(self) -> None:
        self._lines: EventLines | None = None
        self._whole: list[bytes] | None = None  # of one JSON value
        self._parts: list[bytes] = []  # lines of an event that has several
        self._size = 0  # of either
        self._seen = False
        self.done = False

    def feed(self, data: bytes) -> list[Chunk]:
        """The chunks that `data` completes, in order.

        Raises:
            EngineError: they are none, or too long.
        """
        if self._lines is not None:
            return self._decoded(self._lines.feed(data))
        if self._whole is None:
            data = data.lstrip(_BEFORE_ANYTHING)
            if not data:
                return []
            if data.startswith(b"<"):
                raise EngineError("it sent a web page and no chat completion; is its URL right?")
            if not data.startswith(b"{"):
                self._lines = EventLines()
                return self._decoded(self._lines.feed(data))
            self._whole = []
        self._grow(data, MAX_WHOLE_BYTES)
        self._whole.append(data)
        return []

    def finish(self) -> list[Chunk]:
        """The chunks that the end of the body completes.

        Raises:
            EngineError: there was none at all, or the last is none.
        """
        if self._whole is not None:
            values = [b"".join(self._whole)]
        else:
            values = self._lines.finish() if self._lines is not None else []
        chunks = self._decoded([*values, b""])
        if not self._seen:
            raise EngineError(_NO_CHUNK)
        return chunks

    def _decoded(self, values: Sequence[bytes]) -> list[Chunk]:
        chunks: list[Chunk] = []
        for value in values:
            if self._parts and value:
                self._grow(value, MAX_LINE_BYTES)
                self._parts.append(value)
            elif self._parts:
                chunks.append(decode_chunk(b"\n".join(self._parts)))
                self._parts.clear()
            elif value == DONE:
                self._seen = self.done = True
                break
            elif value:
                self._seen = True
                try:
                    chunks.append(decode_chunk(value))
                except EngineError:
                    # The data of an event may go on in further lines, up to an empty one.
                    self._size = len(value)
                    self._parts.append(value)
        return chunks

    def _grow(self, data: bytes, limit: int) -> None:
        self._size += len(data)
        if self._size > limit:
            raise EngineError("its answer is too long")
