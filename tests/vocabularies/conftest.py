"""Real vocabularies, out of packages from PyPI that carry them, and OpenAI's library for one.

Nothing of these is imported but that library.

They are installed once into `.cache`, in a folder named after their versions, and without what
they need to run.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest
from tests.unit.rendering.imitations import TEMPLATES

from turnwire.rendering.tokenizer import Tokenizer
from turnwire.rendering.vocabulary import PATTERNS, from_ranks, from_tekken, read_ranks

PACKAGES: Final = ("litellm==1.109.1", "mistral-common==1.13.1", "openai-harmony==0.0.8")
CACHE: Final = Path(__file__).parents[2] / ".cache"
PATIENCE_SEC: Final = 500.0

# Files of ranks are named as tiktoken caches them: by the SHA-1 of where they were published.
RANKS: Final = {
    "cl100k": ("9b5ad71b2ce5302211f9c61530b329a4922fc6a4", "llama3"),
    "o200k": ("fb374d419588a4632f3f557e76b4b70aebbca790", "gpt-4o"),
}

Vocabularies = Callable[[str, str], Tokenizer]
"""By name of a vocabulary and of a model in `TEMPLATES`."""


@pytest.fixture(scope="session")
def carried() -> Path:
    """The folder that the packages are in."""
    folder = CACHE / f"vocabularies-{'-'.join(one.partition('==')[2] for one in PACKAGES)}"
    if not folder.exists():
        partial = folder.with_name(f"{folder.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        options = ["--no-deps", "--only-binary", ":all:", "--no-compile", "--target", str(partial)]
        subprocess.run([*pip, *options, *PACKAGES], timeout=PATIENCE_SEC, check=True)
        partial.rename(folder)
    return folder


@pytest.fixture(scope="session")
def vocabularies(carried: Path) -> Vocabularies:
    """Make a real vocabulary, with the special tokens of a model where it has none of its own."""
    litellm = carried / "litellm" / "litellm_core_utils" / "tokenizers"

    @cache
    def made(name: str, model: str) -> Tokenizer:
        if name.startswith("tekken"):
            return from_tekken(carried / "mistral_common" / "data" / f"{name}.json")
        if name == "deepseek":
            return Tokenizer.load(litellm / "deepseek_tokenizer.json")
        file, pattern = RANKS[name]
        ranks = read_ranks(litellm / file)
        tags = {tag: len(ranks) + n for n, tag in enumerate(TEMPLATES[model][1], start=1)}
        return from_ranks(ranks, PATTERNS[pattern], tags, name)

    return made
