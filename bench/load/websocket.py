"""What does a turn cost the server, all of it, from the client's frame to the last event?

A real server process on one core; its clients in another process on another core, each with one
turn at a time. `turns/core-s` is turns for a second of the server's CPU: unlike turns a second it
hardly notices who else uses the machine, and it is what a core of its own would give, as long
as `clients/server` stays below 1.
"""

from __future__ import annotations

from typing import Final

from bench.load.drive import Arm, Load, load
from bench.measure import Bench, Result

__all__ = ["BENCH"]

BUDGET_MS: Final = 0.5
TURNS_PER_CORE_SEC: Final = 1000.0
EVENTS: Final = 25
REPEAT: Final = 3

ARMS: Final = (
    Arm(connections=1),
    Arm(connections=16),
    Arm(connections=64),
    Arm(connections=16, store=True),
    Arm(connections=16, store=True, transport="sse"),
    Arm(connections=16, canned=True),
)


def run(quick: bool) -> list[Result]:
    """Each arm on fresh servers, arms in turn so that a busy moment of the machine hits all."""
    arms = (ARMS[1], ARMS[4]) if quick else ARMS
    repeat, warm_sec, sec = (1, 0.2, 0.5) if quick else (REPEAT, 1.0, 3.0)
    loads: dict[Arm, list[Load]] = {arm: [] for arm in arms}
    for _ in range(repeat):
        for arm in arms:
            loads[arm].append(load(arm, warm_sec=warm_sec, sec=sec))
    return [one for arm in arms for one in _results(arm, loads[arm])]


def _results(arm: Arm, loads: list[Load]) -> list[Result]:
    """The numbers of the run whose cost is the median, so that they belong together."""
    ordered = sorted(loads, key=lambda one: one.cpu_ms_per_turn)
    seen, best = ordered[len(ordered) // 2], ordered[0]
    if abs(seen.events_per_turn - EVENTS) > 0.25:
        raise AssertionError(f"{arm}: {seen.events_per_turn:.2f} events a turn, not {EVENTS}")
    median, last = seen.seen.latency_ms
    # What the canned arm shows is the ceiling; it has no bar of its own.
    budget, rate, share = (None,) * 3 if arm.canned else (BUDGET_MS, TURNS_PER_CORE_SEC, 1.0)
    return [
        Result(
            case=f"{arm}: server CPU",
            value=seen.cpu_ms_per_turn,
            best=best.cpu_ms_per_turn,
            unit="ms/turn",
            bar=budget,
        ),
        Result(
            case=f"{arm}: rate",
            value=seen.turns_per_core_sec,
            unit="turns/core-s",
            bar=rate,
            bar_is="least",
        ),
        Result(case=f"{arm}: as measured", value=seen.turns_per_sec, unit="turns/s"),
        Result(case=f"{arm}: latency, median", value=median, unit="ms"),
        Result(case=f"{arm}: latency, 99th percentile", value=last, unit="ms"),
        Result(case=f"{arm}: clients/server", value=seen.client_share, unit="CPU ratio", bar=share),
        Result(case=f"{arm}: events", value=seen.events_per_turn, unit="events/turn"),
    ]


BENCH: Final = Bench(
    name="load",
    question="What does a turn cost the server, from the client's frame to the last event?",
    fixed=(
        "model sim, 17 output tokens = 25 events (an odd turn has 24), about 30 new prompt tokens, "
        "no tools, conversations of 50 turns, SQLite store, server and clients on a core each"
    ),
    varies="transport, store, connections with one turn each; canned bytes are the ceiling",
    run=run,
)
