"""What the demo measured, and how it is said: a table, one sentence, one JSON object.

Pure: turns in, texts out.

    Turns of every round --summarise--> Summary per arm --> Report --> table, conclusion, JSON

Of what is measured several times the median is taken, each number for itself. Counts are the same
in every round, up to what a clock decides.
"""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Sequence
from statistics import median

from msgspec import Struct
from rich.table import Table

from turnwire import __version__
from turnwire.cli.demo_turn import Turn
from turnwire.engines.sim import SimProfile

__all__ = [
    "Machine",
    "PerTurn",
    "Report",
    "Summary",
    "conclude",
    "heading",
    "same_path",
    "summarise",
    "table",
]


class PerTurn(Struct, frozen=True, kw_only=True):
    """One turn of an arm; numbers as in `Turn`, over all rounds."""

    call: str
    sec: float
    first_event_sec: float
    sent_bytes: int
    rendered_tokens: int
    prompt_tokens: int
    cached_tokens: int


class Summary(Struct, frozen=True, kw_only=True):
    """One arm, the median round.

    Attributes:
        loop_sec: The whole loop: requests and tools.
        model_sec: Of it, what the simulated model takes by its profile, whoever asks.
        tools_sec: Of it, the tools.
        other_sec: What is left: client library, network, server.
        first_event_sec: From sending a request to its first event; median of the turns.
        first_delta_sec: The same, to the first piece of an answer.
        server_cpu_sec: Processor time of the server, or None if the system does not say.
        sent_bytes: Request bodies and WebSocket messages, as the server received them.
        rendered_tokens: Tokens that the server's tokenizer made.
        prompt_tokens: Tokens of all prompts.
        cached_tokens: Of those, in the engine's prefix cache.
        rounds_sec: `loop_sec` of every round, in the order they were played.
        per_turn: The turns.
    """

    loop_sec: float
    model_sec: float
    tools_sec: float
    other_sec: float
    first_event_sec: float
    first_delta_sec: float
    server_cpu_sec: float | None
    sent_bytes: int
    rendered_tokens: int
    prompt_tokens: int
    cached_tokens: int
    rounds_sec: list[float]
    per_turn: list[PerTurn]


class Machine(Struct, frozen=True):
    """What the times depend on. Names no machine."""

    system: str
    processor: str
    cores: int | None
    python: str

    @classmethod
    def here(cls) -> Machine:
        """The one this runs on."""
        return cls(platform.system(), platform.machine(), os.cpu_count(), platform.python_version())


class Report(Struct, frozen=True, kw_only=True):
    """All of it; as JSON, what `turnwire demo --json` prints.

    Attributes:
        model: Its name.
        simulated: Always true: words and speed of the model are made up.
        tool_calls: Turns that ended in a tool call; one more ends the loop.
        rounds: How often each arm was played.
        answers_equal: Whether every loop made the same calls and said the same.
        http: Over HTTP, the whole conversation each time.
        websocket: Over WebSocket, only what is new.
    """

    model: str
    simulated: bool = True
    tool_calls: int
    rounds: int
    answers_equal: bool
    http: Summary
    websocket: Summary
    turnwire: str = __version__
    machine: Machine


def same_path(loops: Sequence[Sequence[Turn]]) -> bool:
    """Whether all loops made the same calls and said the same, turn by turn."""
    paths = [[(turn.text, turn.calls) for turn in loop] for loop in loops]
    return all(path == paths[0] for path in paths)


def summarise(rounds: Sequence[Sequence[Turn]], profile: SimProfile) -> Summary:
    """Bring the rounds of one arm together.

    Args:
        rounds: At least one; every round has the same number of turns, at least one.
        profile: Of the simulated model.
    """

    def of_loop(measure: Callable[[Turn], float]) -> float:
        return median(sum(map(measure, turns)) for turns in rounds)

    def of_turns(measure: Callable[[Turn], float]) -> float:
        return median(median(map(measure, turns)) for turns in rounds)

    def model_sec(turn: Turn) -> float:
        # The first token comes at the end of the prefill.
        return profile.prefill_sec(turn.num_input - turn.num_cached) + profile.due_sec(
            turn.num_output - 1
        )

    cpu = [turn.cpu_sec for turns in rounds for turn in turns]
    return Summary(
        loop_sec=of_loop(lambda turn: turn.sec + turn.tools_sec),
        model_sec=of_loop(model_sec),
        tools_sec=of_loop(lambda turn: turn.tools_sec),
        other_sec=of_loop(lambda turn: turn.sec - model_sec(turn)),
        first_event_sec=of_turns(lambda turn: turn.first_event_sec),
        first_delta_sec=of_turns(lambda turn: turn.first_delta_sec),
        server_cpu_sec=None if None in cpu else of_loop(lambda turn: turn.cpu_sec or 0.0),
        sent_bytes=round(of_loop(lambda turn: turn.num_sent_bytes)),
        rendered_tokens=round(of_loop(lambda turn: turn.num_rendered)),
        prompt_tokens=round(of_loop(lambda turn: turn.num_input)),
        cached_tokens=round(of_loop(lambda turn: turn.num_cached)),
        rounds_sec=[sum(turn.sec + turn.tools_sec for turn in turns) for turns in rounds],
        per_turn=[_per_turn(same) for same in zip(*rounds, strict=True)],
    )


