from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.telemetry.clock import STAGES, Stage, StageClock


def ticking(times: Iterable[float]) -> Callable[[], float]:
    """A clock that shows these seconds, one after the other."""
    return iter(times).__next__


def test_marks_are_laps() -> None:
    """Each mark gives the time since the previous one to its stage; a stage may come again."""
    clock = StageClock(ticking([10.0, 11.0, 13.0, 16.0, 20.0]))
    clock.mark("parse")
    clock.mark("decode")
    clock.mark("emit")
    clock.mark("decode")
    assert {"parse": 1.0, "decode": 6.0, "emit": 3.0} == clock.sec
    assert 10.0 == clock.total_sec


def test_time_from_elsewhere_moves_no_mark() -> None:
    """Added time counts in its stage, and the running lap goes on."""
    clock = StageClock(ticking([0.0, 2.0]))
    clock.add("queue", 5.0)
    clock.add("queue", 1.0)
    clock.mark("parse")
    assert {"queue": 6.0, "parse": 2.0} == clock.sec


def test_only_the_first_event_counts() -> None:
    """The time to the first event is set once and ends no lap."""
    clock = StageClock(ticking([0.0, 3.0, 4.0]))
    before = clock.first_event_sec
    clock.first_event()
    clock.first_event()
    clock.mark("emit")
    assert [None, 3.0] == [before, clock.first_event_sec]
    assert {"emit": 4.0} == clock.sec


def test_the_default_clock_runs() -> None:
    """Without a time source the clock reads the system's, which never goes back."""
    clock = StageClock()
    clock.mark("parse")
    assert clock.sec["parse"] >= 0


@given(st.lists(st.tuples(st.sampled_from(STAGES), st.floats(0, 1e3)), min_size=1))
def test_stages_add_up_to_the_turn(laps: list[tuple[Stage, float]]) -> None:
    """Whatever the order of marks, no time between the first and the last is lost."""
    times = [0.0]
    for _, lap in laps:
        times.append(times[-1] + lap)
    clock = StageClock(ticking(times))
    for stage, _ in laps:
        clock.mark(stage)
    assert pytest.approx(times[-1]) == clock.total_sec
    assert {stage for stage, _ in laps} == set(clock.sec)
