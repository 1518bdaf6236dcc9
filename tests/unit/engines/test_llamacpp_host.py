"""Tests of `turnwire.engines.llamacpp_host`: a process that lives as long as its parent wants."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import Final

import msgspec
import pytest
from tests.random_model import random_model

from turnwire.engines.llamacpp_host import Settings, Started

SETTINGS = Settings(path=str(random_model()), api_key="k", window=256, slots=1, threads=1)

Process = subprocess.Popen[bytes]


def start(code: str = "from turnwire.engines.llamacpp_host import main; main()") -> Process:
    """A process that was told what to serve."""
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    process.stdin.write(msgspec.json.encode(SETTINGS) + b"\n")
    process.stdin.flush()
    return process


def test_it_ends_with_its_input() -> None:
    """It says where it listens, outlives a Ctrl-C, and ends when its input does."""
    with start() as process:
        assert process.stdin is not None
        assert process.stdout is not None
        started = msgspec.json.decode(process.stdout.readline(), type=Started)
        assert started.url.startswith("http://127.0.0.1:")
        process.send_signal(signal.SIGINT)
        assert process.poll() is None
        process.stdin.close()
        assert 0 == process.wait(30)


def test_what_cannot_be_loaded_is_said() -> None:
    """Without a URL, and the process has ended."""
    told = msgspec.structs.replace(SETTINGS, path="/nothing.gguf")
    done = subprocess.run(
        [sys.executable, "-m", "turnwire.engines.llamacpp_host"],
        input=msgspec.json.encode(told) + b"\n",
        capture_output=True,
        check=True,
        timeout=60,
    )
    assert "" == msgspec.json.decode(done.stdout, type=Started).url
    assert b"nothing.gguf" in done.stderr


PARENT: Final = (
    "import subprocess, sys\n"
    "subprocess.run([sys.executable, '-m', 'turnwire.engines.llamacpp_host'])\n"
)


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for it")
def test_it_ends_with_its_parent() -> None:
    """Also where its input goes on, as it does for as long as nobody looks at it."""
    with start(PARENT) as parent:
        assert parent.stdout is not None
        assert msgspec.json.decode(parent.stdout.readline(), type=Started).url
        parent.kill()
        assert b"" == parent.stdout.read()  # nobody holds the other end any more
