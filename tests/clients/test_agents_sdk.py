"""The Agents SDK for Python, in a WebSocket session."""

from __future__ import annotations

from pathlib import Path

from tests.clients.conftest import Program, Proven
from tests.clients.install import python
from tests.clients.loop import check_websocket, is_incremental
from tests.clients.tape import Tape

VERSION = "0.24.0"
PROGRAM = Path(__file__).parent / "programs" / "openai_agents.py"


async def test_agents_python(tape: Tape, program: Program, proven: Proven) -> None:
    """A WebSocket session plays both turns on one connection, each request with what is new."""
    packages = [f"openai-agents=={VERSION}", "openai[realtime]==3.52.0"]
    interpreter = python("agents-python", packages)
    check_websocket(tape, await program([interpreter, PROGRAM, f"{tape.url}/v1"]))
    assert is_incremental(tape)
    fact = (
        "`responses_websocket_session`: tool rounds in two turns on one connection, streamed, "
        "only what is new"
    )
    proven("Agents SDK (Python)", VERSION, "WebSocket", fact)
