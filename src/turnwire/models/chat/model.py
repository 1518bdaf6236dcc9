"""A model behind a chat-completions endpoint.

Theory of operation. The endpoint has no memory, so every request carries the whole conversation;
what we can save is the work of making it. Each link of the context keeps a `ChatView`: the
messages up to it as bytes, written when they were new. A turn writes its new items, joins the
bytes, and sends them: O(new) but for the copying of memory. Equal conversations give equal bytes,
so that the endpoint's own prefix cache finds them.

Token counts. The endpoint counts, and its `usage` is what a response reports. Before it answers,
and where it does not count, lengths are estimated at four bytes of JSON a token.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from hashlib import blake2b
from typing import Any, Final, Literal

import msgspec
from msgspec import Raw, Struct, structs
from msgspec.json import encode

from turnwire.context.chain import Context
from turnwire.context.pairing import require_outputs
from turnwire.context.window import links, seen
from turnwire.engines.slots import Slots
from turnwire.errors import EngineUnavailable, InvalidJson, InvalidRequest, Overloaded
from turnwire.models.base import RenderMode, RenderReport, Settings
from turnwire.models.chat.chunks import NO_ERROR, Chunk, ChunkStream
from turnwire.models.chat.client import ChatClient
from turnwire.models.chat.faults import in_stream
from turnwire.models.chat.options import ChatOptions, MessageRules
from turnwire.models.chat.reader import PartReader
from turnwire.models.chat.toolbox import NO_TOOLS, Toolbox, Toolboxes
from turnwire.models.chat.transcript import EMPTY_TRANSCRIPT, Transcript
from turnwire.models.takes import Takes
from turnwire.parts import Finished, Part
from turnwire.protocol.items import Item
from turnwire.protocol.requests import JsonObjectFormat, JsonSchemaFormat
from turnwire.protocol.tools import ToolSet

__all__ = ["ChatModel", "ChatView", "PreparedChat"]

FULL: Final[RenderMode] = "full"
BYTES_PER_TOKEN: Final = 4
"""Of JSON with English text or code in it, about."""


class ChatView(Struct, frozen=True, eq=False):
    """What a chat model keeps on a context link.

    Attributes:
        rules: How the messages were written.
        transcript: All messages up to here.
        instructions: Of the request that wrote them, for the report.
        tools: The same.
    """

    rules: MessageRules
    transcript: Transcript
    instructions: str | None
    tools: ToolSet


class ChatModel:
    """Joins messages and an endpoint into a Model.

    Attributes:
        name: As clients ask for it.
        options: Where it is and what it understands.
        takes: As the rules say.
    """

    def __init__(self, name: str, options: ChatOptions) -> None:
        """Connects when it is first asked.

        Args:
            name: As clients ask for it.
            options: Where it is and what it understands.

        Raises:
            ConfigError: the URL, the key or a header cannot be used.
        """
        self.name: Final = name
        self.options: Final = options
        rules = options.rules
        self.takes: Final = Takes(images=rules.takes_images, files=rules.takes_files)
        self._client: Final = ChatClient(name, options)
        self._slots: Final = Slots(options.max_concurrent, options.max_waiting)
        self._toolboxes: Final = Toolboxes(sends_strict=options.sends_strict)
        self._head: Final = b'{"model":' + encode(options.model) + b',"messages":'

    def prepare(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> PreparedChat:
        """Write a turn's request; see `Model.prepare`."""
        try:
            self._slots.check()
        except EngineUnavailable as error:
            raise Overloaded(
                f"The model {self.name!r} cannot take another request now: {error}.",
                retry_after_sec=1,
            ) from error
        return self._prepared(parent, items, settings)

    def count(self, parent: Context | None, items: Sequence[Item], settings: Settings) -> int:
        """Estimate a turn's length; see `Model.count`."""
        return self._prepared(parent, items, settings).num_prompt_tokens

    @property
    def window(self) -> int | None:
        """Most tokens of prompt and output together, or None if that is not known."""
        return self.options.window

    @property
    def num_slots(self) -> int:
        """Requests that may run at the same time."""
        return self.options.max_concurrent

    @property
    def num_running(self) -> int:
        """Requests that run."""
        return self._slots.num_running

    @property
    def num_waiting(self) -> int:
        """Requests that wait to be sent."""
        return self._slots.num_waiting

    async def aclose(self) -> None:
        """Close every connection; what runs fails, what comes is refused."""
        self._slots.close()
        await self._client.aclose()

    def _prepared(
        self, parent: Context | None, items: Sequence[Item], settings: Settings
    ) -> PreparedChat:
        context = Context(parent, items)
        if not settings.warm_up:
            require_outputs(context.open_calls)
        try:
            box = self._toolboxes.of(settings.all_tools, settings.tool_choice)
            schema = _strict_schema(settings) if self.options.checks else None
        except RecursionError:
            raise InvalidJson("The JSON is nested too deeply.") from None
        if settings.tool_choice.mode == "required" and not box.tools:
            raise InvalidRequest(
                "A tool call is required, but no tool is offered.", param="tool_choice"
            )
        if parent is not None and context.start is context:
            before, mode, reason = EMPTY_TRANSCRIPT, FULL, "compacted"
        else:
            before, mode, reason = self._before(parent, settings)
        rules = self.options.rules
        found = seen(context)
        transcript = before.extend(found.items, found.answers, rules)
        view = ChatView(rules, transcript, settings.instructions, settings.tools)
        context.view = view
        report = RenderReport(mode=mode, reason=reason, num_tokenised=0)
        return PreparedChat(self, context, view, box, schema, settings, report)

    def _before(
        self, parent: Context | None, settings: Settings
    ) -> tuple[Transcript, RenderMode, str]:
        """The messages of the conversation so far, written if they were not."""
        if parent is None:
            return EMPTY_TRANSCRIPT, "full", "first"
        rules = self.options.rules
        known = parent.view
        if isinstance(known, ChatView) and known.rules == rules:
            same = (
                known.tools is settings.tools or known.tools.raw == settings.tools.raw
            ) and known.instructions == settings.instructions
            return known.transcript, "append" if same else "prefix", "" if same else "preamble"
        transcript = EMPTY_TRANSCRIPT
        for link in links(parent):
            view = link.view
            if isinstance(view, ChatView) and view.rules == rules:
                transcript = view.transcript
            else:
                found = seen(link)
                transcript = transcript.extend(found.items, found.answers, rules)
        parent.view = ChatView(rules, transcript, settings.instructions, settings.tools)
        return transcript, "full", "model" if known is not None else "restored"


