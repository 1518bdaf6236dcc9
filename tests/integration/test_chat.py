"""`turnwire chat` as a process at a terminal."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

PATIENCE_SEC: Final = 60.0
PROMPT: Final = "> "
_ESCAPE: Final = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
COMMAND: Final = [sys.executable, "-m", "turnwire.cli.main"]


def environment(folder: Path, **more: str) -> dict[str, str]:
    """One without settings, and with a home of its own."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("TURNWIRE_")}
    return {**env, "HOME": str(folder), "TERM": "xterm-256color", "COLUMNS": "200", **more}


class Person:
    """Somebody at the terminal of a program.

    Attributes:
        process: The program.
        seen: Everything on the screen so far, colours included.
    """

    def __init__(self, process: subprocess.Popen[bytes], terminal: int) -> None:
        self.process = process
        self.seen = ""
        self._terminal = terminal
        self._read = 0

    def until(self, *words: str) -> str:
        """Wait until the words were shown in this order; return what was shown up to them."""
        deadline = time.monotonic() + PATIENCE_SEC
        begin = self._read
        for word in words:
            while (place := self.seen.find(word, self._read)) < 0:
                ready, _, _ = select.select([self._terminal], [], [], 0.2)
                assert time.monotonic() < deadline, f"no {word!r} in {self.seen[begin:]!r}"
                if ready:
                    try:
                        data = os.read(self._terminal, 65536)
                    except OSError:  # Linux says so at the end
                        data = b""
                    assert data, f"it ended without {word!r}: {self.seen[begin:]!r}"
                    self.seen += data.decode("utf-8", "replace").replace("\r\n", "\n")
            self._read = place + len(word)
        return self.seen[begin : self._read]

    def type(self, text: str) -> None:
        """Press these keys."""
        os.write(self._terminal, text.encode())

    def ask(self, text: str) -> str:
        """Ask, and return all that is shown, to the next prompt."""
        self.type(text + "\n")
        return _ESCAPE.sub("", self.until(" out", "\n", PROMPT))


