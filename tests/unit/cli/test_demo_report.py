from __future__ import annotations

import io
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from turnwire.cli.demo_report import (
    Machine,
    Report,
    Summary,
    conclude,
    same_path,
    summarise,
    table,
)
from turnwire.cli.demo_turn import Turn
from turnwire.engines.sim import SimProfile

PROFILE = SimProfile(tokens_per_sec=100.0, prefill_overhead_sec=0.5, prefill_sec_per_token=0.01)
SECONDS = st.floats(0.001, 100)


def turn(**changes: Any) -> Turn:
    known: dict[str, Any] = {
        "text": "",
        "calls": (("read_file", "{}"),),
        "sec": 3.0,
        "first_event_sec": 0.1,
        "first_delta_sec": 0.6,
        "tools_sec": 0.2,
        "cpu_sec": 0.05,
        "num_sent_bytes": 1000,
        "num_rendered": 30,
        "num_input": 60,
        "num_cached": 40,
        "num_output": 101,
    }
    return Turn(**known | changes)


def summary(**changes: Any) -> Summary:
    return msgspec.structs.replace(summarise([[turn()]], PROFILE), **changes)


def report(http: Summary, websocket: Summary) -> Report:
    return Report(
        model="sim",
        tool_calls=1,
        rounds=1,
        answers_equal=True,
        http=http,
        websocket=websocket,
        machine=Machine("System", "processor", 2, "3.11"),
    )


def shown(about: Report) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    console.print(table(about))
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue().splitlines()


def test_a_summary_adds_up_a_loop() -> None:
    """Times, bytes and tokens of a loop are the sums of its turns', the first event's a median."""
    turns = [turn(), turn(first_event_sec=0.2), turn(first_event_sec=0.9, calls=())]
    made = summarise([turns], PROFILE)
    # 0.5 s, 20 tokens at 0.01 s, 100 more tokens at 0.01 s
    assert pytest.approx(3 * 1.7) == made.model_sec
    assert pytest.approx((9.6, 0.6, 3 * 1.3)) == (made.loop_sec, made.tools_sec, made.other_sec)
    assert 0.2 == made.first_event_sec
    assert (3000, 90, 180, 120) == (
        made.sent_bytes,
        made.rendered_tokens,
        made.prompt_tokens,
        made.cached_tokens,
    )
    assert ["read_file", "read_file", ""] == [each.call for each in made.per_turn]


@given(
    st.lists(
        st.builds(turn, sec=SECONDS, tools_sec=SECONDS, num_output=st.integers(1, 50)), min_size=1
    )
)
def test_the_parts_of_a_loop_are_all_of_it(turns: list[Turn]) -> None:
    """Model, tools and the rest add up to the time of a loop."""
    made = summarise([turns], PROFILE)
    assert pytest.approx(made.loop_sec) == made.model_sec + made.tools_sec + made.other_sec


@given(st.lists(SECONDS, min_size=3, max_size=7).filter(lambda values: len(values) % 2 == 1))
def test_one_slow_round_does_not_decide(secs: list[float]) -> None:
    """Of several rounds the one in the middle counts, whatever their order."""
    rounds = [[turn(sec=sec, tools_sec=0.0)] for sec in secs]
    made = summarise(rounds, PROFILE)
    assert sorted(secs)[len(secs) // 2] == made.loop_sec == made.per_turn[0].sec
    assert secs == made.rounds_sec


def test_unknown_processor_time_stays_unknown() -> None:
    """If the system did not say once, no sum is made up, and the table leaves the row out."""
    made = summarise([[turn(), turn(cpu_sec=None)]], PROFILE)
    assert made.server_cpu_sec is None
    assert not any("processor" in line for line in shown(report(made, summary())))
    assert any("processor" in line for line in shown(report(summary(), summary())))


@pytest.mark.parametrize(
    ("loops", "same"),
    [
        ([[turn()], [turn(sec=9.0)]], True),
        ([[turn()], [turn(text="Done.")]], False),
        ([[turn()], [turn(calls=(("read_file", '{"path": "x"}'),))]], False),
        ([[turn()], [turn(), turn()]], False),
        ([[turn()], [turn()], [turn(calls=())]], False),
    ],
)
def test_paths_are_compared_by_what_was_said(loops: list[list[Turn]], same: bool) -> None:
    """Loops are the same if all their calls and texts are; times do not matter."""
    assert same is same_path(loops)


def test_the_table_has_both_arms_and_their_ratio() -> None:
    """A row shows the number over HTTP, over WebSocket, and how often one goes into the other."""
    about = report(
        summary(loop_sec=3.0, first_event_sec=0.0205, sent_bytes=1_234_567, cached_tokens=0),
        summary(loop_sec=2.0, first_event_sec=0.004, sent_bytes=100_000, cached_tokens=0),
    )
    lines = [line.split() for line in shown(about)]
    assert ["time", "of", "the", "loop", "3.00", "s", "2.00", "s", "1.5"] in lines
    assert any(line[-5:] == ["20.5", "ms", "4.0", "ms", "5.1"] for line in lines)
    assert ["bytes", "sent", "1,234,567", "100,000", "12.3"] in lines
    assert ["from", "the", "engine's", "cache", "0", "0", "-"] in lines


@pytest.mark.parametrize(
    ("http", "websocket", "said"),
    [
        ({"loop_sec": 4.0}, {"loop_sec": 3.0}, "3.00 s where HTTP took 4.00 s (25 % less)"),
        ({"loop_sec": 2.0}, {"loop_sec": 3.0}, "3.00 s where HTTP took 2.00 s (50 % more)"),
        ({"loop_sec": 3.0}, {"loop_sec": 3.001}, "3.00 s where HTTP took 3.00 s (the same)"),
        ({"other_sec": -0.1}, {"other_sec": 0.1}, "0.10 s where HTTP took -0.10 s. It"),
        ({"sent_bytes": 900}, {"sent_bytes": 300}, "It sent 3.0 times fewer bytes and"),
        ({"sent_bytes": 300}, {"sent_bytes": 900}, "It sent 3.0 times more bytes and"),
        ({"sent_bytes": 300}, {"sent_bytes": 300}, "It sent as many bytes and"),
        ({"rendered_tokens": 9}, {"rendered_tokens": 0}, "rendered 0 tokens where HTTP had 9."),
    ],
)
def test_the_conclusion_follows_from_the_numbers(
    http: dict[str, Any], websocket: dict[str, Any], said: str
) -> None:
    """Less, more and the same are said as the numbers have it, in either direction."""
    assert said in conclude(report(summary(**http), summary(**websocket)))


def test_a_report_survives_json() -> None:
    """What --json prints holds the whole report."""
    about = report(summary(), summary(server_cpu_sec=None))
    assert about == msgspec.json.decode(msgspec.json.encode(about), type=Report)