class PreparedChat:
    """One turn of a ChatModel, written and ready; see `Prepared`."""

    def __init__(
        self,
        model: ChatModel,
        context: Context,
        view: ChatView,
        box: Toolbox,
        schema: Any,
        settings: Settings,
        report: RenderReport,
    ) -> None:
        self.report: Final = report
        self.context: Final = context
        self._model = model
        self._view = view
        self._box = box
        self._schema = schema
        self._settings = settings
        self._reader: PartReader | None = None

    def body(self, *, max_tokens: int | None = None) -> list[bytes]:
        """The request's body, in pieces.

        Args:
            max_tokens: Instead of the turn's own limit.
        """
        settings, options = self._settings, self._model.options
        limit = max_tokens or settings.max_output_tokens or options.max_output_tokens
        fields = _fields(settings, options, self._box, limit)
        messages = self._view.transcript.messages(settings.instructions, options.rules)
        return [self._model._head, *messages, b"," + encode(fields)[1:]]

    @property
    def num_prompt_tokens(self) -> int:
        """Prompt size, estimated."""
        size = self._view.transcript.num_bytes(self._settings.instructions)
        return _estimate(size + len(self._box.encoded))

    def respond(self) -> AsyncGenerator[Part, None]:
        """Yield the parts of one response, `Finished` last; see `Prepared.respond`."""
        settings, options = self._settings, self._model.options
        self._reader = PartReader(
            self._box,
            parallel=settings.parallel_tool_calls,
            was_called=self.context.was_called,
            scores=settings.top_logprobs is not None,
            format_schema=self._schema,
            checks=options.checks,
        )
        return self._ask(self._reader, self.body())

    async def _ask(self, reader: PartReader, body: Sequence[bytes]) -> AsyncGenerator[Part, None]:
        model = self._model
        await model._slots.acquire()
        try:
            answer = await model._client.ask(body)
            whole = False
            try:
                stream = ChunkStream(streams=answer.streams)
                while not stream.done and (data := await answer.read()):
                    for part in self._read(reader, stream.feed(data)):
                        yield part
                if not stream.done:
                    for part in self._read(reader, stream.finish()):
                        yield part
                for part in reader.finish(said=stream.done):
                    yield part
                whole = True
            finally:
                answer.close(whole=whole)
        finally:
            model._slots.release()
        yield self._finished(reader.ending or "stop")

    def interrupted(self) -> Finished:
        """What was used so far; see `Prepared.interrupted`."""
        return self._finished("steered")

    async def warm(self) -> int:
        """Have the endpoint read the prompt, if it was asked to; see `Prepared.warm`."""
        if not self._model.options.warms or not self._view.transcript.begun:
            return 0
        reader = PartReader(NO_TOOLS)
        async with aclosing(self._ask(reader, self.body(max_tokens=1))) as parts:
            async for _ in parts:
                pass
        return reader.num_cached

    def settle(self, output: Sequence[Item]) -> Context:
        """Return the context after the response; see `Prepared.settle`."""
        if not output:
            return self.context
        context = Context(self.context, output)
        view = self._view
        transcript = view.transcript.extend(context.items, context.answers, view.rules)
        context.view = structs.replace(view, transcript=transcript)
        return context

    def _read(self, reader: PartReader, chunks: Sequence[Chunk]) -> list[Part]:
        for chunk in chunks:
            if chunk.error is not NO_ERROR and (error := bytes(chunk.error)) != b"null":
                model = self._model
                raise in_stream(model.name, error, secret=model.options.api_key)
            reader.feed(chunk)
        return reader.take()

    def _finished(
        self, reason: Literal["stop", "max_output_tokens", "content_filter", "steered"]
    ) -> Finished:
        reader = self._reader
        if reader is None:
            return Finished(
                reason=reason,
                num_prompt_tokens=self.num_prompt_tokens,
                num_cached_tokens=0,
                num_output_tokens=0,
                num_reasoning_tokens=0,
            )
        usage = reader.usage
        if usage is None:
            return Finished(
                reason=reason,
                num_prompt_tokens=self.num_prompt_tokens,
                num_cached_tokens=reader.num_cached,
                num_output_tokens=_estimate(reader.num_chars),
                num_reasoning_tokens=_estimate(reader.num_reasoning_chars),
            )
        return Finished(
            reason=reason,
            num_prompt_tokens=usage.prompt_tokens,
            num_cached_tokens=min(reader.num_cached, usage.prompt_tokens),
            num_output_tokens=usage.completion_tokens,
            num_reasoning_tokens=min(usage.num_reasoning, usage.completion_tokens),
        )