@contextmanager
def chatting(env: Mapping[str, str], *arguments: str) -> Iterator[Person]:
    """Run the command at a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, "chat", *arguments],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=dict(env),
        start_new_session=True,
        preexec_fn=_take_terminal,
    )
    os.close(theirs)
    try:
        yield Person(process, ours)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        os.close(ours)


def _take_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
    # A shell that starts these tests in the background has its programs ignore Ctrl-C.
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_a_conversation_with_a_server_of_its_own(tmp_path: Path) -> None:
    """Answers stream, the past is known and cached, thoughts are dim, and Ctrl-D leaves."""
    with chatting(environment(tmp_path), "--model", "sim") as person:
        person.until("sim; /help", PROMPT)
        first = person.ask("Hello")
        assert re.search(r"\d+ tokens in \(0 cached\), \d+ out; first after \d+ ms", first)
        second = person.ask("And?")
        cached = re.search(r"tokens in \((\d+) cached\)", second)
        assert cached is not None
        assert int(cached[1]) > 0

        person.type("/effort low\n")
        person.until("effort: low", PROMPT)
        person.type("Why?\n")
        thought = person.until(" out", "\n", PROMPT)
        assert "\x1b[2;3m" in thought

        person.type("/model nobody\n")
        person.until("there are sim, sim-65", PROMPT)
        person.type("/model sim-4000\n")
        person.until("sim-4000 answers", PROMPT)
        person.type("/reset\n")
        person.until("a new conversation", PROMPT)
        assert "(0 cached)" in person.ask("Hello")
        person.type("\x04")
        assert 0 == person.process.wait(PATIENCE_SEC)
    assert "Traceback" not in person.seen


def test_texts_of_many_lines(tmp_path: Path) -> None:
    """A backslash and three quotes both go on; what is sent is one question."""
    with chatting(environment(tmp_path), "--model", "sim") as person:
        person.until(PROMPT)
        person.type("one \\\ntwo\n")
        person.until("... ", " out", PROMPT)
        person.type('"""\none\n\n/two\n"""\n')
        person.until("... ", "... ", "... ", "... ", " out", PROMPT)
        person.type("/quit\n")
        assert 0 == person.process.wait(PATIENCE_SEC)


def test_control_c_cancels_the_answer_and_not_the_program(tmp_path: Path) -> None:
    """The answer ends at once, and the conversation goes on behind the one before it."""
    (tmp_path / "turnwire.toml").write_text(
        '[models]\nembedded = []\n[engine.slow]\nkind = "sim"\ntokens_per_sec = 5\n'
        '[model.slow]\nengine = "slow"\nprices = { input = 1, output = 2 }\n'
    )
    with chatting(environment(tmp_path), "--config", str(tmp_path / "turnwire.toml")) as person:
        person.until("slow; /help", PROMPT)
        person.type("Hello\n")
        person.until("Hello\n", " ")
        person.type("\x03")
        person.until("cancelled", PROMPT)
        person.type("\x03")
        person.until("Ctrl-D leaves", PROMPT)
        person.type("Again\n")
        person.until("Again\n", " ")
        person.type("\x03")
        person.until("cancelled", PROMPT)
        person.type("\x04")
        assert 0 == person.process.wait(PATIENCE_SEC)
    assert "Traceback" not in person.seen


def test_a_server_that_restarts_is_talked_to_again(tmp_path: Path) -> None:
    """A new connection is sent the whole conversation, and the answer is as if none was lost."""
    env = environment(tmp_path, TURNWIRE_KEY="sk-chat-0123456789")
    served = {**env, "TURNWIRE_API_KEY": "sk-chat-0123456789"}

    @contextmanager
    def serving(port: str) -> Iterator[str]:
        with subprocess.Popen(
            [*COMMAND, "serve", "--port", port, "--data-dir", str(tmp_path / "data")],
            env=served,
            stdout=subprocess.PIPE,
        ) as process:
            assert process.stdout is not None
            ready = re.search(rb"http://\S+", process.stdout.readline())
            assert ready is not None
            try:
                yield ready[0].decode()
            finally:
                process.send_signal(signal.SIGTERM)

    with serving("0") as url:
        port = url.removesuffix("/v1").rpartition(":")[2]
        with chatting(env, "--url", url, "--model", "sim") as other:
            other.until(PROMPT)
            other.ask("Hello")
            expected = other.ask("And?")
        with chatting({**env, "TURNWIRE_KEY": "wrong"}, "--url", url) as stranger:
            stranger.until("wants a key: put one of its keys into TURNWIRE_KEY")
            assert 1 == stranger.process.wait(PATIENCE_SEC)
        with chatting(env, "--url", url, "--model", "nobody") as lost:
            lost.until("there is no model 'nobody'; there are sim,")
            assert 2 == lost.process.wait(PATIENCE_SEC)
        talk = chatting(env, "--url", url, "--model", "sim")
        person = talk.__enter__()
        person.until(PROMPT)
        person.ask("Hello")
    try:
        person.type("Too early\n")
        person.until("Cannot reach", PROMPT)
        with serving(port):
            again = person.ask("And?")
    finally:
        talk.__exit__(None, None, None)
    numbers = r"\d+ tokens in|\d+ out"
    assert re.findall(numbers, expected) == re.findall(numbers, again)
    assert expected.splitlines()[1] == again.splitlines()[1]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (
            ["--url", "http://127.0.0.1:1"],
            1,
            "Cannot reach http://127.0.0.1:1: Connection refused. Is `turnwire serve` running",
        ),
        (["--url", "127.0.0.1:1"], 2, "'127.0.0.1:1' is not the address of a server, like http"),
        (["--effort", "huge"], 2, "there is no effort 'huge'"),
        (["--config", "/nowhere.toml"], 2, "Cannot read the configuration file"),
        (["--serve", "nothing"], 2, "expected FILE.gguf"),
    ],
)
def test_what_is_in_the_way_is_said(
    tmp_path: Path, arguments: list[str], code: int, said: str
) -> None:
    """In one line, and with an exit code that says whose turn it is."""
    ended = subprocess.run(
        [*COMMAND, "chat", *arguments],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        input="",
        timeout=PATIENCE_SEC,
    )
    assert (code, 1) == (ended.returncode, len(ended.stderr.splitlines()))
    assert said in ended.stderr


def test_questions_come_through_a_pipe(tmp_path: Path) -> None:
    """A script may ask too, one question a line; on standard output are the answers alone."""
    ended = subprocess.run(
        [*COMMAND, "chat", "--model", "sim"],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        input="Hello\nAnd?\n",
        timeout=PATIENCE_SEC,
    )
    assert (0, 2) == (ended.returncode, len(ended.stderr.splitlines()))
    assert 2 == ended.stderr.count(" tokens in (")
    assert ended.stdout.strip()
    assert [] == [words for words in (" tokens in (", "/help", "> ") if words in ended.stdout]
