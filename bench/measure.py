"""What a bench is, and how a piece of code is timed.

A bench states its question, what it holds fixed and what it varies, and returns results: one
number each, with its unit and, where there is one, the bar it is held against.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Final, Literal

from msgspec import Struct

__all__ = ["Bench", "Result", "Timing", "time_call"]

QUICK_SEC: Final = 0.02
FULL_SEC: Final = 0.4
REPEAT: Final = 9


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One number.

    Attributes:
        case: What was varied, as a person reads it.
        value: The median where there were repeats.
        unit: What `value` counts.
        best: The smallest of the repeats, in the same unit; None where there was one run.
        bar: What `value` is held against, in the same unit; None if nothing.
        bar_is: Whether `bar` is the most or the least that is wanted.
    """

    case: str
    value: float
    unit: str
    best: float | None = None
    bar: float | None = None
    bar_is: Literal["most", "least"] = "most"

    @property
    def holds(self) -> bool | None:
        """Whether the bar is kept; None without one."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.bar_is == "most" else self.value >= self.bar


class Bench(Struct, frozen=True, kw_only=True):
    """A question that numbers answer.

    Attributes:
        name: How it is asked for: `python -m bench NAME`.
        question: One sentence.
        fixed: What does not change between its results.
        varies: What does.
        run: Measures. With `quick` it takes seconds, and the numbers only show that it works.
    """

    name: str
    question: str
    fixed: str
    varies: str
    run: Callable[[bool], list[Result]]


class Timing(Struct, frozen=True):
    """Repeated timings of one call, in CPU seconds of this process, all threads.

    CPU time, because other work on the machine lengthens every other clock.
    """

    median_sec: float
    best_sec: float

    def result(self, case: str, unit: str, scale: float, *, bar: float | None = None) -> Result:
        """As a result in `unit`, of which one second has `scale`."""
        return Result(
            case=case,
            value=self.median_sec * scale,
            best=self.best_sec * scale,
            unit=unit,
            bar=bar,
        )


def time_call(call: Callable[[], object], *, quick: bool, per: int = 1) -> Timing:
    """Time a call, in several runs of so many calls that the clock does not matter.

    Args:
        call: What to time; it must do the same work each time.
        quick: Take less time, for less exact numbers.
        per: How many units of work one call does; the timing is of one unit.
    """
    total_sec = QUICK_SEC if quick else FULL_SEC
    repeat = 3 if quick else REPEAT
    call()  # first-time costs are another question
    number = 1
    while (one_sec := _run(call, number)) < total_sec / repeat:
        number = max(number + 1, int(number * min(10.0, total_sec / repeat / max(one_sec, 1e-9))))
    runs = [_run(call, number) / number / per for _ in range(repeat)]
    return Timing(statistics.median(runs), min(runs))


def _run(call: Callable[[], object], number: int) -> float:
    begin = time.process_time()
    for _ in range(number):
        call()
    return time.process_time() - begin
