"""Nothing that was acknowledged is lost when the server is killed, at whatever moment.

Clients of every kind talk to a server in a process of its own; it is killed when they have read so
many events, a number that a seed decides; another server takes over its data, and must know all
that the clients know. Then it is killed in turn. `make kill` plays more seeds than the one that
every run of the tests plays.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import pytest
from msgspec import Struct
from tests.integration.processes import kill, process
from tests.integration.wire import (
    TERMINAL,
    HttpConnection,
    Json,
    WebSocketConnection,
    connect,
    open_websocket,
    write_request,
)

SEEDS: Final = range(int(os.environ.get("KILL_SEEDS", "1")))
ROUNDS: Final = 4
NUM_CONVERSATIONS: Final = 2
ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
CANARY: Final = "Canary7Tweety"
# One that is slow enough to be killed in the middle of what it says, and one that is not.
MODELS: Final = ("sim", "sim-1000")
# What a client feels when the server is gone, in the middle of a word or between two.
GONE: Final = (ConnectionError, asyncio.IncompleteReadError)


class Turn(Struct):
    """What a client knows of a turn in a conversation.

    Attributes:
        text: Its input, which no other turn has.
        response: The response, once its end was seen.
    """

    text: str
    response: Json | None = None


class Known:
    """What clients were told, over all rounds.

    Attributes:
        ended: Stored responses whose end was seen, by id, as they ended.
        begun: Ids of stored responses of which less was seen.
        background: Ids of those that were accepted to run in the background, ended or not.
        unstored: Ids of responses that were not to be stored.
        turns: By the conversation's id, in the order in which they were sent.
    """

    def __init__(self) -> None:
        self.ended: Final[dict[str, Json]] = {}
        self.begun: Final[set[str]] = set()
        self.background: Final[set[str]] = set()
        self.unstored: Final[set[str]] = set()
        self.turns: Final[dict[str, list[Turn]]] = {}

    def see(self, response: Json) -> None:
        """Note a response object that a client has read."""
        if not response["store"]:
            self.unstored.add(response["id"])
        elif response["status"] in ENDED:
            self.ended[response["id"]] = response
        else:
            self.begun.add(response["id"])
        if response["background"]:
            self.background.add(response["id"])


class Crowd:
    """The clients of one round.

    Attributes:
        enough: Set when as many events were read as there should be.
    """

    def __init__(self, url: str, known: Known, dice: random.Random, num_events: int) -> None:
        self.enough: Final = asyncio.Event()
        self._url: Final = url
        self._known: Final = known
        self._dice: Final = dice
        self._left = num_events

    async def run(self) -> None:
        """Let all of them talk until the server is gone."""
        clients: list[Callable[[], Awaitable[None]]] = [
            self._stream,
            self._socket,
            self._json,
            self._poll,
            self._stream_in_background,
            *(self._converser(one) for one in self._known.turns),
        ]
        async with asyncio.TaskGroup() as tasks:
            for client in clients:
                tasks.create_task(self._until_gone(client))

    async def _until_gone(self, client: Callable[[], Awaitable[None]]) -> None:
        with suppress(*GONE):
            while True:
                await client()

    def _read(self, response: Json | None = None) -> None:
        """An event or answer was read."""
        if response is not None:
            self._known.see(response)
        self._left -= 1
        if self._left <= 0:
            self.enough.set()

    def _fields(self, **fields: Any) -> Json:
        """A request whose answer is short or long, quick or slow."""
        return {
            "model": self._dice.choice(MODELS),
            "input": "Tell me.",
            "metadata": {"sim.output_tokens": str(self._dice.randint(4, 40))},
            **fields,
        }

    def _parent(self) -> Json:
        """Sometimes a response that is known to have completed is continued."""
        done = [key for key, one in self._known.ended.items() if one["status"] == "completed"]
        if not done or self._dice.random() < 0.3:
            return {}
        return {"previous_response_id": self._dice.choice(done)}

    # --- ways to ask --------------------------------------------------------------------------

    async def _sse(self, wire: HttpConnection, fields: Json) -> Json:
        body = json.dumps({**fields, "stream": True}).encode()
        await wire.send(write_request("POST", "/v1/responses", body))
        assert 200 == (await wire.read_head()).status
        last: Json = {}
        while chunk := await wire.read_chunk():
            if chunk.startswith(b"event: "):
                last = json.loads(chunk.split(b"\ndata: ")[1])
                self._read(last.get("response"))
        return last["response"]  # type: ignore[no-any-return]

    async def _say(self, socket: WebSocketConnection, fields: Json) -> Json:
        await socket.send_create(**fields)
        while True:
            event = await socket.read_event()
            assert "error" != event["type"], event
            self._read(event.get("response"))
            if event["type"] in TERMINAL:
                return event["response"]  # type: ignore[no-any-return]

    async def _post(self, wire: HttpConnection, fields: Json) -> Json:
        answer = await wire.create(**fields)
        assert 200 == answer.status, answer.body
        response = answer.json()
        self._read(response)
        return response

    # --- clients --------------------------------------------------------------------------------

    async def _stream(self) -> None:
        async with connect(self._url) as wire:
            await self._sse(wire, self._fields(**self._parent()))

    async def _json(self) -> None:
        async with connect(self._url) as wire:
            await self._post(wire, self._fields(**self._parent()))

    async def _socket(self) -> None:
        """One conversation that is stored, and one beside it that is not."""
        async with open_websocket(self._url) as socket:
            parents: dict[bool, Json] = {True: self._parent(), False: {}}
            for _ in range(6):
                store = self._dice.random() < 0.5
                fields = self._fields(store=store, **parents[store])
                if not store:
                    fields.update(input=f"I am {CANARY}.", instructions=CANARY)
                    fields["stream_id"] = "unstored"
                response = await self._say(socket, fields)
                parents[store] = {"previous_response_id": response["id"]}

    async def _poll(self) -> None:
        async with connect(self._url) as wire:
            fields = self._fields(background=True, store=self._dice.random() < 0.8)
            if not fields["store"]:
                fields["input"] = CANARY
            response = await self._post(wire, {**fields, **self._parent()})
            while response["status"] not in ENDED:
                answer = await wire.request("GET", f"/v1/responses/{response['id']}")
                assert 200 == answer.status
                response = answer.json()
                self._read(response)

    async def _stream_in_background(self) -> None:
        async with connect(self._url) as wire:
            await self._sse(wire, self._fields(background=True, **self._parent()))

    def _converser(self, conversation: str) -> Callable[[], Awaitable[None]]:
        """A client that talks in a conversation, one turn after another, in changing ways."""

        async def converse() -> None:
            turns = self._known.turns[conversation]
            turn = Turn(f"{conversation} {len(turns)}")
            turns.append(turn)
            fields = self._fields(input=turn.text, conversation=conversation)
            way = self._dice.choice(["json", "sse", "socket", "background"])
            if way == "socket":
                async with open_websocket(self._url) as socket:
                    turn.response = await self._say(socket, fields)
                return
            async with connect(self._url) as wire:
                if way == "json":
                    turn.response = await self._post(wire, fields)
                else:
                    fields["background"] = way == "background"
                    turn.response = await self._sse(wire, fields)

        return converse


# --- what must hold afterwards -----------------------------------------------------------------


async def get(wire: HttpConnection, path: str) -> tuple[int, Json]:
    """Status and body."""
    answer = await wire.request("GET", f"/v1/{path}")
    return answer.status, answer.json()


async def check_responses(wire: HttpConnection, known: Known) -> None:
    """Each is as it was seen to end; of others there is all, or nothing."""
    for response_id, response in known.ended.items():
        assert (200, response) == await get(wire, f"responses/{response_id}")
    for response_id in known.begun - set(known.ended):
        status, found = await get(wire, f"responses/{response_id}")
        if response_id in known.background:
            assert 200 == status
            if found["status"] == "failed":
                assert "server_error" == found["error"]["code"]
                continue
        elif status == 404:
            continue
        # It had ended, and the word of it was lost on the way.
        assert "completed" == found["status"]
    for response_id in known.unstored:
        assert 404 == (await get(wire, f"responses/{response_id}"))[0]


async def items_of(wire: HttpConnection, conversation: str) -> list[Json]:
    """The items of a conversation, oldest first."""
    items: list[Json] = []
    more, after = True, ""
    while more:
        path = f"conversations/{conversation}/items?order=asc&limit=100{after}"
        status, page = await get(wire, path)
        assert 200 == status
        items += page["data"]
        more, after = page["has_more"], f"&after={page['last_id']}"
    return items


async def check_conversation(wire: HttpConnection, conversation: str, turns: list[Turn]) -> None:
    """Turns are there in their order, whole or not at all; those seen to complete are there."""
    items = await items_of(wire, conversation)
    whole: dict[str, list[Json]] = {}
    for item in items:
        if item["role"] == "user":
            (part,) = item["content"]
            assert part["text"] not in whole
            whole[part["text"]] = []
        else:
            whole[next(reversed(whole))].append(item)
    sent = [turn.text for turn in turns]
    assert [text for text in sent if text in whole] == list(whole)
    assert all(whole.values()), "a question without its answer"
    for turn in turns:
        if turn.response is not None and turn.response["status"] == "completed":
            assert turn.response["output"] == whole[turn.text]
    # Nothing of before holds it up.
    going_on = Turn(f"{conversation} {len(turns)}")
    turns.append(going_on)
    answer = await wire.create(model="sim", input=going_on.text, conversation=conversation)
    assert 200 == answer.status, answer.body
    going_on.response = answer.json()


async def check_continuation(wire: HttpConnection, known: Known, dice: random.Random) -> None:
    """What has completed can be continued."""
    done = [key for key, one in known.ended.items() if one["status"] == "completed"]
    for parent in dice.sample(done, min(3, len(done))):
        answer = await wire.create(model="sim", input="Go on.", previous_response_id=parent)
        assert 200 == answer.status, answer.body
        known.see(answer.json())


def check_files(folder: Path, copy: Path, known: Known) -> None:
    """The database is sound as it was left, and no file holds what was not to be stored."""
    shutil.copytree(folder, copy)
    database = sqlite3.connect(copy / "turnwire.db")
    assert [("ok",)] == database.execute("PRAGMA integrity_check").fetchall()
    assert [] == database.execute("PRAGMA foreign_key_check").fetchall()
    database.close()
    for path in (*folder.iterdir(), copy / "turnwire.db"):
        data = path.read_bytes() if path.is_file() else b""
        assert CANARY.encode() not in data, path
        assert not [one for one in known.unstored if one.encode() in data], path
    # What may be there is, so that what must not be would have been found.
    data = b"".join(path.read_bytes() for path in folder.iterdir() if path.is_file())
    assert all(one.encode() in data for one in known.ended)


async def reached(url: str) -> None:
    """Wait until the server, whose workers may just have been forked, takes a connection."""
    async with asyncio.timeout(20):
        while True:
            try:
                async with connect(url) as wire:
                    assert 200 == (await get(wire, "models"))[0]
                    return
            except GONE:
                await asyncio.sleep(0.02)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", SEEDS)
async def test_kill(tmp_path: Path, seed: int) -> None:
    """Killed over and over, a server knows what its clients know, and no more than it may."""
    dice = random.Random(seed)
    known = Known()
    folder = tmp_path / "data"
    folder.mkdir()
    for number in range(ROUNDS):
        # By turns, several processes serve that share the data.
        async with process(folder, 1 + (seed + number) % 2, MODELS) as (server, url):
            await reached(url)
            if number == 0:
                async with connect(url) as wire:
                    for _ in range(NUM_CONVERSATIONS):
                        begun = await wire.request("POST", "/v1/conversations", {})
                        known.turns[begun.json()["id"]] = []
            await check(url, known, dice)
            crowd = Crowd(url, known, dice, num_events=dice.randint(1, 400))
            running = asyncio.create_task(crowd.run())
            enough = asyncio.create_task(crowd.enough.wait())
            await asyncio.wait([running, enough], return_when=asyncio.FIRST_COMPLETED)
            await kill(server)
            await running
            enough.cancel()
        check_files(folder, tmp_path / f"copy-{number}", known)
    async with process(folder, 1, MODELS) as (_, url):
        await check(url, known, dice)
    assert known.ended
    assert known.unstored


async def check(url: str, known: Known, dice: random.Random) -> None:
    """Hold what a server knows against what its clients know."""
    async with connect(url) as wire:
        await check_responses(wire, known)
        for conversation, turns in known.turns.items():
            await check_conversation(wire, conversation, turns)
        await check_continuation(wire, known, dice)
