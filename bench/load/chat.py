"""What does a turn cost us when the model is behind a chat-completions endpoint?

A tool loop over WebSocket. The endpoint is not counted; what is counted is everything between the
client's frame and its last event, both sides of it: the request to the endpoint, its answer of
twenty tokens in as many chunks, and the events of a call. Without a delay several chunks arrive in
one read, and are one event then; with one between tokens each is read, and sent, by itself.
"""

from __future__ import annotations

from typing import Final

from bench.load.drive import Arm, Load, load
from bench.measure import Bench, Result

__all__ = ["BENCH"]

BUDGET_MS: Final = 0.6
REPEAT: Final = 3

ARMS: Final = (
    Arm(loop=True, connections=1),
    Arm(loop=True, connections=16),
    Arm(loop=True, connections=64),
    Arm(loop=True, connections=64, between_ms=2.0),
    Arm(loop=True, connections=16, context_chars=32_000),
    Arm(loop=True, connections=16, context_chars=128_000),
    Arm(loop=True, connections=16, context_chars=512_000),
)


def run(quick: bool) -> list[Result]:
    """Each arm on fresh servers, arms in turn so that a busy moment of the machine hits all."""
    arms = (ARMS[0], ARMS[4]) if quick else ARMS
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
    median, last = seen.seen.latency_ms
    return [
        Result(
            case=f"{arm}: server CPU",
            value=seen.cpu_ms_per_turn,
            best=best.cpu_ms_per_turn,
            unit="ms/turn",
            bar=None if arm.context_chars else BUDGET_MS,
        ),
        Result(case=f"{arm}: rate", value=seen.turns_per_core_sec, unit="turns/core-s"),
        Result(case=f"{arm}: latency, median", value=median, unit="ms"),
        Result(case=f"{arm}: latency, 99th percentile", value=last, unit="ms"),
        Result(case=f"{arm}: events", value=seen.events_per_turn, unit="events/turn"),
    ]


BENCH: Final = Bench(
    name="chat",
    question="What does a turn of a tool loop cost us, its model behind a chat endpoint?",
    fixed=(
        "20 tokens of arguments in 20 chunks, 20 turns in a loop, 70 tokens of tool output, one "
        "tool, store:false; server on one core, clients and a mock endpoint on another"
    ),
    varies="connections with one turn each; pace of the tokens; text a conversation begins with",
    run=run,
)
