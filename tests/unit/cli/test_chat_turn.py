"""Tests of `turnwire.cli.chat_turn`."""

from __future__ import annotations

from typing import Any

import pytest

from turnwire.cli.chat_turn import Answer, Chat, Piece, clean
from turnwire.model_config import Prices

USAGE = {
    "input_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 1000},
    "output_tokens": 41,
}


def delta(text: str, kind: str = "output_text") -> dict[str, Any]:
    """A piece of an answer."""
    return {"type": f"response.{kind}.delta", "delta": text}


def end(status: str = "completed", **fields: Any) -> dict[str, Any]:
    """The end of an answer."""
    kind = {"completed": "completed", "incomplete": "incomplete"}.get(status, "failed")
    response = {"id": "resp_1", "status": status, "output": [{"type": "message"}], **fields}
    return {"type": f"response.{kind}", "response": response}


def show(*events: dict[str, Any], prices: Prices | None = None) -> tuple[Answer, list[Piece]]:
    """What a person sees of events that come a second apart."""
    answer = Answer(0.0, prices)
    pieces = [piece for now, event in enumerate(events, 1) for piece in answer.feed(event, now)]
    return answer, pieces


def test_thoughts_and_words_are_told_apart() -> None:
    """Each begins on a line of its own, and so does what is said about the answer."""
    answer, pieces = show(
        {"type": "response.created"},
        delta("Hm", "reasoning_text"),
        delta(".", "reasoning_summary_text"),
        delta("It "),
        delta("is."),
        end(usage=USAGE),
        prices=Prices(input=10, cached=1, output=100),
    )
    assert [
        Piece("Hm", "thought"),
        Piece(".", "thought"),
        Piece("\nIt ", "said"),
        Piece("is.", "said"),
        Piece("\n", "said"),
        Piece(
            "1,200 tokens in (1,000 cached), 41 out; first after 2000 ms; 10 a second; "
            "cost 0.007100\n",
            "note",
        ),
    ] == pieces
    assert (True, "resp_1") == (answer.ended, answer.response_id)


def test_parts_of_a_summary_are_paragraphs() -> None:
    """The second begins after an empty line."""
    added = {"type": "response.reasoning_summary_part.added"}
    _, pieces = show(
        {**added, "summary_index": 0},
        delta("a", "reasoning_summary_text"),
        {**added, "summary_index": 1},
        delta("b", "reasoning_summary_text"),
    )
    assert "a\n\nb" == "".join(piece.text for piece in pieces)


@pytest.mark.parametrize(
    ("item", "text"),
    [
        ({"type": "function_call", "name": "f", "arguments": '{"a":1}'}, 'f({"a":1})'),
        ({"type": "custom_tool_call", "name": "f", "input": "x"}, "f(x)"),
    ],
)
def test_calls_are_shown(item: dict[str, Any], text: str) -> None:
    """Nobody runs them here."""
    _, pieces = show({"type": "response.output_item.done", "item": item})
    assert [Piece(text, "note")] == pieces


@pytest.mark.parametrize(
    ("event", "shown", "kept"),
    [
        (end("incomplete", incomplete_details={"reason": "max_output_tokens"}), "cut off", True),
        (end("cancelled"), "cancelled", False),
        (end("failed", error={"message": "it broke"}), "it broke", False),
        ({"type": "error", "error": {"code": "x", "message": "no"}}, "no", False),
    ],
)
def test_another_end_is_said(event: dict[str, Any], shown: str, kept: bool) -> None:
    """On a line of its own; only what came to an answer is gone on from."""
    answer, pieces = show(delta("a"), event)
    assert f"\n{shown}" in pieces[1].text
    assert (True, kept) == (answer.ended, answer.response_id is not None)
    chat = Chat("m")
    chat.keep("q", answer)
    assert (2 if kept else 0) == len(chat.items)


@pytest.mark.parametrize("begun", [False, True])
def test_a_conversation_that_is_too_long(begun: bool) -> None:
    """Whoever reads that is told how to go on."""
    error = {"code": "context_length_exceeded", "message": "Too long."}
    answer, pieces = show(
        end("failed", error=error) if begun else {"type": "error", "error": error}
    )
    assert [
        Piece("Too long.\n", "fault"),
        Piece("/reset begins a new conversation\n", "note"),
    ] == pieces
    assert answer.ended


def test_a_lost_connection_ends_an_answer() -> None:
    """With its reason."""
    answer = Answer(0.0)
    answer.feed(delta("a"), 1.0)
    assert [Piece("\ngone\n", "fault")] == answer.lost("gone")
    assert answer.ended


def test_a_conversation_goes_on_from_what_the_connection_knows() -> None:
    """Only what is new is sent; to another connection, everything."""
    chat = Chat("m")
    first = chat.ask("one")
    assert "previous_response_id" not in first
    answer, _ = show(end())
    chat.keep("one", answer)
    second = chat.ask("two")
    assert ("resp_1", 1) == (second["previous_response_id"], len(second["input"]))
    chat.disconnected()
    again = chat.ask("two")
    assert ["one", None, "two"] == [item.get("content") for item in again["input"]]
    assert "previous_response_id" not in again
    chat.reset()
    assert 1 == len(chat.ask("three")["input"])


def test_a_forgotten_parent_is_noticed() -> None:
    """Then the question is to be asked again, with everything before it."""
    error = {"code": "previous_response_not_found", "message": "not found"}
    answer, _ = show({"type": "error", "error": error})
    assert answer.unknown_parent


def test_effort_is_asked_for_when_it_was_chosen() -> None:
    """And a summary with it, because that is what can be shown."""
    assert "reasoning" not in Chat("m").ask("x")
    assert {"effort": "low", "summary": "auto"} == Chat("m", "low").ask("x")["reasoning"]


def test_a_terminal_is_not_steered_by_a_model() -> None:
    """What would move the cursor, change colours or ring a bell is left out."""
    assert "a[31mred\tb\n" == clean("a\x1b[31mred\x07\tb\r\n\x9b")
