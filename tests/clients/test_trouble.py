"""What clients do when a server restarts between two turns, and when it refuses one.

The server that restarts tells its clients so right behind the first response in which it calls
tools, as it does on SIGTERM: close code 1012. Another one, with the same data, is there already.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path

import pytest
from tests.clients.conftest import Program, Proven, last_line, steady_models
from tests.clients.install import python
from tests.clients.loop import NUM_CREATES, check_told
from tests.clients.tape import Tape, Upgraded, taping
from tests.clients.test_codex import VERSION as CODEX
from tests.clients.test_codex import codex, events, home, messages
from tests.clients.test_javascript import AI_SDK, AI_SDK_PACKAGES, prepared
from tests.clients.test_openai_python import PROGRAM
from tests.clients.test_openai_python import VERSION as OPENAI
from tests.integration.serving import config, shipped

from turnwire.config import LimitsConfig
from turnwire.engines.base import Delta, Generation
from turnwire.engines.sim import SimEngine, SimProfile
from turnwire.server.app import serve

__all__ = ["codex"]

NOBODY = "The model 'nobody' does not exist on this server."


class TellingEngine(SimEngine):
    """Tells when it is asked to generate."""

    told: Callable[[], None]

    def generate(self, request: Generation) -> AsyncGenerator[Delta, None]:
        """As ever."""
        self.told()
        return super().generate(request)


@pytest.fixture
async def restarting(tmp_path: Path) -> AsyncIterator[Tape]:
    """A tape in front of a server that begins to restart while it generates for the first time."""
    _, vocabulary, author = shipped()
    told = config(tmp_path / "data", store="sqlite", limits=LimitsConfig())
    engine = TellingEngine(vocabulary, SimProfile(), author)
    after = SimEngine(vocabulary, SimProfile(), author)
    drains: list[asyncio.Task[None]] = []
    async with (
        serve(told, models=steady_models(engine)) as first,
        serve(told, models=steady_models(after)) as second,
        taping(first.url) as tape,
    ):

        def restart() -> None:
            if not drains:
                tape.hold()
                tape.upstream = second.url
                drains.append(asyncio.create_task(first.drain(), name="restart"))

        engine.told = restart
        yield tape
        await asyncio.gather(*drains)
    assert [] == tape.wrong
    assert [] == tape.unreadable


def around_the_restart(tape: Tape) -> tuple[Upgraded, Upgraded]:
    """The sockets before and after, the only ones; nothing was posted, nothing refused."""
    before, after = tape.sockets
    assert [] == tape.posts
    assert [] == tape.refused
    assert 1012 in before.closes
    return before, after


async def test_codex_restart(
    codex: Path, restarting: Tape, program: Program, tmp_path: Path, proven: Proven
) -> None:
    """It connects again, sends the whole conversation, and its user notices nothing."""
    env = home(tmp_path, restarting, websockets=True)
    options = ["--skip-git-repo-check", "--json"]
    reported = events(await program([codex, "exec", *options, "Plan the day."], env))
    before, after = around_the_restart(restarting)
    assert [False, None] == [create.get("generate") for create in before.creates]
    again = after.creates[0]
    assert again.get("previous_response_id") is None
    kinds = [item.get("type") for item in again["input"]]
    assert ["function_call"] * 2 + ["function_call_output"] * 2 == kinds[-4:]
    said = after.responses[-1]["output"][0]["content"][0]["text"]
    assert [said] == messages(reported)
    assert "error" not in {event["type"] for event in reported}
    fact = "the server restarts between two turns: it connects again and sends everything, unseen"
    proven("Codex CLI", CODEX, "WebSocket", fact)


async def test_ai_sdk_restart(restarting: Tape, program: Program, proven: Proven) -> None:
    """It opens another WebSocket for the next step, which brings the whole conversation anyway."""
    command = prepared("ai_sdk", AI_SDK_PACKAGES)
    printed = await program([*command, f"{restarting.url}/v1", "websocket", "false"])
    before, after = around_the_restart(restarting)
    assert (1, NUM_CREATES - 1) == (len(before.creates), len(after.creates))
    check_told(restarting.responses, printed)
    name = "Vercel AI SDK (`ai`, WebSocket fetch 1.0.0)"
    proven(name, AI_SDK, "WebSocket", "the server restarts between two turns: it connects again")


async def test_openai_python_restart(restarting: Tape, program: Program, proven: Proven) -> None:
    """A program that connects again goes on from the stored response, with what is new."""
    interpreter = python("openai-python", [f"openai[realtime]=={OPENAI}"])
    printed = await program([interpreter, PROGRAM, f"{restarting.url}/v1", "restart"])
    before, after = around_the_restart(restarting)
    (latest,) = before.responses
    assert latest["id"] == after.creates[0]["previous_response_id"]
    assert 2 == len(after.creates[0]["input"])
    check_told(restarting.responses, printed)
    fact = (
        "the server restarts between two turns: told 1012, a program connects again and goes on "
        "from the stored response"
    )
    proven("openai-python", OPENAI, "WebSocket", fact)


async def test_codex_unknown_model(
    codex: Path, tape: Tape, program: Program, tmp_path: Path, proven: Proven
) -> None:
    """It says what the server said and ends; it does not try again."""
    env = home(tmp_path, tape, websockets=True)
    options = ["--skip-git-repo-check", "--json", "--model", "nobody"]
    said = await program([codex, "exec", *options, "Plan the day."], env, code=1)
    assert NOBODY in said
    assert [] == tape.posts
    refusal = (400, "model_not_found")
    # The warm-up's, which it passes over, and the turn's.
    assert [refusal] * 2 == [(error["status"], error["error"]["code"]) for error in tape.errors]
    fact = "an unknown model: the turn fails at once, in the server's words"
    proven("Codex CLI", CODEX, "WebSocket", fact)


@pytest.mark.parametrize("transport", ["websocket", "http"])
async def test_ai_sdk_unknown_model(
    tape: Tape, program: Program, proven: Proven, transport: str
) -> None:
    """Its stream ends with an error in the server's words."""
    command = prepared("ai_sdk", AI_SDK_PACKAGES)
    told = [f"{tape.url}/v1", transport, "false", "nobody"]
    assert NOBODY in await program([*command, *told], code=1)
    over_websocket = transport == "websocket"
    assert over_websocket is bool(tape.errors)
    assert (not over_websocket) is bool(tape.refused)
    version = ", WebSocket fetch 1.0.0" if over_websocket else ""
    name = f"Vercel AI SDK (`ai`{version})"
    fact = "an unknown model: an error in the server's words"
    proven(name, AI_SDK, "WebSocket" if over_websocket else "HTTP", fact)


async def test_openai_python_unknown_model(tape: Tape, program: Program, proven: Proven) -> None:
    """It is an error event, and the next request on the connection is answered."""
    interpreter = python("openai-python", [f"openai[realtime]=={OPENAI}"])
    told = last_line(await program([interpreter, PROGRAM, f"{tape.url}/v1", "refused"]))
    assert ("error", "model_not_found") == (told["error"]["type"], told["error"]["error"]["code"])
    assert told["answer"]
    (socket,) = tape.sockets
    assert 2 == len(socket.creates)
    fact = "an unknown model: an error event, and the connection goes on"
    proven("openai-python", OPENAI, "WebSocket", fact)
