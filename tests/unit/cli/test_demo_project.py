from __future__ import annotations

import ast

import pytest

from turnwire.cli.demo_project import FOLDERS, PROJECT, WORDS


@pytest.mark.parametrize("path", [path for path in PROJECT if path.endswith(".py")])
def test_every_module_is_python(path: str) -> None:
    """Each generated module parses."""
    assert ast.parse(PROJECT[path]).body or PROJECT[path] == ""


@pytest.mark.parametrize("word", WORDS)
def test_every_word_is_found(word: str) -> None:
    """There is something to be found for each word that a search offers."""
    assert any(word in text for text in PROJECT.values())


def test_every_folder_has_files() -> None:
    """The folders that a listing offers are those that the paths name, and the top."""
    assert set(FOLDERS) == {path.rpartition("/")[0] or "." for path in PROJECT}
