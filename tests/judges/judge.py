"""Judges everything that a server says, whatever the transport; see `schemas`, `official`, `order`.

The readers of the tests (`tests/integration/wire.py`, and `witness.py` for the official clients)
show it all that they read, so that no test has to ask. What is wrong raises `Wrong`, an
AssertionError that names every complaint of every judge.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Final

from pydantic import BaseModel
from tests.judges import official, sense
from tests.judges.exceptions import NEWER, OURS
from tests.judges.order import Disorder, StreamOrder
from tests.judges.samples import STREAMS
from tests.judges.schemas import open_responses, openai, within

__all__ = [
    "SocketJudge",
    "StreamJudge",
    "Wrong",
    "judge_body",
    "judge_event",
    "judge_response",
    "warm_up",
]

Json = dict[str, Any]

ASIDE: Final = frozenset(
    {"response.steer.accepted", "response.steer.pending", "response.steer.failed"}
)
"""Said beside a response, and numbered with it."""
ENOUGH_LOGPROBS: Final = 3
INJECT_FAILED: Final = "response.inject.failed"
DONE: Final = b"data: [DONE]\n\n"


class Wrong(AssertionError):
    """Something that was said is not as it must be."""

    def __init__(self, complaints: list[str], said: Any) -> None:
        self.complaints: Final = complaints
        text = json.dumps(said, ensure_ascii=False)
        shown = text if len(text) < 2000 else f"{text[:1500]} ... {text[-500:]}"
        super().__init__("\n".join([*complaints, f"in: {shown}"]))


# --- bodies ------------------------------------------------------------------------------------


def judge_body(body: Json) -> None:
    """Judge the JSON of an HTTP answer by what it says it is.

    Raises:
        Wrong: it is not as that must be.
    """
    complaints = list(_body_complaints(body))
    if complaints:
        raise Wrong(complaints, body)


def judge_response(response: Json) -> None:
    """Judge a response object.

    Raises:
        Wrong: it is not as it must be.
    """
    complaints = list(_response_complaints(response))
    if complaints:
        raise Wrong(complaints, response)


def _body_complaints(body: Json) -> Iterator[str]:
    if "error" in body and "object" not in body:
        yield from _named("openai", openai().complaints("ErrorBody", body))
        yield from _named("official", _misread("Error", body["error"]))
        return
    kind = body.get("object")
    if kind == "list":
        yield from _list_complaints(body)
    elif kind == "response" and "deleted" not in body:
        yield from _response_complaints(body)
    elif kind == "response.compaction":
        yield from _compaction_complaints(body)
    elif isinstance(kind, str) and kind in ROOTS:
        root = ROOTS[kind]
        yield from _named("openai", openai().complaints(root, body))
        yield from _named("official", _misread(root, body))
    elif kind is None and "type" in body:
        yield from _item_complaints(body)
    elif kind != "response" and not UNSPECIFIED & set(body):
        yield f"object: nothing is known of {kind!r}"


ROOTS: Final[Mapping[str, str]] = {
    "response.input_tokens": "InputTokens",
    "conversation": "Conversation",
    "conversation.deleted": "DeletedConversation",
    "model": "Model",
}
"""What `object` says: the schema of that. DELETE of a response has none (protocol.md section 1)."""
UNSPECIFIED: Final = frozenset({"openapi", "status"})
"""What the bodies of /openapi.json, /health and /ready have, which are no part of the API."""


def _compaction_complaints(body: Json) -> Iterator[str]:
    yield from _open("Compacted", body)
    # It begins with the user's messages, says W; by O and S an output has none: section 11.2.
    empty = {**body, "output": []}
    yield from _named("openai", openai().complaints("Compacted", empty))
    yield from _named("official", _misread("Compacted", empty))
    for index, item in enumerate(body["output"]):
        for complaint in _item_complaints(item):
            yield f"{complaint} (item {index})"


def _response_complaints(response: Json) -> Iterator[str]:
    found = [
        *_named("openai", openai().complaints("Response", response)),
        *_open("Response", response),
        *_named("official", _misread("Response", _shortened(response))),
    ]
    # What is of another type than it must be makes no sense either.
    yield from found or _named("sense", list(sense.complaints(response)))


def _list_complaints(body: Json) -> Iterator[str]:
    if body["data"] and body["data"][0].get("object") == "model":
        yield from _named("openai", openai().complaints("ModelList", body))
        for model in body["data"]:
            yield from _named("official", _misread("Model", model))
        return
    page = {**body, "data": []}
    yield from _named("openai", openai().complaints("ItemList", page))
    yield from _named("official", _misread("ItemList", page))
    if (body["first_id"], body["last_id"]) != _ends_of(body["data"]):
        yield "sense: first_id and last_id are not those of the page"
    for index, item in enumerate(body["data"]):
        for complaint in _item_complaints(item):
            yield f"{complaint} (item {index})"


def _ends_of(items: list[Json]) -> tuple[str | None, str | None]:
    return (items[0]["id"], items[-1]["id"]) if items else (None, None)


def _item_complaints(item: Json) -> list[str]:
    """An item of a list: of a response or of a conversation, which the page does not say."""
    if item["type"] not in OURS:
        # Those of hosted tools, and of types that nobody knows, come back as they were sent.
        return [] if isinstance(item.get("id"), str) else ["sense: an item without an id"]
    found: list[list[str]] = []
    for union in ("Item", "ConversationItem"):
        complaints = _named("official", _misread_event(union, item))
        if item["type"] in openai().events(union):  # which is older
            complaints += _named("openai", openai().event_complaints(item, union))
        if not complaints:
            return []
        found.append(complaints)
    return min(found, key=len)


# --- events ------------------------------------------------------------------------------------


def judge_event(event: Json, *, websocket: bool) -> BaseModel | None:
    """Judge one event by itself.

    Returns:
        The event as the official library has it; None if it is one of a beta, which that does not
        have among its others.

    Raises:
        Wrong: it is not as its type must be.
    """
    found: list[str] = []
    read: BaseModel | None = None
    union = "WebSocketEvent" if websocket else "StreamEvent"
    kind = event.get("type")
    if not isinstance(kind, str):
        raise Wrong(["an event without a type"], event)
    plain = _without_echo(event)
    if kind == INJECT_FAILED:
        found += _named("openai", openai().complaints("InjectFailed", event))
    else:
        try:
            read = official.read_event(union, _shortened(plain))
        except official.Misread as error:
            found += _named("official", error.complaints)
        if kind not in NEWER:
            found += _named("openai", openai().event_complaints(plain, union))
            found += _open_event(event, websocket=websocket)
        if kind == "error" and not websocket:
            # In one object the flat form, which the types have, and the nested one: section 5.3.
            found += _named("official", _misread("Error", event["error"]))
    if not found and "response" in event:
        found += _named("sense", list(sense.complaints(event["response"])))
    if found:
        raise Wrong(found, event)
    return read


def _without_echo(event: Json) -> Json:
    """A steer that failed brings the client's own input back, right or wrong."""
    if event["type"] == "response.steer.failed":
        return {**event, "steer": {**event["steer"], "input": ""}}
    return event


