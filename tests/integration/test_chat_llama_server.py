"""A real llama-server behind the server: what its chat route does when somebody leaves, or dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from msgspec import Struct
from tests.integration.serving import config, eventually
from tests.integration.wire import Json, WebSocketConnection, open_websocket
from tests.random_model import random_model

from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess
from turnwire.engines.vocabulary import END_OF_TEXT, END_OF_TURN
from turnwire.models.chat.model import ChatModel
from turnwire.models.chat.options import ChatOptions, Patience
from turnwire.server.app import Server, serve

# So long that it is not through before a test acts.
LONG = LlamaCppModel(window=65_536, slots=1, threads=1, cache_ram_mib=0)
ENDLESS = {END_OF_TEXT: -20.0, END_OF_TURN: -20.0}


class Running(Struct, frozen=True):
    """A server with one model, `far`, behind llama.cpp's chat route."""

    server: Server
    model: ChatModel
    process: LlamaCppProcess

    async def num_busy(self) -> int:
        """Slots of llama.cpp that are busy, by its own count."""
        headers = {"Authorization": f"Bearer {self.process.api_key}"}
        async with (
            aiohttp.ClientSession(headers=headers) as http,
            http.get(f"{self.process.url}/slots") as answer,
        ):
            return sum(slot["is_processing"] for slot in json.loads(await answer.text()))


@asynccontextmanager
async def running(folder: Path) -> AsyncIterator[Running]:
    """llama.cpp as somebody else's, and a server that is given its URL and its key."""
    process = LlamaCppProcess.of(random_model(leanings=ENDLESS), LONG)
    try:
        options = ChatOptions(
            base_url=f"{await process.locate()}/v1",
            model="random",
            api_key=process.api_key,
            patience=Patience(max_retries=0),
        )
        model = ChatModel("far", options)
        async with serve(config(folder), models=[model]) as server:
            yield Running(server, model, process)
    finally:
        await process.aclose()


async def begin(wire: WebSocketConnection) -> list[Json]:
    """Ask for an answer that does not end; return its events up to its first words."""
    await wire.send_create(model="far", input="Talk.", store=False)
    events = [await wire.read_event()]
    while events[-1]["type"] != "response.output_text.delta":
        events.append(await wire.read_event())
    return events


@pytest.mark.parametrize("how", ["cancel", "hang up"])
async def test_who_leaves_frees_a_slot(tmp_path: Path, how: str) -> None:
    """llama.cpp stops as soon as its connection is closed, by its own count."""
    async with running(tmp_path) as served:
        async with open_websocket(served.server.url) as wire:
            await begin(wire)
            assert 1 == await served.num_busy()
            if how == "cancel":
                await wire.send_event(type="response.cancel")
                events = await wire.read_response()
                assert "cancelled" == events[-1]["response"]["status"]
        await eventually(lambda: served.model.num_running == 0)
        async with asyncio.timeout(20):
            while await served.num_busy():  # noqa: ASYNC110  # its slots tell nobody
                await asyncio.sleep(0.01)


async def test_one_that_is_killed(tmp_path: Path) -> None:
    """The turn that ran fails in words, as do those after it, and the socket goes on."""
    async with running(tmp_path) as served, open_websocket(served.server.url) as wire:
        events = await begin(wire)
        killed = served.process.pid
        assert killed is not None
        os.kill(killed, signal.SIGKILL)
        while events[-1]["type"] != "response.failed":
            events.append(await wire.read_event())
        assert "its answer broke off" in events[-1]["response"]["error"]["message"]
        for _ in range(2):
            events = await wire.create(model="far", input="Again.", store=False)
            error = events[-1]["response"]["error"]
            assert "server_error" == error["code"]
            assert "'far' failed: it could not be reached" in error["message"]
        assert (0, 0) == (served.model.num_running, served.model.num_waiting)
