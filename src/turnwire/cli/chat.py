"""`turnwire chat`: talk to a model in a terminal."""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Final, get_args

from rich.console import Console
from rich.text import Text

from turnwire.cli.chat_link import Link, Lost
from turnwire.cli.chat_turn import Answer, Chat, Piece, Tone
from turnwire.cli.failing import exit_code, fail
from turnwire.config import Config, load
from turnwire.errors import TurnwireError
from turnwire.protocol.requests import Effort
from turnwire.telemetry import logs

__all__ = ["run"]

STYLES: Final[Mapping[Tone, str]] = {
    "said": "",
    "thought": "dim italic",
    "note": "dim",
    "fault": "red",
}
HELP: Final = """\
/model [NAME]   ask another model, or say which there are
/effort [LEVEL] how hard it is to think, or its own way
/reset          begin a new conversation
/quit           leave; so does Ctrl-D
Ctrl-C cancels an answer. A line that ends in \\ goes on in the next one; \"\"\" begins a text of
many lines, and another \"\"\" ends it.
"""
BLOCK: Final = '"""'


def run(
    path: Path | None,
    env: Mapping[str, str],
    *,
    url: str | None,
    model: str | None,
    effort: str | None,
    given: list[str],
) -> int:
    """Talk until the person leaves.

    Args:
        path: Configuration of a server that is run for this, or None.
        env: The environment. `TURNWIRE_KEY` is the key for `url`.
        url: Of a server that runs; None to run one in this process.
        model: Who to ask; None for the first that there is.
        effort: How hard it is to think.
        given: Models as `serve --model` names them, for a server that is run for this.

    Returns:
        The exit code. 0: the person left. 1: the server cannot be reached or run. 2: the
        configuration or an option cannot be used.
    """
    if effort is not None and effort not in get_args(Effort):
        return fail(f"there is no effort {effort!r}; there are {', '.join(get_args(Effort))}", 2)
    try:
        config = load(path, env, {"model": given})
        logs.configure("error", "console")
        with Link(url, env.get("TURNWIRE_KEY", "none"), config) as link:
            there = link.models()
            if not there:
                return fail("the server offers no model", 1)
            if model is not None and model not in there:
                return fail(f"there is no model {model!r}; there are {', '.join(there)}", 2)
            _Terminal(link, Chat(model or there[0], effort), there, config).talk()
    except (TurnwireError, OSError, KeyboardInterrupt) as error:
        return exit_code(error)
    return 0


class _Terminal:
    """A person at a terminal, and a conversation over a link."""

    def __init__(self, link: Link, chat: Chat, models: list[str], config: Config) -> None:
        self._link: Final = link
        self._chat: Final = chat
        self._models: Final = models
        self._config: Final = config
        self._console: Final = Console(highlight=False, soft_wrap=True)
        # What the model did not say stays out of a file or a pipe.
        self._aside: Final = Console(highlight=False, soft_wrap=True, stderr=True)
        self._typed: Final = sys.stdin.isatty()

    def talk(self) -> None:
        """Read, ask and show, until there is no more to read."""
        if self._typed:
            with suppress(ImportError):
                import readline  # noqa: F401 - lines can then be edited and called back
            self._show(Piece(f"{self._chat.model}; /help says what else there is\n", "note"))
        while (text := self._read()) is not None:
            if text.startswith("/"):
                if not self._command(*text[1:].split(maxsplit=1)):
                    return
            elif text:
                self._ask(text)

    def _read(self) -> str | None:
        """What the person wrote, "" for nothing; None at the end."""
        lines: list[str] = []
        block = False
        while True:
            prompt = "... " if lines or block else "> "
            try:
                line = input(prompt if self._typed else "")
            except KeyboardInterrupt:
                self._show(Piece("\nCtrl-D leaves\n", "note"))
                return ""
            except EOFError:
                if not lines:
                    if self._typed:
                        self._show(Piece("\n", "note"))
                    return None
                return "\n".join(lines)
            if line.strip() == BLOCK:
                if block:
                    return "\n".join(lines)
                block = True
            elif block:
                lines.append(line)
            elif line.endswith("\\"):
                lines.append(line[:-1])
            else:
                return "\n".join([*lines, line]).strip()

    def _command(self, name: str = "", value: str = "") -> bool:
        """Carry a command out; return whether to go on."""
        match name:
            case "quit" | "exit":
                return False
            case "reset":
                self._chat.reset()
                self._show(Piece("a new conversation\n", "note"))
            case "model" if value in self._models:
                self._chat.model = value
                self._show(Piece(f"{value} answers from now on\n", "note"))
            case "model":
                self._show(Piece(f"there are {', '.join(self._models)}\n", "note"))
            case "effort" if not value or value in get_args(Effort):
                self._chat.effort = value or None
                self._show(Piece(f"effort: {value or 'its own'}\n", "note"))
            case "effort":
                self._show(Piece(f"there are {', '.join(get_args(Effort))}\n", "note"))
            case _:
                self._show(Piece(HELP, "note"))
        return True

    def _ask(self, text: str) -> None:
        answer = self._answer(text)
        if answer.unknown_parent and self._chat.latest is not None:
            self._chat.disconnected()
            answer = self._answer(text)
        self._chat.keep(text, answer)

    def _answer(self, text: str) -> Answer:
        chat = self._chat
        offer = self._config.model.get(chat.model)
        answer = Answer(time.monotonic(), offer.prices if offer is not None else None)
        while not self._link.events.empty():  # of a connection that ended since
            if isinstance(self._link.events.get(), Lost):
                chat.disconnected()
        with self._interruptible():
            try:
                self._link.send(chat.ask(text))
            except TurnwireError as error:
                self._show(*answer.lost(str(error)))
                return answer
            while not answer.ended:
                event = self._link.events.get()
                if isinstance(event, Lost):
                    chat.disconnected()
                    self._show(*answer.lost(event))
                elif pieces := answer.feed(event, time.monotonic()):
                    self._show(*pieces)
        return answer

    @contextmanager
    def _interruptible(self) -> Iterator[None]:
        """Let Ctrl-C end the answer, and nothing else."""

        def cancel(number: int, frame: FrameType | None) -> None:
            self._link.cancel()

        before = signal.signal(signal.SIGINT, cancel)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _show(self, *pieces: Piece) -> None:
        for piece in pieces:
            console = self._aside if piece.tone in ("note", "fault") else self._console
            console.print(Text(piece.text, style=STYLES[piece.tone]), end="")
            console.file.flush()
