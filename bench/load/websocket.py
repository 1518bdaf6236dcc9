"""What does a turn cost the server, all of it, from the client's frame to the last event?

A real server process on one core; its clients in another process on another core, each with one
turn at a time. `turns/core-s` is turns for a second of the server's CPU: unlike turns a second it
hardly notices who else uses the machine, and it is what a core of its own would give, as long
as `clients/server` stays below 1.
"""

from __future__ import annotations

from typing import Final

from bench.load.drive import Arm, Load, load
from bench.measure import Bench, Result, at_least, at_most

__all__ = ["BENCH"]

BUDGET_MS: Final = 0.5
TURNS_PER_CORE_SEC: Final = 1000.0
EVENTS: Final = 25

ARMS: Final = (
    Arm(connections=1),
    Arm(connections=16),
    Arm(connections=64),
    Arm(connections=16, store=True),
    Arm(connections=16, store=True, transport="sse"),
    Arm(connections=16, canned=True),
)


def run(quick: bool) -> list[Result]:
    """Each arm on a fresh server."""
    if quick:
        arms = (ARMS[1], ARMS[4])
        return [one for arm in arms for one in _results(arm, load(arm, warm_sec=0.2, sec=0.5))]
    results: list[Result] = []
    for arm in ARMS:
        results += _results(arm, load(arm, sec=4.0))
    return results


def _results(arm: Arm, seen: Load) -> list[Result]:
    if abs(seen.events_per_turn - EVENTS) > 0.25:
        raise AssertionError(f"{arm}: {seen.events_per_turn:.2f} events a turn, not {EVENTS}")
    median, last = seen.seen.latency_ms
    cost = f"{arm}: server CPU"
    return [
        Result(case=cost, value=seen.cpu_ms_per_turn, unit="ms/turn")
        if arm.canned
        else at_most(cost, seen.cpu_ms_per_turn, "ms/turn", BUDGET_MS),
        Result(case=f"{arm}: rate", value=seen.turns_per_core_sec, unit="turns/core-s")
        if arm.canned
        else at_least(f"{arm}: rate", seen.turns_per_core_sec, "turns/core-s", TURNS_PER_CORE_SEC),
        Result(case=f"{arm}: as measured", value=seen.turns_per_sec, unit="turns/s"),
        Result(case=f"{arm}: latency, median", value=median, unit="ms"),
        Result(case=f"{arm}: latency, 99th percentile", value=last, unit="ms"),
        Result(case=f"{arm}: clients/server", value=seen.client_share, unit="CPU ratio")
        if arm.canned
        else at_most(f"{arm}: clients/server", seen.client_share, "CPU ratio", 1.0),
        Result(case=f"{arm}: events", value=seen.events_per_turn, unit="events/turn"),
    ]


BENCH: Final = Bench(
    name="load",
    question="What does a turn cost the server, from the client's frame to the last event?",
    fixed=(
        "model sim, 17 output tokens = 25 events (an odd turn has 24), 30 new prompt tokens, no "
        "tools, conversations of 50 turns, SQLite store, server and clients on a core each"
    ),
    varies="transport, store, connections with one turn each; canned bytes are the ceiling",
    run=run,
)
