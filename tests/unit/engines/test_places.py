"""Tests of `turnwire.engines.places`: which slot, and whether its cache may be used."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from turnwire.engines.places import Choice, Places
from turnwire.tokens import EMPTY, Tokens


def run(places: Places, prompt: Tokens, *, salt: str = "me", session: str = "") -> Choice:
    """One generation of one token, 99."""
    choice = places.take(prompt, salt=salt, session=session)
    places.give_back(choice.slot, [99])
    return choice


def test_a_continuation_stays() -> None:
    """What continues a slot's prompt goes there, others go to empty ones."""
    places = Places(3)
    one, two = EMPTY.extend(range(100)), EMPTY.extend(range(500, 600))
    assert [0, 1] == [run(places, one).slot, run(places, two).slot]
    assert 0 == run(places, one.extend([99, 7])).slot
    assert 1 == run(places, two.extend([99, 8])).slot


def test_equal_ids_in_other_links_stay_too() -> None:
    """A prompt that was built anew is recognised by its ids."""
    places = Places(2)
    run(places, EMPTY.extend(range(100)))
    assert 0 == run(places, EMPTY.extend(range(40)).extend(range(40, 120))).slot


def test_a_fork_takes_the_slot_it_branches_off_if_little_is_lost() -> None:
    """Late forks are computed in place, early ones in an empty slot."""
    places = Places(2)
    start = EMPTY.extend(range(100))
    run(places, start.extend(range(1000, 1050)))
    assert 0 == run(places, start.extend([5])).slot
    places = Places(2)
    run(places, start.extend(range(1000, 1150)))
    assert 1 == run(places, start.extend([5])).slot


def test_then_the_session_then_the_longest_idle() -> None:
    """With nothing in common, a session keeps its slot, and else the oldest goes."""
    places = Places(2)
    run(places, EMPTY.extend([1]), session="a")
    run(places, EMPTY.extend([2]), session="b")
    assert 1 == run(places, EMPTY.extend([3]), session="b").slot
    assert 0 == run(places, EMPTY.extend([4]), session="c").slot
    assert 1 == run(places, EMPTY.extend([5]), session="d").slot


def test_a_busy_slot_is_not_taken() -> None:
    """A continuation of what runs goes elsewhere; with no slot free the server finds one."""
    places = Places(2)
    prompt = EMPTY.extend(range(10))
    assert 0 == places.take(prompt, salt="", session="").slot
    assert 1 == places.take(prompt, salt="", session="").slot
    assert Choice(-1, cached=False) == places.take(prompt, salt="", session="")
    places.give_back(-1, [99])
    places.give_back(1, [99])
    assert 1 == places.take(prompt, salt="", session="").slot


def test_owners_are_kept_apart_once_there_are_two() -> None:
    """Then only what a slot is known to hold of the same owner's may be used."""
    places = Places(2)
    prompt = EMPTY.extend(range(100))
    assert run(places, prompt, salt="one").cached
    assert Choice(1, cached=False) == run(places, prompt, salt="two")
    assert Choice(0, cached=True) == run(places, prompt.extend([99]), salt="one")
    assert Choice(1, cached=True) == run(places, prompt.extend([99]), salt="two")
    # So little of the prompt is held that the server would look elsewhere.
    assert not run(places, prompt.extend(range(5000)), salt="one").cached


def test_after_a_restart_nothing_is_known() -> None:
    """Slots are empty, but owners are not forgotten."""
    places = Places(2)
    prompt = EMPTY.extend(range(100))
    run(places, prompt, salt="one")
    run(places, prompt, salt="two")
    places.forget(2)
    assert Choice(0, cached=False) == run(places, prompt, salt="two")


def test_a_server_that_came_back_with_other_slots() -> None:
    """No slot is asked for that is not there any more, and new ones are used."""
    places = Places(2)
    prompt = EMPTY.extend(range(100))
    held = [places.take(prompt, salt="", session="").slot for _ in range(2)]
    places.forget(1)
    assert -1 == places.take(prompt, salt="", session="").slot
    for slot in held:
        places.give_back(slot, [])
    assert 0 == run(places, prompt).slot
    places.forget(3)
    assert {0, 1, 2} == {places.take(prompt, salt="", session="").slot for _ in range(3)}


STEP = st.tuples(
    st.sampled_from(["a", "b"]), st.lists(st.integers(0, 2), max_size=12), st.booleans()
)


@given(st.integers(1, 3), st.lists(STEP, max_size=30))
def test_no_owner_is_given_anothers_cache(
    num_slots: int, steps: list[tuple[str, list[int], bool]]
) -> None:
    """From the second owner on, a slot whose cache may be used was last used by the same."""
    places = Places(num_slots)
    last: dict[int, tuple[str, list[int]]] = {}
    busy: list[int] = []
    owners: set[str] = set()
    for salt, ids, stays in steps:
        if len(busy) == num_slots:
            places.give_back(busy.pop(0), [])
        choice = places.take(EMPTY.extend(ids), salt=salt, session=salt)
        owners.add(salt)
        assert choice.slot not in busy
        if choice.cached and len(owners) == 2:
            owner, held = last[choice.slot]
            shared = next(
                (n for n, (x, y) in enumerate(zip(held, ids, strict=False)) if x != y),
                min(len(held), len(ids)),
            )
            assert owner == salt
            assert 2 * shared > len(held)
        last[choice.slot] = (salt, ids)
        if stays:
            busy.append(choice.slot)
        else:
            places.give_back(choice.slot, [])
