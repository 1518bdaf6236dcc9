from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from turnwire.cli import demo
from turnwire.cli.demo_report import Report
from turnwire.cli.demo_server import DemoFailed
from turnwire.cli.demo_turn import ARMS, Arm, Turn


def loop(text: str = "Done.") -> list[Turn]:
    numbers: dict[str, Any] = dict.fromkeys(Turn.__struct_fields__, 1)
    return [Turn(**numbers | {"text": text, "calls": ()})]


def run(**changes: Any) -> int:
    asked: dict[str, Any] = {"turns": 1, "model": "sim", "rounds": 1, "as_json": False}
    return demo.run(**asked | changes)


@pytest.fixture(autouse=True)
def no_servers(monkeypatch: pytest.MonkeyPatch) -> dict[Arm, list[list[Turn]]]:
    """Instead of playing, both arms come to what is in this table."""
    played: dict[Arm, list[list[Turn]]] = {arm: [loop()] for arm in ARMS}
    monkeypatch.setattr(demo, "_play", lambda *args, **kwargs: played)
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "example.org")
    return played


def test_the_comparison_says_that_the_model_is_simulated(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What people read has the numbers, whether the answers agree, and what is made up."""
    assert 0 == run()
    printed = " ".join(capsys.readouterr().out.split())
    assert "answers equal: yes" in printed
    assert "time of the loop 2.00 s 2.00 s 1.0" in printed
    assert "The model is simulated" in printed


def test_json_is_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    """With --json the report is all there is on standard output."""
    assert 0 == run(as_json=True, rounds=1, turns=1)
    report = msgspec.json.decode(capsys.readouterr().out, type=Report)
    assert (True, True, "sim", 2) == (
        report.simulated,
        report.answers_equal,
        report.model,
        report.http.loop_sec,
    )


@pytest.mark.parametrize("as_json", [False, True])
def test_different_answers_are_a_failure(
    no_servers: dict[Arm, list[list[Turn]]], capsys: pytest.CaptureFixture[str], as_json: bool
) -> None:
    """If the arms differ the numbers are printed all the same, and the exit code is 1."""
    no_servers["websocket"] = [loop("Something else.")]
    assert 1 == run(as_json=as_json)
    printed = capsys.readouterr()
    assert ('"answers_equal":false' if as_json else "answers equal: NO") in printed.out
    assert "turnwire: the arms did not get the same answers" in printed.err


@pytest.mark.parametrize("missing", demo.NEEDED)
def test_without_the_extra_it_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], missing: str
) -> None:
    """Without the client library: one line with the command that installs it, and exit code 2."""
    monkeypatch.setattr(demo, "find_spec", lambda name: None if name == missing else object())
    assert 2 == run()
    assert (
        "",
        "turnwire: the demo needs the client library: pip install 'turnwire[demo]'\n",
    ) == capsys.readouterr()


def test_an_unknown_model_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A model that is not one of the simulated ones: a line that names those, exit code 2."""
    assert 2 == run(model="gpt-x")
    assert "turnwire: there is no model 'gpt-x'; there are sim, " in capsys.readouterr().err


def test_a_broken_loop_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A loop that does not come to its end: a line that says why, exit code 1."""

    def fail(*args: object, **kwargs: object) -> None:
        raise DemoFailed("The server\nis gone.")

    monkeypatch.setattr(demo, "_play", fail)
    assert 1 == run(as_json=True)
    assert ("", "turnwire: The server is gone.\n") == capsys.readouterr()


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        ({}, {"no_proxy": "127.0.0.1", "NO_PROXY": "127.0.0.1"}),
        ({"no_proxy": "a.example"}, {"no_proxy": "a.example,127.0.0.1", "NO_PROXY": "127.0.0.1"}),
    ],
)
def test_the_server_is_reached_without_a_proxy(
    monkeypatch: pytest.MonkeyPatch, known: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    """Loopback is added to whatever else is to be reached directly."""
    for name in expected:
        monkeypatch.delenv(name, raising=False)
    for name, value in known.items():
        monkeypatch.setenv(name, value)
    assert 0 == run()
    assert expected == {name: os.environ[name] for name in expected}
