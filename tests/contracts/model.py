"""What every model must do, as one suite: derive from `ModelContract` and say what to test.

    class TestMyModel(ModelContract):
        @pytest.fixture
        async def subject(self) -> AsyncIterator[Subject]:
            ...

Nothing here knows what is behind a model: tokens, messages, or another server. What it answers
has to be a function of what it is sent, so that equal conversations can be told by it. A model
that calls tools when it is told to passes `CallingModelContract`, which is more of the same.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

import pytest
from msgspec import Raw, Struct

from turnwire.context.chain import Context
from turnwire.context.window import fingerprint, summary_message
from turnwire.errors import EngineError, InvalidRequest, Overloaded
from turnwire.models.base import Model, Prepared, Settings
from turnwire.parts import CallStarted, Finished, Part, TextDelta
from turnwire.protocol.codec import (
    decode_items,
    decode_tool_choice,
    decode_tools,
    echo,
    encode_item,
)
from turnwire.protocol.items import (
    Compaction,
    FunctionCall,
    InputText,
    Item,
    Message,
    OutputText,
    Summary,
)
from turnwire.protocol.requests import CreateResponse
from turnwire.protocol.tools import EMPTY_TOOL_SET, ToolChoice
from turnwire.session.emitter import Emitter

__all__ = [
    "CallingModelContract",
    "ModelContract",
    "Subject",
    "items_of",
    "message",
    "play",
    "said",
    "wire",
]

Json = dict[str, Any]

READ: Json = {
    "type": "function",
    "name": "read_file",
    "description": "Read a file.",
    "parameters": {
        "type": "object",
        "properties": {"path": {"enum": ["a.py", "größe.md"]}},
        "required": ["path"],
        "additionalProperties": False,
    },
    "strict": True,
}
LIST: Json = {**READ, "name": "list_files", "description": "List files."}
PATIENCE_SEC = 20.0


class Subject(Struct, frozen=True):
    """A model under test.

    Attributes:
        model: It answers in some ten tokens.
        endless: The same in all else, but it talks for long; there is room for a turn to wait.
        num_slots: How many turns `endless` answers at the same time.
        sent: What a prepared turn shows to whatever is behind the model.
        hints: For the settings of every turn with `model`.
        endless_hints: The same with `endless`.
        has_scores: Whether it gives log probabilities where they are asked for.
    """

    model: Model
    endless: Model
    num_slots: int
    sent: Callable[[Any], bytes]
    hints: Mapping[str, str] = {}
    endless_hints: Mapping[str, str] = {}
    has_scores: bool = False

    def turn(
        self,
        parent: Context | None,
        sent: Sequence[Json],
        *,
        tools: Sequence[Json] = (),
        choice: Any = "auto",
        **fields: Any,
    ) -> Prepared:
        """Prepare a turn with `model`."""
        return self.model.prepare(parent, items_of(sent), self.settings(tools, choice, **fields))

    def settings(self, tools: Sequence[Json] = (), choice: Any = "auto", **fields: Any) -> Settings:
        """The settings of such a turn."""
        tool_set = decode_tools(Raw(json.dumps(tools).encode())) if tools else EMPTY_TOOL_SET
        return Settings(
            tools=tool_set,
            tool_choice=decode_tool_choice(Raw(json.dumps(choice).encode()), tool_set),
            hints=self.hints,
            **fields,
        )

    def long_turn(self) -> Prepared:
        """Prepare a turn with `endless`."""
        settings = Settings(hints=self.endless_hints)
        return self.endless.prepare(None, items_of([message("Tell me all of it.")]), settings)


def message(text: str, role: str = "user") -> Json:
    """A message as a client sends it."""
    return {"type": "message", "role": role, "content": text}


def answer_to(call: Json, text: str = "done") -> Json:
    """The output of a call."""
    return {"type": "function_call_output", "call_id": call["call_id"], "output": text}


def items_of(sent: Sequence[Json]) -> tuple[Item, ...]:
    """Decode what a client sends."""
    return decode_items(Raw(json.dumps(sent).encode()))


def wire(item: Item) -> Json:
    """An item as a client would send it back."""
    decoded: Json = json.loads(encode_item(item))
    return decoded


async def play(prepared: Prepared) -> tuple[list[Part], tuple[Item, ...], Context]:
    """Run a turn to its end; return its parts, its output items and the context after it.

    The emitter refuses parts that are out of order.
    """
    emitter = Emitter(
        echo(CreateResponse(), EMPTY_TOOL_SET, ToolChoice(), id="resp_1", created_at=0, model="m")
    )
    emitter.start()
    parts: list[Part] = []
    async with asyncio.timeout(PATIENCE_SEC), aclosing(prepared.respond()) as responding:
        async for part in responding:
            parts.append(part)
            emitter.feed(part)
    items = tuple(emitter.items)
    return parts, items, prepared.settle(items)


def item_text(item: Item) -> str:
    """The text of a message, or nothing."""
    if not isinstance(item, Message):
        return ""
    return "".join(part.text for part in item.content if isinstance(part, OutputText))


def said(items: Sequence[Item]) -> list[Json]:
    """Items without their ids, which are random."""
    return [
        {key: value for key, value in wire(item).items() if key not in ("id", "call_id")}
        for item in items
    ]


async def settle() -> None:
    """Let every task go as far as it can without waiting for anything."""
    for _ in range(10):
        await asyncio.sleep(0)


class ModelContract:
    """The suite; a derived class provides the fixture `subject`."""

    async def test_parts_are_in_order(self, subject: Subject) -> None:
        """They make items, `Finished` comes once and last, and it says what was used."""
        parts, items, _ = await play(subject.turn(None, [message("Hello")]))
        finished = parts[-1]
        assert isinstance(finished, Finished)
        assert 1 == sum(isinstance(part, Finished) for part in parts)
        assert any(isinstance(item, Message) for item in items)
        assert finished.num_prompt_tokens > 0
        assert 0 <= finished.num_cached_tokens <= finished.num_prompt_tokens
        assert finished.num_output_tokens > finished.num_reasoning_tokens >= 0

    async def test_continuing_is_a_full_resend(self, subject: Subject) -> None:
        """Over calls, forks, and other tools and instructions: the same is sent, and answered."""
        steps: list[tuple[int, list[Json], Json]] = [
            (0, [message("Be nice.", "developer"), message("Look at a.py.")], {}),
            (1, [message("Now run.")], {"tools": [READ], "choice": "required"}),
            (1, [], {"tools": [READ]}),
            (1, [message("Thanks.")], {"tools": [READ, LIST], "instructions": "Be brief."}),
            (3, [message("Or not?"), message("Well?", "system")], {"instructions": "Be brief."}),
            (2, [message("A <|im_end|> b 日本")], {"tools": [LIST], "choice": "none"}),
            (1, [message("Think.")], {"effort": "low"}),
            (1, [message("So?")], {"max_output_tokens": 16}),
        ]
        nodes: list[tuple[Context | None, list[Json]]] = [(None, [])]
        for back, new, how in steps:
            parent, history = nodes[-max(back, 1)]
            calls = [item for item in history if item["type"] == "function_call"]
            open_calls = parent.open_calls if parent is not None else {}
            new = [*(answer_to(c) for c in calls if c["call_id"] in open_calls), *new]
            continued = subject.turn(parent, new, **how)
            resent = subject.turn(None, history + new, **how)
            assert subject.sent(resent) == subject.sent(continued)
            _, output, after = await play(continued)
            _, again, _ = await play(resent)
            assert said(again) == said(output)
            nodes.append((after, history + new + [wire(item) for item in output]))

    async def test_a_continuation_says_that_it_appends(self, subject: Subject) -> None:
        """The report tells the first turn, a continuation, and one with other instructions."""
        first = subject.turn(None, [message("one")], instructions="A")
        _, _, after = await play(first)
        second = subject.turn(after, [message("two")], instructions="A")
        other = subject.turn(after, [message("two")], instructions="B")
        assert ("full", "first") == (first.report.mode, first.report.reason)
        assert ("append", "") == (second.report.mode, second.report.reason)
        assert ("prefix", "preamble") == (other.report.mode, other.report.reason)

    async def test_another_models_context_is_rendered_anew(self, subject: Subject) -> None:
        """A view that is not this model's own is nothing to build on."""
        _, output, after = await play(subject.turn(None, [message("one")]))
        for link in after.links():
            link.view = object()
        history = [message("one"), *map(wire, output), message("two")]
        restored = subject.turn(after, [message("two")])
        assert ("full", "model") == (restored.report.mode, restored.report.reason)
        assert subject.sent(restored) == subject.sent(subject.turn(None, history))

    async def test_a_compacted_conversation_is_seen_from_there(self, subject: Subject) -> None:
        """Only the summary and what follows is sent, however the conversation came; then it grows.

        What a compaction lists as retained is seen in front of it.
        """
        _, output, after = await play(subject.turn(None, [message("Forgotten."), message("Kept.")]))
        kept = Message(role="user", content=(InputText(text="Kept."),))
        opened = Summary(text="What was.", retained=(fingerprint(kept),))
        summary = Compaction(id="cmp_1", encrypted_content="x", opened=opened)
        behind, settings = items_of([message("And now?")]), subject.settings()

        def turn(parent: Context | None, *items: Item) -> Prepared:
            return subject.model.prepare(parent, [*items, *behind], settings)

        history = items_of([message("Forgotten."), message("Kept.")])
        continued = turn(after, summary)
        assert ("full", "compacted") == (continued.report.mode, continued.report.reason)
        sent = subject.sent(continued)
        for other in (
            turn(None, kept, summary_message(summary)),
            turn(None, kept, summary),
            turn(None, *history, *output, summary),
            turn(Context(after, [summary])),
            turn(Context(None, [kept, summary])),
        ):
            assert sent == subject.sent(other)
        _, said_, later = await play(continued)
        following = turn(later)
        assert ("append", "") == (following.report.mode, following.report.reason)
        assert subject.sent(following) == subject.sent(turn(None, kept, summary, *behind, *said_))

    async def test_counting_is_preparing(self, subject: Subject) -> None:
        """`count` gives the size that `prepare` gives, with tools and behind a parent too."""
        _, _, after = await play(subject.turn(None, [message("one")]))
        settings = subject.settings([READ, LIST], instructions="Be brief.")
        items = items_of([message("two")])
        for parent in (None, after):
            expected = subject.model.prepare(parent, items, settings).num_prompt_tokens
            assert expected == subject.model.count(parent, items, settings) > 0
        longer = items_of([message("two " * 100)])
        assert subject.model.count(after, longer, settings) > expected

    async def test_a_prompt_that_is_not_run_leaves_nothing(self, subject: Subject) -> None:
        """Preparing takes no place, however often; nor does closing what never began."""
        for _ in range(3):
            await subject.turn(None, [message("one")]).respond().aclose()
        assert (0, 0) == (subject.model.num_running, subject.model.num_waiting)
        await play(subject.turn(None, [message("one")]))

    async def test_preparing_in_a_thread(self, subject: Subject) -> None:
        """Large inputs are prepared in threads, several at once, with the same result."""
        settings = subject.settings([READ], instructions="Be brief.")
        items = [items_of([message(f"{n} " * 200)]) for n in range(4)]
        here = [subject.model.prepare(None, one, settings) for one in items]
        there = await asyncio.gather(
            *(asyncio.to_thread(subject.model.prepare, None, one, settings) for one in items)
        )
        assert [subject.sent(one) for one in here] == [subject.sent(one) for one in there]

    async def test_a_warm_up(self, subject: Subject) -> None:
        """It may be empty, and a turn can follow it."""
        for sent in ([], [message("one")]):
            warm_up = subject.turn(None, sent, instructions="Be brief.", warm_up=True)
            assert 0 <= await warm_up.warm()
        after = warm_up.settle(())
        assert after is warm_up.context
        _, output, _ = await play(subject.turn(after, [message("two")], instructions="Be brief."))
        assert output

    @pytest.mark.parametrize("limit", [16, 20])
    async def test_the_limit_is_honoured(self, subject: Subject, limit: int) -> None:
        """A turn that reaches it says so, its item is incomplete, and the talk can go on."""
        settings = Settings(hints=subject.endless_hints, max_output_tokens=limit)
        prepared = subject.endless.prepare(None, items_of([message("All of it.")]), settings)
        parts, output, after = await play(prepared)
        finished = parts[-1]
        assert isinstance(finished, Finished)
        assert ("max_output_tokens", limit) == (finished.reason, finished.num_output_tokens)
        assert "incomplete" == wire(output[-1])["status"]
        following = subject.endless.prepare(after, items_of([message("And?")]), settings)
        _, more, _ = await play(following)
        assert more

    async def test_running_and_waiting_are_counted(self, subject: Subject) -> None:
        """Places that are taken and turns that wait show in the counts, and go again."""
        assert subject.num_slots == subject.endless.num_slots
        running = await self._fill(subject)
        waiting = asyncio.create_task(self._first(subject.long_turn()))
        await settle()
        assert (subject.num_slots, 1) == (subject.endless.num_running, subject.endless.num_waiting)
        for one in running:
            await one.aclose()
        await asyncio.wait_for(waiting, PATIENCE_SEC)
        assert (0, 0) == (subject.endless.num_running, subject.endless.num_waiting)

    async def test_closing_the_parts_frees_the_place(self, subject: Subject) -> None:
        """As many turns as there are places can be left, and as many can follow."""
        for _ in range(2):
            for one in await self._fill(subject):
                await one.aclose()
        assert (0, 0) == (subject.endless.num_running, subject.endless.num_waiting)
        _, output, _ = await play(subject.turn(None, [message("Hello")]))
        assert output

    async def test_cancelling_one_that_waits(self, subject: Subject) -> None:
        """Who gives up waiting takes nobody's place; who waits behind gets it."""
        running = await self._fill(subject)
        gone = asyncio.create_task(self._first(subject.long_turn()))
        await settle()
        gone.cancel()
        with pytest.raises(asyncio.CancelledError):
            await gone
        behind = asyncio.create_task(self._first(subject.long_turn()))
        await settle()
        for one in running:
            await one.aclose()
        await asyncio.wait_for(behind, PATIENCE_SEC)
        assert (0, 0) == (subject.endless.num_running, subject.endless.num_waiting)

    async def test_what_was_interrupted_says_what_it_used(self, subject: Subject) -> None:
        """After `aclose`, `interrupted` stands for `Finished`, and the talk can go on."""
        prepared = subject.long_turn()
        await self._first(prepared)
        finished = prepared.interrupted()
        assert "steered" == finished.reason
        assert finished.num_prompt_tokens > 0
        assert finished.num_output_tokens >= 0
        after = prepared.settle(())
        _, output, _ = await play(subject.turn(after, [message("Stop that.")]))
        assert output

    async def test_log_probabilities_are_for_who_asks(self, subject: Subject) -> None:
        """They change no word; and where a model has them, they are those of its text."""
        plain, output, _ = await play(subject.turn(None, [message("Hello")]))
        parts, scored, _ = await play(subject.turn(None, [message("Hello")], top_logprobs=2))
        assert not any(part.logprobs for part in plain if isinstance(part, TextDelta))
        texts = [part for part in parts if isinstance(part, TextDelta)]
        scores = [score for part in texts for score in part.logprobs]
        assert subject.has_scores == bool(scores)
        if scores:
            joined = bytes(byte for score in scores for byte in score.bytes)
            assert "".join(part.text for part in texts) == joined.decode("utf-8", "replace")
            assert all(len(score.top_logprobs) <= 2 for score in scores)
        assert [item_text(item) for item in output] == [item_text(item) for item in scored]

    async def test_turns_at_the_same_time(self, subject: Subject) -> None:
        """They do not disturb each other."""
        names = ["x", "y", "x", "y"]
        played = await asyncio.gather(
            *(play(subject.turn(None, [message(name)])) for name in names)
        )
        first, second, third, fourth = (said(output) for _, output, _ in played)
        assert first == third
        assert second == fourth

    async def test_forks_share_their_past(self, subject: Subject) -> None:
        """What one of them adds is not seen by the other."""
        _, _, after = await play(subject.turn(None, [message("one")]))
        before = subject.sent(subject.turn(after, [message("two")]))
        await play(subject.turn(after, [message("else")], tools=[READ], instructions="X"))
        assert before == subject.sent(subject.turn(after, [message("two")]))

    async def test_a_model_that_is_closed(self, subject: Subject) -> None:
        """What runs fails, and what comes is refused; closing twice is closing."""
        [running, *rest] = await self._fill(subject)
        await subject.endless.aclose()
        with pytest.raises(EngineError):
            await self._drain(running)
        for one in rest:
            await one.aclose()
        with pytest.raises(Overloaded):
            subject.long_turn()
        await subject.endless.aclose()
        assert (0, 0) == (subject.endless.num_running, subject.endless.num_waiting)

    @staticmethod
    async def _fill(subject: Subject) -> list[AsyncGenerator[Part, None]]:
        """Begin as many turns as there are places."""
        running = [subject.long_turn().respond() for _ in range(subject.num_slots)]
        async with asyncio.timeout(PATIENCE_SEC):
            for one in running:
                await anext(one)
        return running

    @staticmethod
    async def _first(prepared: Prepared) -> Part:
        async with aclosing(prepared.respond()) as parts:
            return await anext(parts)

    @staticmethod
    async def _drain(parts: AsyncGenerator[Part, None]) -> None:
        async with asyncio.timeout(PATIENCE_SEC):
            async for _ in parts:
                pass


