"""Held deltas are joined, never lost, never reordered."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnwire.logprobs import LogProb, TopLogProb
from turnwire.parts import (
    CallArguments,
    CallStarted,
    ItemFinished,
    Part,
    ReasoningDelta,
    RefusalDelta,
    TextDelta,
)
from turnwire.session.coalescer import Coalescer

SCORED = st.text(max_size=4).map(
    lambda text: TextDelta(text, tuple(LogProb(sign, -1.0, (1,)) for sign in text))
)
PARTS = st.lists(
    st.one_of(
        st.builds(TextDelta, st.text(max_size=4)),
        SCORED,
        st.builds(RefusalDelta, st.text(max_size=4)),
        st.builds(ReasoningDelta, st.text(max_size=4)),
        st.builds(CallArguments, st.text(max_size=4)),
        st.just(ItemFinished()),
        st.just(CallStarted(name="f", call_id="c")),
    ),
    max_size=30,
)


def flat(parts: list[Part]) -> list[object]:
    """Parts with neighbouring deltas of one kind joined."""
    joined: list[object] = []
    for part in parts:
        if isinstance(part, TextDelta | RefusalDelta | ReasoningDelta | CallArguments):
            logprobs = part.logprobs if isinstance(part, TextDelta) else ()
            if joined and isinstance(joined[-1], list) and joined[-1][0] is type(part):
                joined[-1][1] += part.text
                joined[-1][2] += logprobs
            else:
                joined.append([type(part), part.text, logprobs])
        else:
            joined.append(part)
    return joined


@given(parts=PARTS, slow=st.lists(st.booleans(), min_size=30, max_size=30), limit=st.integers(1, 9))
def test_what_goes_in_comes_out(parts: list[Part], slow: list[bool], limit: int) -> None:
    """However slowness comes and goes, the joined stream is the same."""
    held = Coalescer(limit)
    sent: list[Part] = []
    for part, wait in zip(parts, slow, strict=False):
        sent += held.hold(part) if wait else [*held.release(), part]
    sent += held.release()
    assert flat(parts) == flat(sent)
    assert held.is_empty


def test_deltas_of_one_kind_become_one() -> None:
    """Ten tokens for a slow reader are one event."""
    held = Coalescer()
    assert [] == [out for n in range(10) for out in held.hold(TextDelta(str(n)))]
    assert [TextDelta("0123456789"), ItemFinished()] == held.hold(ItemFinished())


def test_what_is_held_is_bounded() -> None:
    """At the limit the caller gets it back."""
    held = Coalescer(max_chars=3)
    assert [] == held.hold(TextDelta("ab"))
    assert [TextDelta("abcd")] == held.hold(TextDelta("cd"))


def test_log_probabilities_count_as_what_they_weigh() -> None:
    """A little text with many alternatives fills the hold as much text would."""
    tops = tuple(TopLogProb("x", -1.0, (1,)) for _ in range(20))
    part = TextDelta("a", (LogProb("a", -1.0, (97,), tops),))
    held = Coalescer(max_chars=2000)
    assert [] == held.hold(part)
    [joined] = held.hold(part)
    assert TextDelta("aa", part.logprobs * 2) == joined
