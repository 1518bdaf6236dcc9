from __future__ import annotations

import os
from pathlib import Path

import pytest

from turnwire.cli.demo_server import (
    Counters,
    DemoFailed,
    ServerProcess,
    read_counters,
    start_server,
)
from turnwire.telemetry.metrics import Metrics

READY = """
import signal, sys
print("Turnwire is ready at http://127.0.0.1:9/v1 (models: sim)", flush=True)
signal.pause()
"""
STUBBORN = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)" + READY
SILENT = "import signal\nsignal.pause()"
TELLS = """
import os, sys
sys.exit(" ".join(sorted(name for name in os.environ if "URN" in name)) + " " + sys.argv[-2])
"""


def environment(folder: Path, program: str, **more: str) -> dict[str, str]:
    """One in which `turnwire.cli.main` is this program."""
    package = folder / "turnwire" / "cli"
    package.mkdir(parents=True)
    (package / "main.py").write_text(program)
    for init in (package, package.parent):
        (init / "__init__.py").touch()
    return {**os.environ, "PYTHONPATH": str(folder), **more}


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_counters_are_those_of_the_metrics_page() -> None:
    """Bytes and tokens are added up over every label of their metrics."""
    metrics = Metrics()
    metrics.received("http", 100)
    metrics.received("websocket", 20)
    metrics.context_rendered("full", "first", 7)
    metrics.context_rendered("append", "", 2)
    page = metrics.render().decode()
    assert Counters(received_bytes=120, rendered_tokens=9) == read_counters(page)


def test_a_page_without_the_metrics_counts_nothing() -> None:
    """What is missing is 0."""
    assert Counters(received_bytes=0, rendered_tokens=0) == read_counters("")


@pytest.mark.parametrize("program", [READY, STUBBORN], ids=["obedient", "stubborn"])
def test_a_server_is_ended(tmp_path: Path, program: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server runs while the context is open, and is gone after it, asked or made to."""
    monkeypatch.setattr("turnwire.cli.demo_server.STOP_LIMIT_SEC", 0.1)
    with start_server(environment(tmp_path, program)) as server:
        assert "http://127.0.0.1:9" == server.url
        assert is_running(server.pid)
    assert not is_running(server.pid)


def test_a_server_is_ended_after_a_failure(tmp_path: Path) -> None:
    """An error inside the context ends the server too, and passes on."""
    pids: list[int] = []

    def fail() -> None:
        with start_server(environment(tmp_path, READY)) as server:
            pids.append(server.pid)
            raise LookupError("of the loop")

    with pytest.raises(LookupError, match="of the loop"):
        fail()
    assert [False] == [is_running(pid) for pid in pids]


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    """The last line of its log becomes the error; settings for others do not reach it."""
    env = environment(tmp_path, TELLS, TURNWIRE_PORT="1", TURNWIRE_API_KEY="secret", TURNS="2")
    with (
        pytest.raises(
            DemoFailed,
            match=r"^The server did not start: TURNS TURNWIRE_LIMITS__MAX_KNOWN_BYTES --data-dir$",
        ),
        start_server(env),
    ):
        raise AssertionError("it is not ready")


def test_a_server_that_is_never_ready_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Starting has a limit."""
    monkeypatch.setattr("turnwire.cli.demo_server.START_LIMIT_SEC", 0.0)
    with (
        pytest.raises(DemoFailed, match="not ready within 0 seconds"),
        start_server(environment(tmp_path, SILENT)),
    ):
        raise AssertionError("it is not ready")


def test_a_server_that_is_gone_shows_no_metrics(tmp_path: Path) -> None:
    """Nobody listens at the address: an error of the demo's own."""
    with (
        start_server(environment(tmp_path, READY)) as server,
        pytest.raises(DemoFailed, match="does not show its metrics"),
    ):
        server.counters()


def test_processor_time_only_grows() -> None:
    """A process's processor time is known where the system shows it, and never shrinks."""
    here = ServerProcess("http://127.0.0.1:9", os.getpid(), None)  # type: ignore[arg-type]
    before = here.cpu_sec()
    if Path(f"/proc/{os.getpid()}/schedstat").exists():
        assert before is not None
        sum(range(100_000))
        assert (here.cpu_sec() or 0.0) >= before
    else:
        assert before is None


def test_processor_time_of_no_process_is_unknown() -> None:
    """Where the system does not say, the time is None rather than 0."""
    # Process ids are at most 2**22 (proc(5), pid_max).
    nowhere = ServerProcess("http://127.0.0.1:9", 2**22 + 1, None)  # type: ignore[arg-type]
    assert nowhere.cpu_sec() is None