def _shortened(value: Json) -> Json:
    """The value with the first of its log probabilities only, wherever they stand.

    There may be tens of thousands in an event. The compiled descriptions read all of them; the
    library's types, and its accumulator, which makes objects of them over and over, these.
    """
    changed: Json = {
        key: inner[:ENOUGH_LOGPROBS]
        if key == "logprobs"
        else [_shortened(one) if isinstance(one, dict) else one for one in inner]
        for key, inner in value.items()
        if key in ("logprobs", "content", "output") and isinstance(inner, list)
    }
    for key in ("part", "item", "response"):
        if isinstance(value.get(key), dict):
            changed[key] = _shortened(value[key])
    return {**value, **changed} if changed else value


def _open_event(event: Json, *, websocket: bool) -> list[str]:
    kept = within(event)
    if kept is None:
        return []
    if websocket and event["type"] == "error":
        return _named("open responses", open_responses().complaints("WebSocketError", kept))
    return _named("open responses", open_responses().event_complaints(kept))


# --- streams -----------------------------------------------------------------------------------


class StreamJudge:
    """Judges an event stream as its bytes come, framing included (protocol.md section 7).

    A stream that is read from its middle (`starting_after`) begins with another number than 0:
    then its events are judged one by one, and their numbers.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._order: StreamOrder | None = None
        self._next: int | None = None
        self._last: Json | None = None
        self._done = False

    def feed(self, data: bytes) -> None:
        """Judge what has come.

        Raises:
            Wrong: an event is not as it must be.
            AssertionError: a frame is not.
        """
        assert b"\r" not in data, f"lines end in LF alone: {data!r}"
        *frames, self._rest = (self._rest + data).split(b"\n\n")
        for one in frames:
            self._take(one)

    def _take(self, frame: bytes) -> None:
        assert not self._done, f"after [DONE]: {frame!r}"
        if frame.startswith(b":"):
            return
        if frame + b"\n\n" == DONE:
            ended = self._last is None or _ends(self._last)
            assert ended, f"[DONE] after {self._last}"
            self._done = True
            return
        name, _, payload = frame.partition(b"\n")
        assert name.startswith(b"event: "), frame
        assert payload.startswith(b"data: "), frame
        assert b"\n" not in payload, frame
        event = json.loads(payload.removeprefix(b"data: "))
        assert name.removeprefix(b"event: ").decode() == event["type"], frame
        self._judge(event)

    def _judge(self, event: Json) -> None:
        read = judge_event(event, websocket=False)
        number = event["sequence_number"]
        if self._next is None and number == 0:
            self._order = StreamOrder(announced=True)
        if self._next is not None and number != self._next:
            raise Wrong([f"order: number {number}, not {self._next}"], event)
        self._next, self._last = number + 1, event
        # A stream that could not begin is one error.
        if self._order is not None and (event["type"] != "error" or number):
            _ordered(self._order, event, read)


class SocketJudge:
    """Judges what a server says on one WebSocket: lanes, and what goes beside their responses."""

    def __init__(self) -> None:
        self._lanes: Final[dict[str | None, StreamOrder]] = {}
        self._responses: Final[dict[str, StreamOrder]] = {}

    def take(self, payload: bytes | str) -> None:
        """Judge one message.

        Raises:
            Wrong: it is not as it must be.
        """
        self.take_event(json.loads(payload))

    def take_event(self, event: Json) -> None:
        """Judge one event.

        Raises:
            Wrong: it is not as it must be.
        """
        read = judge_event(event, websocket=True)
        kind = event["type"]
        lane = event.get("stream_id")
        if "stream_id" in event and lane is None:
            raise Wrong(["order: stream_id is null"], event)
        if kind in ASIDE:
            self._take_aside(event)
        elif kind not in ("error", INJECT_FAILED):
            self._take(lane, event, read)

    def _take(self, lane: str | None, event: Json, read: BaseModel | None) -> None:
        running = self._lanes.get(lane)
        if event["type"] == "response.created":
            if running is not None and not running.ended:
                raise Wrong(["order: a response begins on a lane that is busy"], event)
            running = self._lanes[lane] = StreamOrder()
            self._responses[event["response"]["id"]] = running
        if running is None:
            raise Wrong(["order: an event of a lane where nothing runs"], event)
        _ordered(running, event, read)

    def _take_aside(self, event: Json) -> None:
        """A steer's events go on with the numbers of the response it was meant for."""
        target = self._responses.get(event["steer"]["previous_response_id"])
        try:
            # One that is over is no target any more.
            if target is not None and not (target.ended and event["sequence_number"] == 0):
                target.count(event)
            elif event["sequence_number"] != 0:
                raise Wrong(["order: of no response, and not number 0"], event)
        except Disorder as error:
            raise Wrong([f"order: {error}"], event) from error