def _estimate(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def _strict_schema(settings: Settings) -> Any:
    """The schema that the text is held to, or None."""
    text = settings.text_format
    if isinstance(text, JsonSchemaFormat) and text.strict:
        return msgspec.json.decode(bytes(text.schema))
    return None


def _fields(
    settings: Settings, options: ChatOptions, box: Toolbox, limit: int | None
) -> dict[str, Any]:
    """Everything of a request but model and messages."""
    fields: dict[str, Any] = {"stream": True}
    if options.asks_usage:
        fields["stream_options"] = {"include_usage": True}
    if box.encoded:
        fields["tools"] = Raw(box.encoded)
        if box.choice is not None:
            fields["tool_choice"] = box.choice
        if not settings.parallel_tool_calls:
            fields["parallel_tool_calls"] = False
    text = settings.text_format
    if isinstance(text, JsonObjectFormat):
        fields["response_format"] = {"type": "json_object"}
    elif isinstance(text, JsonSchemaFormat):
        fields["response_format"] = {"type": "json_schema", "json_schema": _json_schema(text)}
    if settings.temperature != 1.0 or options.explicit_sampling:
        fields["temperature"] = settings.temperature
    if settings.top_p != 1.0 or options.explicit_sampling:
        fields["top_p"] = settings.top_p
    if settings.presence_penalty:
        fields["presence_penalty"] = settings.presence_penalty
    if settings.frequency_penalty:
        fields["frequency_penalty"] = settings.frequency_penalty
    if settings.top_logprobs is not None:
        fields["logprobs"] = True
        fields["top_logprobs"] = settings.top_logprobs
    if limit is not None:
        fields[options.max_tokens_field] = limit
    if settings.effort is not None and options.sends_effort:
        fields["reasoning_effort"] = settings.effort
    if settings.session and options.sends_cache_key:
        fields["prompt_cache_key"] = _digest(settings.owner, settings.session)
    if options.sends_cache_salt:
        fields["cache_salt"] = _digest(settings.owner)
    fields.update(options.extra)
    return fields


def _json_schema(text: JsonSchemaFormat) -> dict[str, Any]:
    schema: dict[str, Any] = {"name": text.name}
    if text.description is not None:
        schema["description"] = text.description
    schema["schema"] = text.schema
    if text.strict is not None:
        schema["strict"] = text.strict
    return schema


def _digest(*parts: str) -> str:
    """A name for an owner's own cache that does not tell who that is."""
    digest = blake2b(digest_size=16)
    for part in parts:
        encoded = part.encode()
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return digest.hexdigest()
