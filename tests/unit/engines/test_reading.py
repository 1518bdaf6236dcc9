"""Tests of what is learnt from a prompt."""

from __future__ import annotations

import gc

from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.reading import Reader
from turnwire.engines.vocabulary import CALL, CALL_END, END_OF_TURN, TURN, Vocabulary
from turnwire.tokens import EMPTY, Tokens, token_array

BLOCK = 4


def ids_of(vocabulary: Vocabulary, text: str) -> list[int]:
    """Token ids of a text in which `[U`, `[A`, `[T` open turns, `]` closes and `!` is a call."""
    ids: list[int] = []
    roles = {"U": "user", "A": "assistant", "T": "tool"}
    for sign in text:
        match sign:
            case "U" | "A" | "T":
                ids += [vocabulary.special[TURN], *vocabulary.encode(roles[sign] + "\nx")]
            case "]":
                ids.append(vocabulary.special[END_OF_TURN])
            case "!":
                ids += [vocabulary.special[CALL], 300, vocabulary.special[CALL_END]]
            case "z":
                # Its bytes, in a row, look like special tokens that are not there.
                ids += [vocabulary.special[TURN] << 8, vocabulary.special[CALL] << 8, 256]
            case _:
                ids += vocabulary.encode(sign)
    return ids


def cut(ids: list[int], cuts: list[int]) -> Tokens:
    """The same ids as a chain of links, cut at these places."""
    tokens, start = EMPTY, 0
    for end in sorted({c % (len(ids) + 1) for c in cuts} | {len(ids)}):
        tokens = tokens.extend(token_array(ids[start:end]))
        start = end
    return tokens


@given(
    text=st.text("UAT!]abz", max_size=20),
    one=st.lists(st.integers(0, 100), max_size=8),
    other=st.lists(st.integers(0, 100), max_size=8),
)
def test_a_reading_depends_on_ids_not_on_links(
    vocabulary: Vocabulary, text: str, one: list[int], other: list[int]
) -> None:
    """Any two ways to cut the same ids into links give the same reading."""
    ids = ids_of(vocabulary, text)
    reader = Reader(vocabulary, block_size=BLOCK)
    a, b = reader.read(cut(ids, one)), reader.read(cut(ids, other))
    assert a.seed() == b.seed()
    assert list(a.digests()) == list(b.digests())
    assert (a.length, a.last, a.num_blocks) == (b.length, b.last, b.num_blocks)
    assert (len(ids), len(ids) // BLOCK) == (a.length, a.num_blocks)
    assert a.num_call_rounds == b.num_call_rounds


@given(text=st.text("UAT!]abz", max_size=24))
def test_rounds_of_calls_are_counted_since_the_last_user_turn(
    vocabulary: Vocabulary, text: str
) -> None:
    """A round is an assistant turn with at least one call in it; a user turn starts anew."""
    turns = text[text.rfind("U") + 1 :] if "U" in text else text
    expected, role, called = 0, "U" if "U" in text else "", False
    for sign in turns:
        if sign in "UAT":
            role, called = sign, False
        elif sign == "!" and role == "A" and not called:
            expected, called = expected + 1, True
    reading = Reader(vocabulary, block_size=BLOCK).read(cut(ids_of(vocabulary, text), []))
    assert expected == reading.num_call_rounds


@given(
    ids=st.lists(st.integers(20, 400), min_size=1, max_size=40),
    place=st.integers(0, 39),
    delta=st.integers(1, 9),
)
def test_one_other_id_is_another_seed(
    vocabulary: Vocabulary, ids: list[int], place: int, delta: int
) -> None:
    """Changing any one id changes the seed, and the digests from its block on."""
    place %= len(ids)
    changed = [*ids[:place], ids[place] + delta, *ids[place + 1 :]]
    reader = Reader(vocabulary, block_size=BLOCK)
    a, b = reader.read(cut(ids, [])), reader.read(cut(changed, []))
    assert a.seed() != b.seed()
    same = [x == y for x, y in zip(a.digests(), b.digests(), strict=True)][::-1]
    assert [block < place // BLOCK for block in range(len(same))] == same


def test_block_size_does_not_change_the_seed(vocabulary: Vocabulary) -> None:
    """What the engine says does not depend on how its cache is cut."""
    ids = list(range(300, 350))
    seeds = {Reader(vocabulary, block_size=n).read(cut(ids, [])).seed() for n in (1, 16, 64)}
    assert 1 == len(seeds)


def test_a_known_prefix_is_not_read_again(vocabulary: Vocabulary) -> None:
    """The reading of a longer prompt is made from the one that is remembered."""
    reader = Reader(vocabulary, block_size=BLOCK)
    parent = cut(list(range(300, 340)), [])
    first = reader.read(parent)
    longer = reader.read(parent.extend([7, 8, 9, 10]))
    assert first is reader.read(parent)
    assert longer.length == 44
    assert first is longer._parent


def test_readings_go_with_their_links(vocabulary: Vocabulary) -> None:
    """Nothing is remembered about a prompt that nobody holds any more."""
    reader = Reader(vocabulary, block_size=BLOCK)
    tokens = EMPTY.extend([300, 301])
    reader.read(tokens)
    del tokens
    gc.collect()
    assert {EMPTY} == set(reader._known)


def test_extending_by_nothing_is_the_same_reading(vocabulary: Vocabulary) -> None:
    """No ids, no news."""
    reader = Reader(vocabulary, block_size=BLOCK)
    reading = reader.read(EMPTY.extend([300]))
    assert reading is reader.extend(reading, token_array())