def _ordered(order: StreamOrder, event: Json, read: BaseModel | None) -> None:
    assert read is not None
    try:
        order.take(event, read)
    except Disorder as error:
        raise Wrong([f"order: {error}"], event) from error


def _ends(event: Json) -> bool:
    return event["type"] in ("response.completed", "response.incomplete", "response.failed") or (
        event["type"] == "error" and event["sequence_number"] == 0
    )


@cache
def warm_up() -> None:
    """Compile what the judges judge by, now and not while a server in this loop is talking.

    It takes some tenths of a second; a model that is paced by the clock would be ahead by then.
    """
    for events in STREAMS.values():
        streamed, spoken = StreamOrder(announced=True), SocketJudge()
        said = [event for event in events if event["type"] != "error"]
        for event in events:
            _ordered(streamed, event, judge_event(event, websocket=False))
        for number, event in enumerate(said):
            spoken.take_event({**event, "sequence_number": number})
        judge_body(events[-1]["response"])


# --- words -------------------------------------------------------------------------------------


def _named(judge: str, complaints: list[str]) -> list[str]:
    return [f"{judge}: {one}" for one in complaints]


def _open(root: str, value: Json) -> list[str]:
    kept = within(value)
    if kept is None:
        return []
    return _named("open responses", open_responses().complaints(root, kept))


def _misread(root: str, value: Json) -> list[str]:
    return _complaints(official.read, root, value)


def _misread_event(union: str, value: Json) -> list[str]:
    return _complaints(official.read_event, union, value)


def _complaints(read: Callable[[str, Json], BaseModel], name: str, value: Json) -> list[str]:
    try:
        read(name, value)
    except official.Misread as error:
        return error.complaints
    return []
