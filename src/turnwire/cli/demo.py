"""`turnwire demo`: one agent loop over HTTP and over WebSocket, side by side.

What is fixed: the loop (`demo_loop`), its tools and files (`demo_tools`), the model, the client
library, the machine. What differs: HTTP sends the whole conversation with every request and the
server keeps nothing; WebSocket sends what is new.

Every arm of every round has a server process of its own, and a fresh folder. Servers without keys
see all clients as one owner, whose prompts share the engine's prefix cache; on one server the
second arm would find the first one's conversation there. The order of the arms alternates from
round to round, so that neither is always the one that comes first.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any, Final, TypeVar

import msgspec
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from turnwire.cli.demo_report import Machine, Report, conclude, heading, same_path, summarise, table
from turnwire.cli.demo_server import DemoFailed, start_server
from turnwire.cli.demo_turn import ARMS, Arm, Turn
from turnwire.cli.failing import fail
from turnwire.engines.sim import SIM_PROFILES

__all__ = ["run"]

T = TypeVar("T")

NEEDED: Final = ("openai", "websockets")
"""What the extra brings."""

LOOPBACK: Final = "127.0.0.1"

HOW: Final = (
    "The model is simulated: its words, its choice of tools and its speed are made up. The "
    "server, the tokenizer, the prompts, the client library and the tools are real. The rest is "
    "the time that neither the model's profile nor the tools account for. Bytes are those of "
    "request bodies and messages, without headers. The server is told to forget what was sent "
    "over HTTP, as stateless servers do; otherwise it recognises most of it."
)


def run(*, turns: int, model: str, rounds: int, as_json: bool) -> int:
    """Play the loop over both, and print what it took.

    Args:
        turns: Tool calls in the loop, at least 1.
        model: One of the simulated models.
        rounds: How often each arm is played, at least 1.
        as_json: Print a `Report` as JSON, and nothing else.

    Returns:
        The exit code. 0: both arms made the same calls and said the same. 1: they did not, or
        something broke. 2: the extra is missing, or there is no such model. On 1 and 2 one line
        on standard error says what to do.
    """
    if any(find_spec(name) is None for name in NEEDED):
        return fail("the demo needs the client library: pip install 'turnwire[demo]'", 2)
    if model not in SIM_PROFILES:
        return fail(f"there is no model {model!r}; there are {', '.join(SIM_PROFILES)}", 2)
    _avoid_proxies()
    try:
        with _terminated_in_order():
            played = _play(turns, model, rounds, os.environ, quiet=as_json)
    except DemoFailed as error:
        return fail(error, 1)
    loops = [loop for arm in ARMS for loop in played[arm]]
    report = Report(
        model=model,
        tool_calls=turns,
        rounds=rounds,
        answers_equal=same_path(loops),
        http=summarise(played["http"], SIM_PROFILES[model]),
        websocket=summarise(played["websocket"], SIM_PROFILES[model]),
        machine=Machine.here(),
    )
    if as_json:
        typer.echo(msgspec.json.encode(report).decode())
    else:
        _print(report)
    if not report.answers_equal:
        return fail("the arms did not get the same answers; at least one of them is wrong", 1)
    return 0


def _avoid_proxies() -> None:
    """Reach the server directly where the environment names a proxy for everything else.

    The client library takes no setting for that which leaves the rest of it as it comes.
    """
    for name in ("no_proxy", "NO_PROXY"):
        known = os.environ.get(name)
        os.environ[name] = f"{known},{LOOPBACK}" if known else LOOPBACK


@contextmanager
def _terminated_in_order() -> Iterator[None]:
    """Let SIGTERM leave every context, as Ctrl-C does: no server of ours outlives the demo."""

    def leave(number: int, frame: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


async def _until_told(work: Coroutine[Any, Any, T]) -> T:
    """Await it; SIGTERM cancels it.

    An exception out of a signal handler comes up wherever the interpreter is, and can be lost in
    somebody's callback.
    """
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine runs in a task")
    loop, told = asyncio.get_running_loop(), asyncio.Event()

    def end() -> None:
        told.set()
        task.cancel()

    before = signal.getsignal(signal.SIGTERM)
    loop.add_signal_handler(signal.SIGTERM, end)
    try:
        return await work
    except asyncio.CancelledError:
        if told.is_set():
            raise SystemExit(128 + signal.SIGTERM) from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGTERM)
        signal.signal(signal.SIGTERM, before)


def _play(
    turns: int, model: str, rounds: int, env: Mapping[str, str], *, quiet: bool
) -> dict[Arm, list[list[Turn]]]:
    """The rounds of each arm.

    Raises:
        DemoFailed: one did not come to its end.
    """
    # Here, because this takes a second, and needs the extra.
    from turnwire.cli.demo_loop import play

    played: dict[Arm, list[list[Turn]]] = {arm: [] for arm in ARMS}
    # Drawn by hand, between two turns: a thread that draws would take time from the client.
    progress = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
        disable=quiet,
    )
    with progress:
        bar = progress.add_task("starting", total=2 * rounds * (turns + 1))
        for number in range(rounds):
            for arm in ARMS if number % 2 == 0 else reversed(ARMS):
                where = f"round {number + 1} of {rounds}, {arm}"
                progress.update(bar, description=f"{where}: starting a server", refresh=True)

                def turned(what: str, where: str = where) -> None:
                    said = escape(f"{where}: {what}"[:72])
                    progress.update(bar, advance=1, description=f"{said:72}", refresh=True)

                with start_server(env) as server:
                    loop = play(arm, server, model, num_calls=turns, progress=turned)
                    played[arm].append(asyncio.run(_until_told(loop)))
    return played


def _print(report: Report) -> None:
    console = Console(highlight=False)
    console.print(f"\n{heading(report)}\n")
    console.print(table(report))
    console.print(f"\nanswers equal: {'yes' if report.answers_equal else 'NO'}")
    console.print(conclude(report))
    console.print(f"\n{HOW}", style="dim")
