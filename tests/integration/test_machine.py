"""Random clients of a real server: whatever they ask for and in whatever order, each is answered.

A program is a list of small steps on a few lanes. Its player sends them on a raw socket, reads
as it pleases, and at the end either hears everything out or hangs up in the middle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
import uvloop
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.integration.serving import Serving, config, eventually, serving
from tests.integration.sockets import plain
from tests.integration.wire import TERMINAL, Json, WebSocketConnection, open_websocket

# Steers on some lanes and cancels on others: what ends early then ends for one reason.
STEERED: Final = ("a", "b")
CANCELLED: Final = ("c", None)
LANES: Final = (*STEERED, *CANCELLED)
TOOL: Final = {"type": "function", "name": "run", "parameters": {"type": "object"}}
ASKS: Final[dict[str, Json]] = {
    "short": {},
    "long": {"metadata": {"sim.output_tokens": "600"}},
    "call": {"tools": [TOOL], "metadata": {"sim.parallel_calls": "9"}},
    "thought call": {"tools": [TOOL], "reasoning": {"effort": "low"}},
    "reasoned": {"reasoning": {"effort": "low", "summary": "auto"}},
    "warm-up": {"generate": False},
    "cut": {"max_output_tokens": 16, "metadata": {"sim.output_tokens": "90"}},
    "fails": {"metadata": {"sim.fault": "error:2"}},
    "refused": {"metadata": {"sim.fault": "reject"}},
    "no such model": {"model": "none"},
    "no such parent": {"previous_response_id": "resp_none"},
    "out of range": {"temperature": 3},
}

Step = tuple[str, str | None, str]
CREATES = st.tuples(
    st.just("create"),
    st.sampled_from(LANES),
    st.sampled_from([*ASKS, "continue", "continue", "continue", "fork"]),
)
OTHERS = st.one_of(
    # A steer of what it just asked for, or of whatever runs.
    st.tuples(
        st.just("steer"),
        st.sampled_from(STEERED),
        st.sampled_from(["long", "long", "call", "thought call", ""]),
    ),
    st.tuples(st.just("cancel"), st.sampled_from(CANCELLED), st.just("")),
    st.tuples(st.just("read"), st.sampled_from(LANES), st.just("")),
    st.tuples(st.just("bad frame"), st.just(None), st.just("")),
)
PROGRAMS = st.lists(st.one_of(CREATES, CREATES, OTHERS), min_size=6, max_size=16)


class Player:
    """Plays a program on one socket, and keeps the account of it.

    Attributes:
        asked: By lane, the tags of its creates, in order.
        events: By response, its events; steers for it that come while it runs included.
        begun: By lane, the ids of its responses, in order.
    """

    def __init__(self, wire: WebSocketConnection) -> None:
        self.wire: Final = wire
        self.asked: Final[dict[str | None, list[str]]] = {lane: [] for lane in LANES}
        self.begun: Final[dict[str | None, list[str]]] = {lane: [] for lane in LANES}
        self.events: Final[dict[str, list[Json]]] = {}
        self.num_errors: Final[dict[str | None, int]] = dict.fromkeys(LANES, 0)
        self.num_bad_frames = self.num_bad_answers = 0
        self.num_steers = self.num_steer_answers = 0
        self.steered: Final[dict[str, list[str]]] = {}  # by target, steers not resolved
        self.continued: Final[set[str]] = set()
        self.current: Final[dict[str | None, str | None]] = dict.fromkeys(LANES)

    # -- sending

    async def perform(self, step: Step) -> None:
        kind, lane, how = step
        match kind:
            case "create":
                await self._create(lane, how)
            case "steer":
                if how:
                    await self._create(lane, how)
                await self._steer(lane)
            case "cancel":
                fields = {} if lane is None else {"stream_id": lane}
                await self.wire.send_event(type="response.cancel", **fields)
            case "read":
                if not self._is_quiet(lane):
                    await self.read()
            case _:
                self.num_bad_frames += 1
                await self.wire.send_event(type="response.walk", stream_id="bad")

    async def _create(self, lane: str | None, how: str) -> None:
        tag = f"{sum(map(len, self.asked.values()))}"
        fields: dict[str, Any] = {"model": "sim", "input": f"Say {tag}.", "store": False}
        fields.update(ASKS.get(how, {}))
        fields["metadata"] = {
            "sim.output_tokens": "4",
            **fields.get("metadata", {}),
            "tag": tag,
        }
        if lane is not None:
            fields["stream_id"] = lane
        others = [name for name in LANES if self.begun[name] and name != lane]
        source = others[0] if how == "fork" and others else lane
        if how in ("continue", "fork") and self.begun[source]:
            fields["previous_response_id"] = self.begun[source][-1]
        self.asked[lane].append(tag)
        await self.wire.send_create(**fields)

    async def _steer(self, lane: str | None) -> None:
        while self.current[lane] is None and not self._is_quiet(lane):
            await self.read()
        target = self.current[lane] or "resp_none"
        self.num_steers += 1
        await self.wire.send_event(
            type="response.steer", previous_response_id=target, input="Left."
        )

    # -- reading

    async def read(self) -> None:
        """Read one event and enter it into the account."""
        event = await self.wire.read_event()
        lane = event.get("stream_id")
        kind = event["type"]
        if kind == "error" and lane == "bad":
            self.num_bad_answers += 1
        elif kind == "error":
            assert event["error"]["code"] not in (None, "server_error"), event
            self.num_errors[lane] += 1
        elif kind.startswith("response.steer."):
            self._enter_steer(event, lane)
        else:
            self._enter(event, lane)

    def _enter(self, event: Json, lane: str | None) -> None:
        assert lane in LANES
        if event["type"] == "response.created":
            assert self.current[lane] is None, "two responses of one lane at a time"
            response = event["response"]
            assert response["id"] not in self.events
            self.current[lane] = response["id"]
            self.begun[lane].append(response["id"])
            self.events[response["id"]] = []
            # Only a continuation commits the steers of a response.
            if self.steered.pop(response["previous_response_id"], None):
                self.continued.add(response["id"])
        running = self.current[lane]
        assert running is not None, event
        self.events[running].append(event)
        if event["type"] in TERMINAL:
            assert event["response"]["id"] == running
            self.current[lane] = None

    def _enter_steer(self, event: Json, lane: str | None) -> None:
        steer = event["steer"]
        target = steer["previous_response_id"]
        if target == self.current.get(lane):
            self.events[target].append(event)
        match event["type"]:
            case "response.steer.accepted":
                self.num_steer_answers += 1
                self.steered.setdefault(target, []).append(steer["id"])
            case "response.steer.pending":
                assert steer["id"] in self.steered[target]
                assert event["required_input"]
            case _:
                assert "Left." == steer["input"]
                if "id" not in steer:
                    self.num_steer_answers += 1
                    return
                # Those of a response fail with it, or with the request that they were part of.
                self.steered.get(target, [steer["id"]]).remove(steer["id"])
                if not self.steered.get(target, True):
                    del self.steered[target]

    # -- the account

    def _num_open(self, lane: str | None) -> int:
        """Creates of a lane that were not answered yet."""
        answered = self.num_errors[lane] - len(self.asked[lane])
        for response_id in self.begun[lane]:
            events = self.events[response_id]
            done = any(event["type"] in TERMINAL for event in events)
            successor = self._tag(response_id) == self._tag_before(lane, response_id)
            answered += done and not successor
        return -answered

    def _is_quiet(self, lane: str | None) -> bool:
        return not self._num_open(lane) and self.current[lane] is None

    def _is_told(self) -> bool:
        """Whether nothing more can come."""
        waiting = [
            target for target, steers in self.steered.items() if steers and not self._owes(target)
        ]
        return (
            all(map(self._is_quiet, LANES))
            and (self.num_bad_frames, self.num_steers)
            == (self.num_bad_answers, self.num_steer_answers)
            and not waiting
        )

    def _owes(self, response_id: str) -> bool:
        """Whether the client has to answer calls of this response."""
        output = self.events[response_id][-1].get("response", {}).get("output", [])
        return any(item["type"] == "function_call" for item in output)

    def _tag(self, response_id: str) -> str:
        tag = self.events[response_id][0]["response"]["metadata"]["tag"]
        assert isinstance(tag, str)
        return tag

    def _tag_before(self, lane: str | None, response_id: str) -> str | None:
        place = self.begun[lane].index(response_id)
        return self._tag(self.begun[lane][place - 1]) if place else None

    async def hear_out(self) -> None:
        """Read until every create and every steer was answered, and check what was said."""
        while not self._is_told():
            await self.read()
        for lane in LANES:
            tags = [int(self._tag(response_id)) for response_id in self.begun[lane]]
            assert sorted(tags) == tags
            for place, response_id in enumerate(self.begun[lane]):
                told = plain(self.events[response_id], stream_id=lane)
                assert response_id == told.id
                if place and tags[place] == tags[place - 1]:
                    # The same settings again: a successor, and of nothing but its predecessor.
                    assert lane in STEERED
                    assert self.begun[lane][place - 1] == told.response["previous_response_id"]
                    assert response_id in self.continued


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, Serving]]:
    """A server for all programs, and the loop it runs in."""
    folder: Path = tmp_path_factory.mktemp("machine")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        stack = AsyncExitStack()
        started = serving(config(folder), names=("sim",))
        yield runner, runner.run(stack.enter_async_context(started))
        runner.run(stack.aclose())


async def play(running: Serving, program: list[Step], *, hang_up: bool) -> None:
    """Play a program; on return nothing of it is left in the server."""
    async with open_websocket(running.url) as wire:
        player = Player(wire)
        for step in program:
            await player.perform(step)
        if hang_up:
            wire.reset()
        else:
            await player.hear_out()
    await running.idle()
    await eventually(lambda: running.count("websocket_connections") == 0)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(program=PROGRAMS, hang_up=st.sampled_from([False, False, True]))
@example(
    program=[("create", "a", "long"), ("create", "a", "short"), ("steer", "a", "")], hang_up=False
)
@example(
    program=[("create", "a", "call"), ("steer", "a", ""), ("create", "a", "continue")],
    hang_up=False,
)
@example(
    program=[("create", "c", "long"), ("create", "c", "short"), ("cancel", "c", "")], hang_up=False
)
@example(program=[("create", lane, "long") for lane in LANES], hang_up=True)
def test_random_clients(
    stage: tuple[asyncio.Runner, Serving], program: list[Step], hang_up: bool
) -> None:
    """Each create ends once, lanes keep their order and their names, and nothing is left over."""
    runner, running = stage
    runner.run(play(running, program, hang_up=hang_up))
