"""A log of events is the same for every reader, whenever and from wherever it reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.session.replay import EventLog, EventsDropped

ALL = 10**9


def filled(*events: bytes, max_events: int = 100, max_bytes: int = 1000) -> EventLog:
    """A log that was given these events."""
    log = EventLog(max_events, max_bytes)
    for event in events:
        log.append(event)
    return log


@pytest.mark.parametrize(
    ("after", "max_bytes", "expected"),
    [
        pytest.param(-1, ALL, [b"aa", b"bb", b"cc"], id="from the beginning"),
        pytest.param(0, ALL, [b"bb", b"cc"], id="after the first"),
        pytest.param(2, ALL, [], id="after the last: nothing yet"),
        pytest.param(7, ALL, [], id="ahead of what there is"),
        pytest.param(-1, 4, [b"aa", b"bb"], id="as much as was asked for"),
        pytest.param(-1, 0, [b"aa"], id="never nothing where there is something"),
    ],
)
def test_read(after: int, max_bytes: int, expected: list[bytes]) -> None:
    """A reader gets the events after the one it has, in order, in portions."""
    assert expected == filled(b"aa", b"bb", b"cc").read(after, max_bytes)


def test_the_oldest_go_by_count() -> None:
    """Beyond its count a log forgets the oldest, and says so to who asks for them."""
    log = filled(b"a", b"b", b"c", b"d", max_events=2)
    assert (2, 4, 2) == (log.first, log.following, log.num_bytes)
    assert [b"c", b"d"] == log.read(1, ALL)
    with pytest.raises(EventsDropped) as caught:
        log.read(0, ALL)
    assert 2 == caught.value.first


def test_the_oldest_go_by_size() -> None:
    """Beyond its bytes a log forgets the oldest, but never the newest."""
    log = filled(b"aaaa", b"bbbb", b"c" * 50, max_bytes=10)
    assert (2, 50) == (log.first, log.num_bytes)
    assert [b"c" * 50] == log.read(1, ALL)


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        (filled(), False),
        (filled(b"a", b"b", max_events=4), False),
        (filled(b"a", b"b", b"c", max_events=4), True),
        (filled(b"aaa", max_bytes=5), True),
    ],
)
def test_crowded(log: EventLog, expected: bool) -> None:
    """A log that is more than half full would rather have fewer and larger events."""
    assert expected is log.crowded


def test_a_log_holds_something() -> None:
    """A log of nothing is refused."""
    with pytest.raises(ValueError, match="at least one"):
        EventLog(0, 10)


@given(
    sizes=st.lists(st.integers(0, 9), max_size=60),
    max_events=st.integers(1, 20),
    max_bytes=st.integers(0, 40),
    after=st.integers(-1, 70),
)
def test_what_is_held_is_the_end_of_what_came(
    sizes: list[int], max_events: int, max_bytes: int, after: int
) -> None:
    """A log within its bounds holds the newest events, as many as fit, and reads them whole."""
    events = [b"%03d" % n + b"x" * size for n, size in enumerate(sizes)]
    log = filled(*events, max_events=max_events, max_bytes=max_bytes)
    held = events[log.first :]
    assert len(events) == log.following
    assert len(held) == log.num_events <= max_events
    assert sum(map(len, held)) == log.num_bytes
    assert log.num_bytes <= max_bytes or len(held) == 1
    if log.first:  # what went did not fit
        more = events[log.first - 1 :]
        assert len(more) > max_events or sum(map(len, more)) > max_bytes
    if after + 1 < log.first:
        with pytest.raises(EventsDropped):
            log.read(after, ALL)
    else:
        assert events[after + 1 :] == log.read(after, ALL)
