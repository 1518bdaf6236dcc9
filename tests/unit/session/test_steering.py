"""A steer's states are a table, and its input is a user's message."""

from __future__ import annotations

import json

import pytest
from msgspec import Raw

from turnwire.errors import InvalidTransition
from turnwire.session.steering import (
    TRANSITIONS,
    InvalidSteer,
    Steer,
    SteerMove,
    Steers,
    SteerState,
    merge_input,
    steer_messages,
)

REACH: dict[SteerState, list[SteerMove]] = {
    SteerState.ACCEPTED: [],
    SteerState.PENDING: [SteerMove.WAIT],
    SteerState.COMMITTED: [SteerMove.COMMIT],
    SteerState.FAILED: [SteerMove.FAIL],
}


@pytest.mark.parametrize("move", SteerMove)
@pytest.mark.parametrize("state", SteerState)
def test_every_pair_is_decided(state: SteerState, move: SteerMove) -> None:
    """Each (state, move) pair is in the table, or is refused and changes nothing."""
    steer = Steer("resp_1", Raw(b'"hi"'))
    for step in REACH[state]:
        steer.move(step)
    assert state is steer.state
    if (state, move) in TRANSITIONS:
        steer.move(move)
        assert TRANSITIONS[state, move] is steer.state
    else:
        with pytest.raises(InvalidTransition):
            steer.move(move)
        assert state is steer.state


def test_a_string_is_a_user_message() -> None:
    """The short form of the input means one message."""
    [message] = steer_messages(Raw(b'"hi"'))
    assert {"type": "message", "role": "user", "content": "hi"} == json.loads(bytes(message))


def test_messages_are_kept_as_sent() -> None:
    """The long form passes through byte for byte, with text, image and file parts."""
    sent = b'[{"role":"user","content":[{"type":"input_text","text":"a"}]}]'
    [message] = steer_messages(Raw(sent))
    assert sent[1:-1] == bytes(message)


@pytest.mark.parametrize(
    "given",
    [
        "[]",
        "1",
        "null",
        "{}",
        '[{"role":"system","content":"x"}]',
        '[{"role":"user","content":"x","status":"completed"}]',
        '[{"type":"function_call_output","call_id":"c","output":"x"}]',
        '[{"role":"user","content":[{"type":"output_text","text":"x"}]}]',
        "[" * 100_000 + "]" * 100_000,
    ],
)
def test_anything_else_is_refused(given: str) -> None:
    """Only user messages steer."""
    with pytest.raises(InvalidSteer):
        steer_messages(Raw(given.encode()))


@pytest.mark.parametrize(
    ("given", "contents"),
    [
        (b"", ["first"]),
        (b"null", ["first"]),
        (b"[]", ["first"]),
        (b'"second"', ["first", "second"]),
        (b'[{"role":"user","content":"second"}]', ["first", "second"]),
    ],
)
def test_steers_go_before_the_input(given: bytes, contents: list[str]) -> None:
    """Whatever form the create's input has, the steers come first."""
    merged = merge_input(steer_messages(Raw(b'"first"')), Raw(given))
    assert contents == [item["content"] for item in json.loads(bytes(merged))]


def test_an_unreadable_input_is_left_to_its_own_check() -> None:
    """A create with a wrong input fails for that, not for the steer."""
    assert b"3" == bytes(merge_input(steer_messages(Raw(b'"first"')), Raw(b"3")))


def test_a_steer_waits_once() -> None:
    """Who was told that it waits is not told again; the next steer is."""
    steers = Steers()
    steers.add(Steer("resp_1", Raw(b'"a"')))
    assert 1 == len(steers.wait("resp_1"))
    assert [] == steers.wait("resp_1")
    steers.add(Steer("resp_1", Raw(b'"b"')))
    assert [b'"b"'] == [bytes(steer.input) for steer in steers.wait("resp_1")]
    assert 2 == len(steers.commit("resp_1"))
    assert 0 == len(steers)
