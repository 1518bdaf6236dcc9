"""What the pages say, held against the tree: links, samples, commands, options, addresses.

The programs in them are run by `tests/integration/test_snippets.py`; fields of the configuration
and metrics are compared in the tests of `config` and `telemetry.metrics`.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer

from turnwire.cli.main import app
from turnwire.config_sources import load
from turnwire.server.openapi import document

ROOT = Path(__file__).parent.parent
PAGES = [
    *sorted(ROOT.glob("*.md")),
    ROOT / "requirements" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]
# What the samples name and a machine does not have.
ENVIRONMENT = {"HOME": "/home/someone", "ALICE_KEY": "a", "FAR_KEY": "b", "LLAMA_KEY": "c"}


class Sample(NamedTuple):
    """A block of code in a page."""

    page: Path
    language: str
    text: str


def name_of(page: Path) -> str:
    return str(page.relative_to(ROOT))


def samples(*languages: str) -> list[Any]:
    """The blocks in these languages, each as a parameter that names its page and line."""
    found = []
    for page in PAGES:
        text = page.read_text("utf-8")
        for block in re.finditer(r"^```(\w+)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
            if block[1] in languages:
                line = text.count("\n", 0, block.start()) + 1
                sample = Sample(page, block[1], block[2])
                found.append(pytest.param(sample, id=f"{name_of(page)}:{line}"))
    return found


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Where a link into a page may lead, as its headings are spelled in addresses."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {text.replace(" ", "-") for text in plain}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """Every link inside the repository leads to a file that there is, and to a heading of it."""
    lost = []
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        place = (page.parent / path).resolve() if path else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            lost.append(target)
    assert [] == lost


def test_every_page_is_in_the_index() -> None:
    """Whoever begins at `docs/index.md` finds every page."""
    index = ROOT / "docs" / "index.md"
    linked = {(index.parent / target).resolve() for target in _targets(index)}
    pages = {page for page in PAGES if page.is_relative_to(index.parent)} - {index}
    assert set() == pages - linked


def _targets(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        yield target.partition("#")[0]


@pytest.mark.parametrize("sample", samples("toml"))
def test_configurations_load(sample: Sample, tmp_path: Path) -> None:
    """A configuration that a page shows can be used as it stands."""
    path = tmp_path / "turnwire.toml"
    path.write_text(sample.text, "utf-8")
    load(path, ENVIRONMENT)


@pytest.mark.parametrize("sample", samples("json"))
def test_json_is_json(sample: Sample) -> None:
    """What a page shows as JSON is."""
    json.loads(sample.text)


def commands(text: str) -> Iterator[list[str]]:
    """The words of each command of ours in the lines of a shell, options that vary left out."""
    for line in text.replace("\\\n", " ").splitlines():
        for part in re.split(r"\s[|;]\s|\s&&\s", line):
            words = shlex.split(part, comments=True)
            while words and re.match(r"[A-Z_]+=", words[0]):
                del words[0]
            if words and words[0].rpartition("/")[2] in ("turnwire", "make"):
                yield words


def check(words: list[str]) -> None:
    """Fail on a command line that is refused before anything runs."""
    program, *arguments = words
    if program == "make":
        targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
        assert set(arguments[:1]) <= set(targets), words
        return
    if arguments == ["--version"]:
        return
    name, *options = arguments
    assert name in COMMANDS, words
    if options:  # else the command is only named
        COMMANDS[name].make_context(name, options)  # raises what a person would be told


@pytest.mark.parametrize("sample", samples("sh"))
def test_commands_are_understood(sample: Sample) -> None:
    """Commands, options and make's targets in a block of shell are ones that there are."""
    for words in commands(sample.text):
        check(words)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_commands_in_sentences_are_understood(page: Path) -> None:
    """So are those between backticks, as far as they are written out."""
    for span in re.findall(r"`((?:[A-Z_]+=\S+ )?(?:turnwire|make) [^`]+)`", prose(page)):
        if "..." not in span and "`" not in span:
            for words in commands(span):
                check(words)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_documented(name: str) -> None:
    """The reference of the command line has each command with exactly its options."""
    page = (ROOT / "docs" / "reference" / "cli.md").read_text("utf-8")
    (section,) = re.findall(rf"^## turnwire {name}\n(.*?)(?=^## )", page, re.DOTALL | re.MULTILINE)
    documented = set(re.findall(r"^\| `(--[\w-]+)", section, re.MULTILINE))
    actual = {
        option.opts[0] for option in COMMANDS[name].params if option.param_type_name == "option"
    }
    assert actual == documented


def test_every_address_is_documented() -> None:
    """The table of the API has each path with exactly its methods."""
    page = (ROOT / "docs" / "reference" / "http-api.md").read_text("utf-8")
    documented = set()
    for cell in re.findall(r"^\| (`(?:GET|POST|DELETE).*?) \|", page, re.MULTILINE):
        methods = re.findall(r"\b(GET|POST|DELETE)\b", cell)
        for path in re.findall(r"(/[\w/{}.]+)", cell):
            documented |= {(method, path) for method in methods}
    paths = json.loads(document("0", keys=True))["paths"]
    actual = {
        (method.upper(), re.sub(r"\{\w*?(item)?(?:_id|id)?\}", _placeholder, path))
        for path, operations in paths.items()
        for method in operations
        if method != "parameters"
    }
    assert actual == documented


def _placeholder(found: re.Match[str]) -> str:
    return "{item}" if found[1] else "{id}"


def test_the_map_of_the_readme() -> None:
    """Every folder has its line in the map of the files, and every line its folder or file."""
    readme = (ROOT / "README.md").read_text("utf-8")
    (drawn,) = re.findall(r"^```\n(src/turnwire/\n.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    top = set(re.findall(r"^(\w\S+)", drawn, re.MULTILINE))
    inner = set(re.findall(r"^  (\w\S+)", drawn, re.MULTILINE))
    package = ROOT / "src" / "turnwire"
    folders = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert folders | {"turn.py"} == inner
    assert {path for path in top if not (ROOT / path).exists()} == set()
    ours = {"bench/", "docs/", "fuzz/", "requirements/", "src/turnwire/", "tests/", "tools/"}
    assert ours == top


def test_every_room_is_in_the_design() -> None:
    """Modules and packages have their line in the table of rooms."""
    page = (ROOT / "docs" / "design.md").read_text("utf-8")
    table = page.partition("## Rooms")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(\w+)`", "".join(re.findall(r"^\| (`.*?) \|", table, re.MULTILINE))))
    package = ROOT / "src" / "turnwire"
    modules = {path.stem for path in package.glob("*.py")} - {"__init__"}
    assert modules | {path.parent.name for path in package.glob("*/__init__.py")} == named