def _per_turn(same: Sequence[Turn]) -> PerTurn:
    """One turn, as each round saw it."""
    calls = same[0].calls
    return PerTurn(
        call=calls[0][0] if calls else "",
        sec=median(turn.sec for turn in same),
        first_event_sec=median(turn.first_event_sec for turn in same),
        sent_bytes=round(median(turn.num_sent_bytes for turn in same)),
        rendered_tokens=round(median(turn.num_rendered for turn in same)),
        prompt_tokens=round(median(turn.num_input for turn in same)),
        cached_tokens=round(median(turn.num_cached for turn in same)),
    )


def heading(report: Report) -> str:
    """What was played."""
    return (
        f"{report.tool_calls} tool calls and an answer with {report.model}; median of "
        f"{report.rounds} rounds for each arm, each with a server of its own"
    )


def table(report: Report) -> Table:
    """The comparison: a row per number, a column per arm."""
    shown = Table("", box=None, pad_edge=False)
    for heading in ("HTTP:\nall of it, each time", "WebSocket:\nwhat is new", "\nratio"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, one, other, form in _rows(report.http, report.websocket):
        if one is not None and other is not None:
            shown.add_row(name, form(one), form(other), _ratio(one, other))
    return shown


def _rows(
    one: Summary, other: Summary
) -> list[tuple[str, float | None, float | None, Callable[[float], str]]]:
    return [
        ("time of the loop", one.loop_sec, other.loop_sec, _sec),
        ("  simulated model, by its profile", one.model_sec, other.model_sec, _sec),
        ("  tools", one.tools_sec, other.tools_sec, _sec),
        ("  rest: client, network, server", one.other_sec, other.other_sec, _sec),
        ("time to first event, median", one.first_event_sec, other.first_event_sec, _ms),
        ("time to first delta, median", one.first_delta_sec, other.first_delta_sec, _ms),
        ("processor time of the server", one.server_cpu_sec, other.server_cpu_sec, _sec),
        ("bytes sent", one.sent_bytes, other.sent_bytes, _count),
        ("tokens rendered", one.rendered_tokens, other.rendered_tokens, _count),
        ("prompt tokens", one.prompt_tokens, other.prompt_tokens, _count),
        ("  from the engine's cache", one.cached_tokens, other.cached_tokens, _count),
    ]


def _sec(sec: float) -> str:
    return f"{sec:.2f} s"


def _ms(sec: float) -> str:
    return f"{1e3 * sec:.1f} ms"


def _count(count: float) -> str:
    return f"{count:,.0f}"


def _ratio(one: float, other: float) -> str:
    """How many times `other` goes into `one`, or a dash where that says nothing."""
    return f"{one / other:.1f}" if one > 0 and other > 0 else "-"


def conclude(report: Report) -> str:
    """What the numbers say, in sentences that follow from them."""
    http, websocket = report.http, report.websocket
    return (
        f"Over WebSocket the loop took {_compared(websocket.loop_sec, http.loop_sec)}; without "
        "the model and the tools, which both arms have, "
        f"{_compared(websocket.other_sec, http.other_sec)}. "
        f"It sent {_counted(websocket.sent_bytes, http.sent_bytes, 'bytes')} and rendered "
        f"{_counted(websocket.rendered_tokens, http.rendered_tokens, 'tokens')}."
    )


def _compared(sec: float, than_sec: float) -> str:
    compared = f"{sec:.2f} s where HTTP took {than_sec:.2f} s"
    if min(sec, than_sec) <= 0:
        return compared
    percent = round(100 * (sec / than_sec - 1))
    if percent == 0:
        return f"{compared} (the same)"
    return f"{compared} ({abs(percent)} % {'more' if percent > 0 else 'less'})"


def _counted(count: int, than_count: int, what: str) -> str:
    if count == than_count:
        return f"as many {what}"
    if 0 in (count, than_count):
        return f"{count:,} {what} where HTTP had {than_count:,}"
    if count < than_count:
        return f"{than_count / count:.1f} times fewer {what}"
    return f"{count / than_count:.1f} times more {what}"
