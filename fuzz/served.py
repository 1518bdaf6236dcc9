"""A server to attack in this process, and the checks that it is well."""

from __future__ import annotations

import asyncio
import io
import random
import tempfile
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, Self, TypeVar

import uvloop
from tests.integration.serving import Serving, config, eventually, serving
from tests.integration.wire import Wire, connect, open_websocket

from turnwire.telemetry import logs

__all__ = ["LISTEN_SEC", "Served", "leave"]

T = TypeVar("T")

MAX_MESSAGE_BYTES: Final = 200_000
# How long to listen for what the server says; it decides nothing, it is only waited.
LISTEN_SEC: Final = 0.004
# The library logs as its own errors that a request was none, that a body was none when it reads
# on after the answer, and that it cannot even quote an `Expect` that is not ASCII.
NOT_OURS: Final = (
    '"error_at": "_http_parser.pyx',
    '"RequestPayloadError"',
    "_default_expect_handler",
)


def leave(wire: Wire, rng: random.Random) -> None:
    """Go away, politely or not."""
    if rng.random() < 0.5 and wire.writer.get_extra_info("socket") is not None:
        wire.reset()
    else:
        wire.close()


class Served:
    """A server with the model `sim`, its store in memory. A context.

    Attributes:
        serving: The server, inside.
    """

    serving: Serving

    def __init__(self) -> None:
        self._complaints: Final[list[str]] = []
        self._log: Final = io.StringIO()
        self._runner: Final = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        self._stack: Final = AsyncExitStack()

    def __enter__(self) -> Self:
        logs.configure("error", "json", self._log)
        self._runner.run(self._open())
        return self

    def __exit__(self, *error: object) -> None:
        self._runner.run(self._stack.aclose())
        self._runner.close()

    async def _open(self) -> None:
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: self._complaints.append(str(context))
        )
        folder = Path(self._stack.enter_context(tempfile.TemporaryDirectory()))
        told = config(folder, max_message_bytes=MAX_MESSAGE_BYTES, max_body_bytes=MAX_MESSAGE_BYTES)
        self.serving = await self._stack.enter_async_context(serving(told, names=("sim",)))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run in the server's loop; fail on what the server has complained of since."""
        self._hear_complaints()  # of the input before, if it was found to break something
        result = self._runner.run(work)
        complaints = self._hear_complaints()
        assert not complaints, "\n".join(complaints)
        return result

    def settle(self) -> None:
        """A client that behaves gets its answers, and nothing is left of those who did not."""
        self.run(self._settle())

    async def _settle(self) -> None:
        fields: dict[str, Any] = {
            "model": "sim",
            "input": "hi",
            "metadata": {"sim.output_tokens": "2"},
        }
        async with open_websocket(self.serving.url) as wire:
            events = await wire.create(**fields)
            assert events[-1]["type"] == "response.completed"
        async with connect(self.serving.url) as http:
            assert (await http.create(**fields)).status == 200
        await self.serving.idle()
        await eventually(lambda: self.serving.count("websocket_connections") == 0)

    def _hear_complaints(self) -> list[str]:
        complaints = list(self._complaints)
        complaints += [
            line
            for line in self._log.getvalue().splitlines()
            if not any(mark in line for mark in NOT_OURS)
        ]
        self._complaints.clear()
        self._log.seek(0)
        self._log.truncate()
        return complaints
