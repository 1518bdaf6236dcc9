from __future__ import annotations

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.cli import demo_tools
from turnwire.cli.demo_project import PROJECT
from turnwire.cli.demo_tools import MAX_LINES, SCHEMAS, Workbench

PARAMETERS = {schema["name"]: schema["parameters"] for schema in SCHEMAS}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


@pytest.fixture
def bench(tmp_path: Path) -> Workbench:
    return Workbench(tmp_path)


def calls() -> list[tuple[str, dict[str, Any]]]:
    """Every call that the enumerations allow; the rest of its arguments is fixed."""
    fixed: dict[str, list[Any]] = {"integer": [1, 30, 99], "string": ["look here", ""]}
    every: list[tuple[str, dict[str, Any]]] = []
    for name, parameters in PARAMETERS.items():
        if name == "test":
            continue  # it starts processes; it has tests of its own
        properties = parameters["properties"]
        choices: list[list[Any]] = [
            it.get("enum") or fixed[it["type"]] for it in properties.values()
        ]
        every += [
            (name, dict(zip(properties, chosen, strict=True)))
            for chosen in itertools.product(*choices)
        ]
    return every


@pytest.mark.parametrize("name", PARAMETERS)
def test_schemas_are_strict(name: str) -> None:
    """A schema demands every property and allows no other, as strict mode asks."""
    parameters = PARAMETERS[name]
    assert list(parameters["properties"]) == parameters["required"]
    assert parameters["additionalProperties"] is False


def test_every_call_that_obeys_can_be_carried_out(bench: Workbench) -> None:
    """No combination of what the schemas enumerate is answered with an error."""
    answers = {(name, str(given)): bench.call(name, json.dumps(given)) for name, given in calls()}
    assert {} == {call: answer for call, answer in answers.items() if answer.startswith("error:")}


def test_equal_folders_give_equal_answers(tmp_path: Path) -> None:
    """What a tool answers follows from the files and the call, not from the folder's name."""
    one, other = Workbench(tmp_path / "one"), Workbench(tmp_path / "a" / "nother")
    suite = ("test", {"suite": "tests.test_length"})
    for name, arguments in [*calls()[::7], suite]:
        assert one.call(name, json.dumps(arguments)) == other.call(name, json.dumps(arguments))


def test_listing_names_what_files_define(bench: Workbench) -> None:
    """A listing has a line for each file below the folder, with its functions and classes."""
    lines = bench.call("list_files", '{"folder": "measures"}').splitlines()
    assert [path for path in PROJECT if path.startswith("measures/")] == [
        line.partition(":")[0] for line in lines
    ]
    (convert,) = (line for line in lines if line.startswith("measures/convert.py"))
    assert convert.endswith(
        "lines; UnknownUnit, DifferentQuantities, table, find, convert, convert_many"
    )


def test_reading_shows_the_whole_file(bench: Workbench) -> None:
    """A file is shown line by line, each with its number."""
    shown = bench.call("read_file", '{"path": "measures/parse.py"}').splitlines()
    expected = enumerate(PROJECT["measures/parse.py"].splitlines(), start=1)
    assert [f"{number:4}  {line}" for number, line in expected] == shown


def test_a_search_is_bounded(bench: Workbench) -> None:
    """A word that is everywhere is shown so many times, and the rest is counted."""
    *shown, last = bench.call("search", '{"word": "unit"}').splitlines()
    total = sum("unit" in line for text in PROJECT.values() for line in text.splitlines())
    assert (MAX_LINES, f"... and {total - MAX_LINES} more") == (len(shown), last)


def test_an_edit_is_seen_by_the_next_read(bench: Workbench, tmp_path: Path) -> None:
    """A comment stands above the line that was named, and nothing else has changed."""
    before = PROJECT["measures/length.py"].splitlines()
    bench.call(
        "edit_file", '{"path": "measures/length.py", "line": 9, "comment": "Why?\\n\\nAsk."}'
    )
    after = (tmp_path / "measures/length.py").read_text().splitlines()
    assert [*before[:8], "# Why?", "#", "# Ask.", *before[8:]] == after


