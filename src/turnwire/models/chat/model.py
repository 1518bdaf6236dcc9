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

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, structs
from msgspec.json import encode

from turnwire.context.chain import Context
from turnwire.context.pairing import require_outputs
from turnwire.context.window import links, seen
from turnwire.engines.slots import Slots
from turnwire.errors import EngineUnavailable, InvalidJson, InvalidRequest, Overloaded
from turnwire.models.base import RenderMode, RenderReport, Settings
from turnwire.models.chat.chunks import Chunk, ChunkStream, Usage
from turnwire.models.chat.client import Answer, ChatClient
from turnwire.models.chat.dialect import Dialect
from turnwire.models.chat.faults import in_stream
from turnwire.models.chat.fields import fields_of
from turnwire.models.chat.options import ChatOptions, MessageRules
from turnwire.models.chat.reader import PartReader
from turnwire.models.chat.toolbox import NO_TOOLS, Toolbox, Toolboxes
from turnwire.models.chat.transcript import EMPTY_TRANSCRIPT, Transcript
from turnwire.models.takes import Takes
from turnwire.parts import Finished, Part
from turnwire.protocol.items import Item
from turnwire.protocol.requests import JsonSchemaFormat
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
        dialect: What it turned out to understand.
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
        self.dialect = Dialect(rules=rules)
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

    async def names_there(self) -> list[str]:
        """The models that the endpoint says it has; none where it does not say."""
        return await self._client.names()

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
        rules = self.dialect.rules
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
        rules = self.dialect.rules
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

    def body(self) -> list[bytes]:
        """The request's body as it would be sent now, in pieces."""
        return self._body(self._fields(None), self._model.dialect)

    def _fields(self, max_tokens: int | None) -> dict[str, Any]:
        settings, options = self._settings, self._model.options
        limit = max_tokens or settings.max_output_tokens or options.max_output_tokens
        return fields_of(settings, options, self._box, limit)

    def _body(self, fields: Mapping[str, Any], dialect: Dialect) -> list[bytes]:
        if self._view.rules != dialect.rules:
            self._write_again(dialect.rules)
        instructions = dialect.instructions(self._settings.instructions, fields)
        messages = self._view.transcript.messages(instructions, dialect.rules)
        sent = dialect.put(fields, self._box.only_tool)
        return [self._model._head, *messages, b"," + encode(sent)[1:]]

    def _write_again(self, rules: MessageRules) -> None:
        transcript = EMPTY_TRANSCRIPT
        for link in links(self.context):
            found = seen(link)
            transcript = transcript.extend(found.items, found.answers, rules)
        self._view = structs.replace(self._view, rules=rules, transcript=transcript)
        self.context.view = self._view

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
        return self._ask(self._reader, None)

    async def _ask(self, reader: PartReader, max_tokens: int | None) -> AsyncGenerator[Part, None]:
        model = self._model
        await model._slots.acquire()
        try:
            answer = await self._begin(self._fields(max_tokens))
            whole = False
            try:
                stream = ChunkStream()
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

    async def _begin(self, fields: Mapping[str, Any]) -> Answer:
        """Ask, in other words where the endpoint does not understand."""
        model, box = self._model, self._box
        dialect = model.dialect
        while True:
            try:
                answer = await model._client.ask(self._body(fields, dialect))
            except InvalidRequest as refusal:
                other = dialect.after(fields, box.only_tool, refusal.detail)
                if other is None:
                    raise
                dialect = other
            else:
                model.dialect = dialect  # it was understood
                return answer

    def interrupted(self) -> Finished:
        """What was used so far; see `Prepared.interrupted`."""
        return self._finished("steered")

    async def warm(self) -> int:
        """Have the endpoint read the prompt, if it was asked to; see `Prepared.warm`."""
        if not self._model.options.warms or not self._view.transcript.begun:
            return 0
        reader = PartReader(NO_TOOLS)
        async with aclosing(self._ask(reader, 1)) as parts:
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
            failure = chunk.failure
            if failure is not None:
                model = self._model
                raise in_stream(model.name, failure, secret=model.options.api_key)
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
        usage = reader.usage or Usage()
        num_prompt = usage.num_prompt or self.num_prompt_tokens
        num_output = usage.num_output
        num_reasoning = usage.num_reasoning
        if num_output is None:
            num_output = _estimate(reader.num_chars)
            num_reasoning = _estimate(reader.num_reasoning_chars)
        return Finished(
            reason=reason,
            num_prompt_tokens=num_prompt,
            num_cached_tokens=min(reader.num_cached, num_prompt),
            num_output_tokens=num_output,
            num_reasoning_tokens=min(num_reasoning, num_output),
        )


def _estimate(size: int) -> int:
    return -(-size // BYTES_PER_TOKEN)


def _strict_schema(settings: Settings) -> Any:
    """The schema that the text is held to, or None."""
    text = settings.text_format
    if isinstance(text, JsonSchemaFormat) and text.strict:
        return msgspec.json.decode(bytes(text.schema))
    return None
