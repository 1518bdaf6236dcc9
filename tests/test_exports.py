"""`__all__` is the public face of a module: it is complete and true.

Public are all classes and functions of a module, and those of its constants and aliases that
another module uses.
"""

from __future__ import annotations

import ast
from importlib import import_module
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src"
MODULES = {
    ".".join(path.relative_to(SRC).with_suffix("").parts): path
    for path in sorted((SRC / "turnwire").rglob("*.py"))
    if path.name not in ("__init__.py", "__main__.py")
}
TREES = {name: ast.parse(path.read_text("utf-8")) for name, path in MODULES.items()}


def is_public(name: str) -> bool:
    return not name.startswith("_")


def exported(tree: ast.Module) -> list[str] | None:
    """The names in `__all__`, or None if there is no such list."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            names: list[str] = ast.literal_eval(node.value)
            return names
    return None


def classes_and_functions(tree: ast.Module) -> set[str]:
    kinds = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name for node in tree.body if isinstance(node, kinds) and is_public(node.name)}


def used_elsewhere(module: str) -> set[str]:
    """Public names that other modules of ours import from this one."""
    return {
        alias.name
        for other, tree in TREES.items()
        if other != module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module == module
        for alias in node.names
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_public_class_and_function_is_exported(module: str) -> None:
    """A class or function that is not in `__all__` has a name that says so."""
    assert set() == classes_and_functions(TREES[module]) - set(exported(TREES[module]) or ())


@pytest.mark.parametrize("module", MODULES)
def test_every_exported_name_exists(module: str) -> None:
    """A module has an `__all__`, and each name in it stands for something there, once."""
    names = exported(TREES[module])
    assert names is not None, f"{module} has no __all__"
    assert [] == [name for name in names if not hasattr(import_module(module), name)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("module", MODULES)
def test_others_use_what_is_exported(module: str) -> None:
    """No module imports a name, constants included, that its owner does not export."""
    assert set() == used_elsewhere(module) - set(exported(TREES[module]) or ())