def test_an_edit_beyond_the_end_is_at_the_end(bench: Workbench, tmp_path: Path) -> None:
    """A line that the file does not have means its end."""
    bench.call("edit_file", '{"path": "measures/__init__.py", "line": 99, "comment": "The end."}')
    assert (tmp_path / "measures/__init__.py").read_text() == (
        '"""Units of measure."""\n# The end.\n'
    )


def test_the_tests_really_run(bench: Workbench) -> None:
    """All tests run, one fails at the wrong factor, and the answer has no time and no folder."""
    answer = bench.call("test", '{"suite": "all"}')
    num_tests = sum(text.count("    def test_") for text in PROJECT.values())
    assert f"Ran {num_tests} tests\n" in answer
    assert ["FAIL: test_furlong"] == re.findall("^(?:FAIL|ERROR): \\w+", answer, re.MULTILINE)
    assert 'File "tests/test_length.py"' in answer
    assert answer.endswith("FAILED (failures=1)")


def test_one_suite_runs_alone(bench: Workbench) -> None:
    """A suite that is named runs without the others."""
    answer = bench.call("test", '{"suite": "tests.test_area"}')
    assert f"Ran {PROJECT['tests/test_area.py'].count('    def test_')} tests\n" in answer
    assert answer.endswith("OK")


def test_tests_that_do_not_end_are_ended(
    bench: Workbench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of tests has a limit, and the answer says that it was reached."""
    (tmp_path / "tests/test_area.py").write_text("import signal\nsignal.pause()\n")
    monkeypatch.setattr(demo_tools, "TESTS_LIMIT_SEC", 0.2)
    answer = bench.call("test", '{"suite": "tests.test_area"}')
    assert "error: the tests did not end within 0.2 seconds" == answer


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("delete_file", "{}"),
        ("read_file", "{"),
        ("read_file", "[]"),
        ("read_file", "{}"),
        ("read_file", '{"path": "measures/area.py", "raw": true}'),
        ("read_file", '{"path": "../secret"}'),
        ("read_file", '{"path": "/etc/hostname"}'),
        ("read_file", '{"path": ["measures/area.py"]}'),
        ("list_files", '{"folder": ".."}'),
        ("search", '{"word": ""}'),
        ("search", '{"word": 1}'),
        ("edit_file", '{"path": "../x.py", "line": 1, "comment": ""}'),
        ("edit_file", '{"path": "measures/area.py", "line": 0, "comment": ""}'),
        ("edit_file", '{"path": "measures/area.py", "line": "1", "comment": ""}'),
        ("edit_file", '{"path": "measures/area.py", "line": 1, "comment": null}'),
        ("test", '{"suite": "--help"}'),
    ],
)
def test_other_calls_are_answered_with_an_error(
    bench: Workbench, tmp_path: Path, name: str, arguments: str
) -> None:
    """A call that does not obey its schema is answered with an error, and changes no file."""
    assert bench.call(name, arguments).startswith("error: ")
    files = {path: (tmp_path / path).read_text() for path in PROJECT}
    assert PROJECT == files


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Workbench:
    return Workbench(tmp_path_factory.mktemp("shared"))


@given(data=st.data(), name=st.sampled_from(sorted(PARAMETERS)))
def test_no_arguments_make_a_tool_raise(shared: Workbench, data: st.DataObject, name: str) -> None:
    """Whatever JSON a model makes up is answered with a text."""
    properties = st.sampled_from(list(PARAMETERS[name]["properties"]))
    value = JSON | st.sampled_from(list(PROJECT))
    arguments = json.dumps(data.draw(st.dictionaries(properties, value) | JSON))
    assert isinstance(shared.call(name, arguments), str)


def test_half_a_surrogate_is_no_text(bench: Workbench) -> None:
    """JSON can spell what no file can hold; that is an error and not a crash."""
    arguments = '{"path": "README.md", "line": 1, "comment": "\\ud800"}'
    assert bench.call("edit_file", arguments).startswith("error: ")


def test_the_test_command_is_this_interpreter(
    bench: Workbench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests run without the caller's Python settings and leave no compiled files."""
    seen: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        seen.append(command[1:])
        return subprocess.CompletedProcess(command, 0, b"OK")

    monkeypatch.setattr(subprocess, "run", run)
    assert "OK" == bench.call("test", '{"suite": "all"}')
    assert [["-E", "-B", "-m", "unittest", "-v"]] == seen
