"""A server of the demo's own: a process that is started, watched from outside and ended.

It is a process and not a thread, so that the client's work and the server's do not share an
interpreter, and so that the server's processor time can be told from the client's.
"""

from __future__ import annotations

import re
import select
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final
from urllib.parse import urlsplit

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from turnwire.errors import TurnwireError

__all__ = ["Counters", "DemoFailed", "ServerProcess", "read_counters", "start_server"]

START_LIMIT_SEC: Final = 60.0
STOP_LIMIT_SEC: Final = 10.0
SCRAPE_LIMIT_SEC: Final = 10.0
_READY: Final = re.compile(r"ready at (http://[^/\s]+)")
_NS_PER_SEC: Final = 1e9


class DemoFailed(TurnwireError):
    """The demo cannot go on; the message says why in one sentence."""


class Counters(Struct, frozen=True, kw_only=True):
    """What a server has counted since it started.

    Attributes:
        received_bytes: Of request bodies and of WebSocket messages, without HTTP headers and
            frame headers.
        rendered_tokens: Tokens that its tokenizer made.
    """

    received_bytes: int
    rendered_tokens: int


def read_counters(page: str) -> Counters:
    """Read a page of metrics in the Prometheus text format; what is missing counts as 0."""
    totals: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            totals[sample.name] = totals.get(sample.name, 0.0) + sample.value
    return Counters(
        received_bytes=int(totals.get("turnwire_received_bytes_total", 0)),
        rendered_tokens=int(totals.get("turnwire_rendered_tokens_total", 0)),
    )


class ServerProcess:
    """A server that runs.

    Attributes:
        url: Where it listens: `http://127.0.0.1:40123`.
        pid: Of its process.
    """

    def __init__(self, url: str, pid: int, scraper: HTTPConnection) -> None:
        """Made by `start_server`."""
        self.url: Final = url
        self.pid: Final = pid
        self._scraper: Final = scraper

    def counters(self) -> Counters:
        """Ask for its metrics.

        Raises:
            DemoFailed: it does not answer.
        """
        try:
            self._scraper.request("GET", "/metrics")
            return read_counters(self._scraper.getresponse().read().decode())
        except OSError as error:
            raise DemoFailed(f"The server does not show its metrics: {error}") from error

    def cpu_sec(self) -> float | None:
        """Processor seconds that its threads have used, or None where the system does not say."""
        try:
            # proc(5), schedstat: the first number is time on the processor, in nanoseconds.
            # The better known `stat` counts in steps of 10 ms, the time of a whole turn.
            threads = list(Path(f"/proc/{self.pid}/task").iterdir())
            used = [int((thread / "schedstat").read_text().split()[0]) for thread in threads]
        except (OSError, ValueError, IndexError):
            return None
        return sum(used) / _NS_PER_SEC if used else None


@contextmanager
def start_server(env: Mapping[str, str]) -> Iterator[ServerProcess]:
    """Start a server on a free loopback port, with an empty data directory; end it on leaving.

    Args:
        env: The environment to start it in. Settings for other servers are left out: this one
            is to be as it comes, but for one thing: it does not recognise conversations that
            are sent again in full, so that it shows what sending them costs elsewhere.

    Raises:
        DemoFailed: it did not become ready.
    """
    with TemporaryDirectory(prefix="turnwire-demo-") as folder:
        arguments = ["serve", "--host", "127.0.0.1", "--port", "0", "--data-dir", folder]
        with (
            (Path(folder) / "server.log").open("w+b") as log,
            subprocess.Popen(  # noqa: S603 - this interpreter, and fixed arguments
                [sys.executable, "-m", "turnwire.cli.main", *arguments],
                env={
                    **{name: env[name] for name in env if not name.startswith("TURNWIRE_")},
                    "TURNWIRE_LIMITS__MAX_KNOWN_BYTES": "0",
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
            ) as process,
        ):
            try:
                url = _wait_until_ready(process, Path(log.name))
                place = urlsplit(url)
                scraper = HTTPConnection(place.hostname or "", place.port, timeout=SCRAPE_LIMIT_SEC)
                with closing(scraper):
                    yield ServerProcess(url, process.pid, scraper)
            finally:
                _stop(process)


def _wait_until_ready(process: subprocess.Popen[bytes], log: Path) -> str:
    """The server's address, from the line that it prints."""
    output = process.stdout
    if output is None:
        raise AssertionError("it was started with a pipe")
    # The line is written at once, so that what can be read is all of it.
    readable, _, _ = select.select([output], [], [], START_LIMIT_SEC)
    if not readable:
        raise DemoFailed(f"The server was not ready within {START_LIMIT_SEC:g} seconds.")
    line = output.readline().decode(errors="replace")
    ready = _READY.search(line)
    if ready is None:
        said = log.read_text("utf-8", errors="replace").strip().splitlines()
        raise DemoFailed(f"The server did not start: {said[-1] if said else line.strip()}")
    return ready[1]


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(STOP_LIMIT_SEC)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