class CallingModelContract(ModelContract):
    """And of models that call tools whenever they are told to."""

    async def test_calls_are_of_offered_tools(self, subject: Subject) -> None:
        """Required is a call, named is that one, and none is none."""
        named = {"type": "function", "name": "list_files"}
        for choice, expected in (
            ("required", {"read_file", "list_files"}),
            (named, {"list_files"}),
        ):
            prepared = subject.turn(None, [message("go")], tools=[READ, LIST], choice=choice)
            _, output, _ = await play(prepared)
            names = {item.name for item in output if isinstance(item, FunctionCall)}
            assert names
            assert names <= expected
            for item in output:
                if isinstance(item, FunctionCall):
                    assert json.loads(item.arguments)["path"] in {"a.py", "größe.md"}
        parts, _, _ = await play(subject.turn(None, [message("go")], tools=[READ], choice="none"))
        assert not any(isinstance(part, CallStarted) for part in parts)

    async def test_ids_of_calls_are_never_the_same(self, subject: Subject) -> None:
        """A conversation's calls can be told apart, over turns and within one."""
        context: Context | None = None
        new = [message("go")]
        ids: list[str] = []
        for _ in range(3):
            prepared = subject.turn(context, new, tools=[READ], choice="required")
            _, output, context = await play(prepared)
            calls = [wire(item) for item in output if isinstance(item, FunctionCall)]
            ids += [call["call_id"] for call in calls]
            new = [answer_to(call) for call in calls]
        assert len(ids) == len(set(ids)) >= 3

    async def test_an_open_call_must_be_answered(self, subject: Subject) -> None:
        """The model is not asked while a call waits for its output."""
        _, output, after = await play(
            subject.turn(None, [message("go")], tools=[READ], choice="required")
        )
        with pytest.raises(InvalidRequest, match="No tool output found for function call"):
            subject.turn(after, [message("well?")])
        with pytest.raises(InvalidRequest, match="No tool output found for function call"):
            subject.model.count(after, items_of([message("well?")]), subject.settings())
        # A client may repeat the calls next to their outputs.
        calls = [wire(item) for item in output if isinstance(item, FunctionCall)]
        repeated = [one for call in calls for one in (call, answer_to(call))]
        plain = [answer_to(call) for call in calls]
        assert subject.sent(subject.turn(after, plain)) == subject.sent(
            subject.turn(after, repeated)
        )

    async def test_a_warm_up_behind_an_open_call(self, subject: Subject) -> None:
        """Nothing is sampled, so nothing has to be answered yet."""
        prepared = subject.turn(None, [message("go")], tools=[READ], choice="required")
        _, calls, after = await play(prepared)
        assert calls
        assert 0 <= await subject.turn(after, [], tools=[READ], warm_up=True).warm()
