"""The demonstration, as a person runs it: real processes, the official client, both arms."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from turnwire.cli.demo_report import Report

LIMIT_SEC = 100
COMMAND = (sys.executable, "-m", "turnwire.cli.main", "demo", "--model", "sim")


def environment(folder: Path) -> dict[str, str]:
    """Temporary files go to the folder, and a setting of ours is there to be left out."""
    return {**os.environ, "TMPDIR": str(folder), "TURNWIRE_PORT": "not a port"}


def demo(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=LIMIT_SEC,
        check=False,
    )


def test_both_arms_agree_and_websocket_sends_less(tmp_path: Path) -> None:
    """The same calls and texts over both; over WebSocket less is sent and less is rendered."""
    ended = demo(tmp_path, "--turns", "4", "--rounds", "1", "--json")
    assert (0, "") == (ended.returncode, ended.stderr)
    report = msgspec.json.decode(ended.stdout, type=Report)
    assert report.answers_equal
    http, websocket = report.http, report.websocket
    assert [5, 5] == [len(arm.per_turn) for arm in (http, websocket)]
    assert [True] * 4 + [False] == [turn.call != "" for turn in websocket.per_turn]
    assert websocket.sent_bytes < http.sent_bytes
    assert websocket.rendered_tokens < http.rendered_tokens
    # The prompts are the same, token for token, and so is what the engine had of them.
    assert [turn.prompt_tokens for turn in http.per_turn] == [
        turn.prompt_tokens for turn in websocket.per_turn
    ]
    assert [turn.cached_tokens for turn in http.per_turn] == [
        turn.cached_tokens for turn in websocket.per_turn
    ]
    # Resending, a turn renders the conversation before it again; otherwise no more than it adds.
    assert http.per_turn[-1].rendered_tokens > http.per_turn[-2].rendered_tokens
    grown = websocket.per_turn[-1].prompt_tokens - websocket.per_turn[-2].prompt_tokens
    assert websocket.per_turn[-1].rendered_tokens <= grown


def test_the_comparison_is_printed_and_nothing_is_left(tmp_path: Path) -> None:
    """People get a table on standard output, and no folder of the demo outlives it."""
    ended = demo(tmp_path, "--turns", "1", "--rounds", "1")
    assert 0 == ended.returncode, ended.stderr
    assert "answers equal: yes" in ended.stdout
    assert "The model is simulated" in ended.stdout
    assert [] == list(tmp_path.iterdir())


def _hear_sigint() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@pytest.mark.parametrize(
    ("sent", "code"), [(signal.SIGTERM, 128 + signal.SIGTERM), (signal.SIGINT, 128 + signal.SIGINT)]
)
def test_a_demo_that_is_ended_leaves_nothing(tmp_path: Path, sent: int, code: int) -> None:
    """Told to end in mid-loop, it ends its server and removes its folders."""
    with subprocess.Popen(
        [*COMMAND, "--turns", "100000"],
        env=environment(tmp_path),
        # A test run in the background inherits that SIGINT is ignored, and so would the demo.
        preexec_fn=_hear_sigint,
    ) as running:
        # The project's folder is made when a server answers and the loop begins.
        while not list(tmp_path.glob("turnwire-project-*")):
            assert running.poll() is None
            time.sleep(0.02)
        running.send_signal(sent)
        assert code == running.wait(LIMIT_SEC)
    assert [] == list(tmp_path.iterdir())
