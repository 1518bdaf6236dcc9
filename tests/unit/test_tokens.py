from __future__ import annotations

import json
import weakref

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.tokens import EMPTY, Tokens, token_array

IDS = st.lists(st.integers(0, 2**32 - 1), max_size=8)


@given(st.lists(IDS, max_size=8))
def test_any_links_make_the_same_sequence(parts: list[list[int]]) -> None:
    """However a sequence is cut into links, it reads as the joined parts."""
    tokens = EMPTY
    for part in parts:
        tokens = tokens.extend(part)
    flat = [id_ for part in parts for id_ in part]
    assert flat == list(tokens)
    assert token_array(flat) == tokens.to_array()
    assert len(flat) == len(tokens) == tokens.length
    assert flat == [id_ for segment in tokens.segments() for id_ in segment]


@given(IDS, IDS, IDS)
def test_forks_share_their_past(past: list[int], one: list[int], other: list[int]) -> None:
    """Two extensions of one sequence leave it, and each other, as they were."""
    common = EMPTY.extend(past)
    left, right = common.extend(one), common.extend(other)
    assert past + one == list(left)
    assert past + other == list(right)
    assert past == list(common)
    assert left.segments()[: len(common.segments())] == common.segments()


def test_adding_nothing_is_the_same_sequence() -> None:
    """Extending by no ids returns the sequence itself, so that what is known of it holds."""
    tokens = EMPTY.extend([1])
    assert tokens is tokens.extend([])
    assert tokens is tokens.extend(token_array())


def test_an_array_is_not_copied() -> None:
    """An array given to `extend` becomes the link's tail as it is."""
    tail = token_array([1, 2])
    assert tail is EMPTY.extend(tail).tail


@given(st.lists(IDS, min_size=1).filter(lambda parts: any(parts)))
def test_last(parts: list[list[int]]) -> None:
    """The final id is found through links of any size."""
    tokens = EMPTY
    for part in parts:
        tokens = Tokens(tokens, token_array(part))
    assert [id_ for part in parts for id_ in part][-1] == tokens.last()


def test_nothing_has_no_last() -> None:
    """An empty sequence has no last token, and is the root of all."""
    with pytest.raises(IndexError):
        Tokens(EMPTY, token_array()).last()
    assert (0, [], None) == (len(EMPTY), list(EMPTY), EMPTY.parent)


def test_ids_are_32_bits() -> None:
    """An id that does not fit four bytes is refused."""
    with pytest.raises(OverflowError):
        token_array([2**32])
    assert 4 == token_array().itemsize


def test_equality_is_identity() -> None:
    """Equal ids in other links are another key, and a link can be a weak key."""
    one, other = EMPTY.extend([1]), EMPTY.extend([1])
    known = weakref.WeakKeyDictionary({one: "one"})
    assert (True, False) == (one in known, other in known)
    assert "Tokens(length=1)" == repr(other)


def written(tokens: Tokens) -> list[int]:
    """What a server reads."""
    ids: list[int] = json.loads(b"[" + b"".join(tokens.to_json()) + b"]")
    return ids


@given(st.lists(IDS, max_size=8))
def test_json_is_that_of_the_flat_sequence(parts: list[list[int]]) -> None:
    """The text of a sequence is the same however it is cut, and the second time."""
    tokens = EMPTY
    for part in parts:
        tokens = Tokens(tokens, token_array(part))
    flat = [id_ for part in parts for id_ in part]
    for _ in range(2):
        assert flat == written(tokens)


def test_numbers_are_written_once() -> None:
    """A longer prompt takes the text of what it continues, and adds its own."""
    parent = EMPTY.extend([1, 2])
    assert [b"1,2"] == parent.to_json()
    text = parent._text
    assert [b"1,2,", b"3"] == parent.extend([3]).to_json()
    assert text is parent._text


STEPS = st.lists(
    st.tuples(st.integers(0, 2**32), IDS, st.integers(1, 80), st.booleans()), max_size=8
)


@given(STEPS)
def test_branches_are_written_whatever_was_written_before(
    steps: list[tuple[int, list[int], int, bool]],
) -> None:
    """Texts that were joined for one branch are right for those that begin anywhere in it."""
    links = [EMPTY]
    for start, ids, num_links, now in steps:
        tip = links[start % len(links)]
        for n in range(num_links):
            tip = Tokens(tip, token_array([*ids, n]))
            links.append(tip)
            if now:
                assert list(tip) == written(tip)
        assert list(tip) == written(tip)
    for link in links[:: max(1, len(links) // 16)]:
        assert list(link) == written(link)


@pytest.mark.parametrize("each_time", [False, True], ids=["at the end", "each time"])
def test_a_long_conversation_is_some_dozens_of_pieces(each_time: bool) -> None:
    """Texts far back are joined, a thousand links into less than a hundred, and kept once."""
    tokens = EMPTY
    for n in range(1000):
        tokens = tokens.extend([n, n])
        if each_time:
            tokens.to_json()
    tokens.to_json()  # the first time they are written, and only then joined
    assert len(tokens.to_json()) < 100
    kept, link = 0, tokens
    while link.parent is not None:
        kept += len(link._text or b"")
        link = link.parent
    assert kept == 1 + sum(map(len, tokens.to_json()))  # the comma behind it


@given(IDS, IDS, IDS)
def test_what_two_share(past: list[int], one: list[int], other: list[int]) -> None:
    """Two branches share their common links, whichever is asked, and no more than is equal."""
    common = EMPTY.extend(past)
    left, right = common.extend(one).extend(one), common.extend(other)
    assert left.num_shared(right) == right.num_shared(left)
    assert len(past) <= left.num_shared(right) if past else left.num_shared(right) >= 0
    shared = left.num_shared(right)
    assert list(left)[:shared] == list(right)[:shared]
    assert 0 == EMPTY.extend([1]).num_shared(Tokens(None, token_array([1])))


@given(st.lists(IDS, max_size=6), st.integers(0, 50))
def test_dropping_takes_ids_from_the_end(parts: list[list[int]], count: int) -> None:
    """What is left shares its links with what was; more than there is cannot be dropped."""
    tokens = EMPTY
    for part in parts:
        tokens = tokens.extend(part)
    flat = list(tokens)
    if count > len(flat):
        with pytest.raises(IndexError):
            tokens.drop(count)
        return
    left = tokens.drop(count)
    assert flat[: len(flat) - count] == list(left)
    whole = left.segments()[:-1]
    assert whole == tokens.segments()[: len(whole)]
    if not count:
        assert tokens is left
