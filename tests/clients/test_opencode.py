"""opencode: its own tools, over WebSocket.

Its model calls `todowrite` and nothing else: that tool keeps a list of its own. Everything that
could change something is denied besides.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

from tests.clients.conftest import Program, Proven
from tests.clients.install import npm
from tests.clients.loop import check_rounds
from tests.clients.tape import Tape

VERSION = "1.18.34"


def environment(tape: Tape) -> dict[str, str]:
    """A configuration that stands in the environment."""
    told = {
        "model": "openai/harmless",
        "small_model": "openai/harmless",  # titles; a model of OpenAI otherwise
        "autoupdate": False,
        "share": "disabled",
        "permission": {"edit": "deny", "bash": "deny", "webfetch": "deny"},
        "provider": {
            "openai": {
                "options": {"baseURL": f"{tape.url}/v1"},
                "models": {"harmless": {"name": "Harmless", "tool_call": True}},
            }
        },
    }
    return {
        "OPENCODE_CONFIG_CONTENT": json.dumps(told),
        "OPENCODE_EXPERIMENTAL_WEBSOCKETS": "true",
        "OPENCODE_DISABLE_MODELS_FETCH": "true",
        "OPENCODE_DISABLE_AUTOUPDATE": "true",
        "OPENCODE_DISABLE_LSP_DOWNLOAD": "true",
    }


async def test_opencode(tape: Tape, program: Program, proven: Proven, tmp_path: Path) -> None:
    """A run with rounds of `todowrite` goes over one WebSocket; only the title is posted."""
    modules = npm("opencode", [f"opencode-linux-x64@{VERSION}"]) / "node_modules"
    binary = modules / "opencode-linux-x64" / "bin" / "opencode"
    # A key in its configuration would do for HTTP; for WebSockets it wants to be logged in.
    login = tmp_path / "home" / ".local" / "share" / "opencode" / "auth.json"
    login.parent.mkdir(parents=True)
    login.write_text('{"openai": {"type": "api", "key": "any"}}')
    printed = await program([binary, "run", "--format", "json", "Plan the day."], environment(tape))
    tape.check_clean()
    (socket,) = tape.sockets
    said = check_rounds(socket.creates, socket.responses, "todowrite")
    for before, after in pairwise(socket.creates):
        assert before["input"] == after["input"][: len(before["input"])]
    texts = [
        event["part"]["text"]
        for event in map(json.loads, printed.splitlines())
        if event["type"] == "text"
    ]
    assert [said.strip()] == [text.strip() for text in texts]
    fact = "`run`: tool rounds on one connection; only the title is posted over HTTP"
    proven("opencode", VERSION, "WebSocket", fact)
