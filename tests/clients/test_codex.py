"""The Codex CLI: warm-up, turns that bring only what is new, and its tools.

Its model calls `get_goal` and nothing else: that tool has no arguments and changes nothing.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from tests.clients.conftest import Program, Proven
from tests.clients.install import npm
from tests.clients.loop import check_rounds, sse_responses
from tests.clients.steady import NUM_CALLS, NUM_ROUNDS
from tests.clients.tape import Tape

from turnwire.config import WebSocketConfig

VERSION = "0.171.0"
CONFIG = """\
model = "harmless"
model_provider = "turnwire"
approval_policy = "never"
sandbox_mode = "read-only"
check_for_update_on_startup = false

[model_providers.turnwire]
name = "Turnwire"
base_url = "{url}/v1"
env_key = "TURNWIRE_KEY"
wire_api = "responses"
supports_websockets = {websockets}

[analytics]
enabled = false

[features]
plugins = false
apps = false
"""


@pytest.fixture(scope="session")
def codex() -> Path:
    """The binary inside the package of this platform."""
    modules = npm("codex", [f"@openai/codex@{VERSION}"]) / "node_modules" / "@openai"
    (binary,) = modules.glob("codex-linux-*/vendor/*/bin/codex")
    return binary


def events(printed: str) -> list[dict[str, Any]]:
    """What `codex exec --json` reports."""
    return [json.loads(line) for line in printed.splitlines()]


def messages(reported: list[dict[str, Any]]) -> list[str]:
    """The model's messages."""
    items = [event["item"] for event in reported if event["type"] == "item.completed"]
    return [item["text"] for item in items if item["type"] == "agent_message"]


def home(folder: Path, tape: Tape, *, websockets: bool) -> dict[str, str]:
    """Codex's own folder, with a configuration in it."""
    path = folder / "codex"
    path.mkdir()
    told = CONFIG.format(url=tape.url, websockets=str(websockets).lower())
    (path / "config.toml").write_text(told)
    return {"CODEX_HOME": str(path), "TURNWIRE_KEY": "any"}


@pytest.mark.parametrize(
    ("tape", "compressed"),
    [(WebSocketConfig(), False), (WebSocketConfig(compression=True), True)],
    indirect=["tape"],
    ids=["plain", "compressed"],
)
async def test_codex_over_websocket(
    codex: Path, tape: Tape, program: Program, tmp_path: Path, proven: Proven, compressed: bool
) -> None:
    """Two runs of one conversation: each warms up, then sends what is new, on one WebSocket."""
    env = home(tmp_path, tape, websockets=True)
    options = ["--skip-git-repo-check", "--json"]
    first = events(await program([codex, "exec", *options, "Plan the day."], env))
    second = events(await program([codex, "exec", "resume", "--last", *options, "And now?"], env))

    tape.check_clean()
    assert [] == tape.posts
    assert 2 == len(tape.sockets)
    for socket, reported in zip(tape.sockets, (first, second), strict=True):
        assert (socket.num_compressed > 0) is compressed
        warm_up, *creates = socket.creates
        assert warm_up["generate"] is False
        assert socket.headers["authorization"] == "Bearer any"
        said = check_rounds(creates, socket.responses[1:], "get_goal")
        assert [said] == messages(reported)
        parents = [response["id"] for response in socket.responses[:-1]]
        assert parents == [create["previous_response_id"] for create in creates]
        assert [NUM_CALLS] * NUM_ROUNDS == [len(create["input"]) for create in creates[1:]]
        for before, after in pairwise(response["usage"] for response in socket.responses[1:]):
            cached = after["input_tokens_details"]["cached_tokens"]
            assert cached >= before["input_tokens"] - 16
    fact = (
        "`exec` and `exec resume`: a warm-up each, then only what is new; tool rounds; "
        "no fallback to HTTP"
    )
    transport = "WebSocket, compressed" if compressed else "WebSocket"
    proven("Codex CLI", VERSION, transport, fact)


@pytest.mark.parametrize("tape", [WebSocketConfig(enabled=False)], indirect=True, ids=["refused"])
async def test_codex_where_websockets_are_off(
    codex: Path, tape: Tape, program: Program, tmp_path: Path, proven: Proven
) -> None:
    """A server without WebSockets answers 426; Codex goes on over HTTP, and nobody notices."""
    env = home(tmp_path, tape, websockets=True)
    options = ["--skip-git-repo-check", "--json"]
    reported = events(await program([codex, "exec", *options, "Plan the day."], env))
    assert [] == tape.sockets
    assert {426} == {exchange.status for exchange in tape.exchanges if exchange.upgrade}
    assert {200} == {post.status for post in tape.posts}
    assert 1 == len(messages(reported))
    assert "error" not in {event["type"] for event in reported}
    fact = "where the server has WebSockets off: told 426, it goes on over HTTP without an error"
    proven("Codex CLI", VERSION, "HTTP", fact)


async def test_codex_over_http(
    codex: Path, tape: Tape, program: Program, tmp_path: Path, proven: Proven
) -> None:
    """Told not to use WebSockets, it streams over HTTP and sends the whole conversation."""
    env = home(tmp_path, tape, websockets=False)
    printed = await program(
        [codex, "exec", "--skip-git-repo-check", "--json", "Plan the day."], env
    )
    tape.check_clean()
    assert [] == tape.sockets
    creates = [post.create for post in tape.posts]
    assert [check_rounds(creates, sse_responses(tape), "get_goal")] == messages(events(printed))
    for before, after in pairwise(creates):
        assert before["input"] == after["input"][: len(before["input"])]
    proven("Codex CLI", VERSION, "HTTP", "tool rounds, the whole conversation each time")
