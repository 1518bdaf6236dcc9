"""The tools of the demo's agent: they really read, search, edit and test files in a folder.

A simulated model fills in arguments without understanding them. So the schemas enumerate what
there is (files, folders, words, tests), and every call that obeys them can be carried out.

What a tool answers follows from the folder's files and the call: no times, no absolute paths.
Two agents that make the same calls in equal folders therefore see the same answers.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from turnwire.cli.demo_project import FOLDERS, PROJECT, WORDS

__all__ = ["SCHEMAS", "Workbench"]

TESTS_LIMIT_SEC: Final = 30.0
MAX_LINES: Final = 60
"""Most lines that a search shows."""
CONTEXT_LINES: Final = 12
"""Lines that an edit shows before and after the place."""

_ALL_TESTS: Final = "all"
_SUITES: Final = tuple(
    path.removesuffix(".py").replace("/", ".") for path in PROJECT if path.startswith("tests/test_")
)
_PATHS: Final = tuple(PROJECT)
_DEFINED: Final = re.compile(r"^ *(?:def|class) (\w+)", re.MULTILINE)


def _schema(name: str, description: str, **properties: dict[str, Any]) -> dict[str, Any]:
    return {
        "type": "function",
        "name": name,
        "description": description,
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": properties,
            "required": list(properties),
            "additionalProperties": False,
        },
    }


SCHEMAS: Final = [
    _schema(
        "list_files",
        "List the files of a folder and of the folders in it, with what they define.",
        folder={"type": "string", "enum": list(FOLDERS)},
    ),
    _schema(
        "read_file",
        "Read a whole file, with line numbers.",
        path={"type": "string", "enum": list(_PATHS)},
    ),
    _schema(
        "search",
        f"Find the lines of all files that contain a word. Shows at most {MAX_LINES}.",
        word={"type": "string", "enum": list(WORDS)},
    ),
    _schema(
        "edit_file",
        "Put a comment into a Python file, above a line; shows the place afterwards.",
        path={"type": "string", "enum": [path for path in _PATHS if path.endswith(".py")]},
        line={"type": "integer", "minimum": 1, "maximum": 99},
        comment={"type": "string", "maxLength": 120},
    ),
    _schema(
        "test",
        "Run one file of tests, or all; shows every test and what failed.",
        suite={"type": "string", "enum": [_ALL_TESTS, *_SUITES]},
    ),
]
"""As they stand in the field `tools` of a request."""


class Workbench:
    """A folder with the project in it, and the tools at work there."""

    def __init__(self, folder: Path) -> None:
        """Write the project's files into an empty folder."""
        self._folder: Final = folder
        self._tools: Final[dict[str, Callable[..., str]]] = {
            "list_files": self._list_files,
            "read_file": self._read_file,
            "search": self._search,
            "edit_file": self._edit_file,
            "test": self._test,
        }
        for path, text in PROJECT.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8")

    def call(self, name: str, arguments: str) -> str:
        """Carry out a call and return what it answers.

        A call that does not obey its schema is answered with a line that begins with `error:`;
        nothing outside of the project's files is read or written, whatever it asks for.

        Args:
            name: Of the tool.
            arguments: A JSON object.
        """
        tool = self._tools.get(name)
        if tool is None:
            return f"error: there is no tool {name!r}"
        try:
            return tool(**msgspec.json.decode(arguments, type=dict[str, Any]))
        except (msgspec.DecodeError, TypeError, LookupError) as error:
            return f"error: {error}"

    def _list_files(self, folder: str) -> str:
        if folder not in FOLDERS:
            raise LookupError(f"there is no folder {folder!r}")
        entries = []
        for path in _PATHS:
            if folder == "." or path.startswith(f"{folder}/"):
                text = self._read(path)
                names = _DEFINED.findall(text)
                entries.append(f"{path}: {len(text.splitlines())} lines; {', '.join(names) or '-'}")
        return "\n".join(entries)

    def _read_file(self, path: str) -> str:
        return _numbered(self._read(path).splitlines(), first=1)

    def _search(self, word: object) -> str:
        if not isinstance(word, str) or not word:
            raise TypeError("`word` must be a text that is not empty")
        found = [
            f"{path}:{number}: {line.strip()}"
            for path in _PATHS
            for number, line in enumerate(self._read(path).splitlines(), start=1)
            if word in line
        ]
        shown = found[:MAX_LINES]
        if len(found) > len(shown):
            shown.append(f"... and {len(found) - len(shown)} more")
        return "\n".join(shown) or f"no line contains {word!r}"

    def _edit_file(self, path: str, line: object, comment: object) -> str:
        lines = self._read(path).splitlines()
        if not isinstance(line, int) or line < 1 or not isinstance(comment, str):
            raise TypeError("`line` must be a number from 1, `comment` a text")
        place = min(line - 1, len(lines))
        lines[place:place] = [f"# {text}".rstrip() for text in comment.splitlines() or [""]]
        (self._folder / path).write_text("\n".join(lines) + "\n", "utf-8")
        first = max(place - CONTEXT_LINES, 0)
        return f"{path} has {len(lines)} lines now:\n" + _numbered(
            lines[first : place + 1 + CONTEXT_LINES], first=first + 1
        )

    def _test(self, suite: str) -> str:
        if suite not in (_ALL_TESTS, *_SUITES):
            raise LookupError(f"there is no suite {suite!r}")
        # -E: settings of whoever runs the demo do not reach these tests. -B: no files but ours.
        command = [sys.executable, "-E", "-B", "-m", "unittest", "-v"]
        if suite != _ALL_TESTS:
            command.append(suite)
        try:
            ended = subprocess.run(  # noqa: S603 - the command is one of a fixed few
                command,
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                timeout=TESTS_LIMIT_SEC,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"error: the tests did not end within {TESTS_LIMIT_SEC:g} seconds"
        return self._without_chance(ended.stdout.decode(errors="replace"))

    def _without_chance(self, output: str) -> str:
        """Leave out what differs between two runs of the same tests."""
        for folder in (self._folder.resolve(), self._folder):
            output = output.replace(f"{folder}/", "")
        return re.sub(r"(Ran \d+ tests?) in [0-9.]+s", r"\1", output).strip()

    def _read(self, path: str) -> str:
        if path not in _PATHS:
            raise LookupError(f"there is no file {path!r}")
        return (self._folder / path).read_text("utf-8")


def _numbered(lines: list[str], *, first: int) -> str:
    return "\n".join(f"{number:4}  {line}" for number, line in enumerate(lines, start=first))
