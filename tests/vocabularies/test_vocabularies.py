"""The families' properties, which unit tests try on small made-up vocabularies, on real ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.unit.models.test_token_model_templates import STEP, converse
from tests.unit.rendering.imitations import loaded
from tests.unit.rendering.test_load import HOSTILE, tokens_of
from tests.unit.rendering.test_vocabulary import TEXTS
from tests.vocabularies.conftest import Vocabularies

MODELS = [
    ("cl100k", "qwen2", "hermes"),
    ("cl100k", "qwen3", "hermes"),
    ("cl100k", "qwen3, tags as text", "hermes"),
    ("cl100k", "llama3", "llama3"),
    ("tekken_240718", "mistral", "mistral"),
    ("tekken_240911", "mistral", "mistral"),
    ("o200k", "harmony", "harmony"),
    ("deepseek", "deepseek", "generic"),
    ("cl100k", "qwen-coder", "generic"),
    ("o200k", "glm", "generic"),
    ("cl100k", "dsml", "generic"),
]
EVERY_MODEL = pytest.mark.parametrize(("name", "model"), [one[:2] for one in MODELS])
SOME = settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize(
    ("name", "ids"),
    [("cl100k", [15339, 1917, 0]), ("o200k", [24912, 2375, 0])],
)
def test_ids(vocabularies: Vocabularies, name: str, ids: list[int]) -> None:
    """Texts get the ids that the vocabulary's makers give them."""
    model = "qwen2" if name == "cl100k" else "harmony"
    assert ids == list(vocabularies(name, model).encode("hello world!"))


@pytest.mark.parametrize(("name", "model", "family"), MODELS)
def test_the_family_is_found(
    vocabularies: Vocabularies, name: str, model: str, family: str
) -> None:
    """Our renderer gives the template's ids in every conversation of the probe."""
    assert family == loaded(model, tokenizer=vocabularies(name, model)).report.family


@EVERY_MODEL
@given(text=TEXTS)
@SOME
def test_texts_come_back(vocabularies: Vocabularies, name: str, model: str, text: str) -> None:
    """To the letter, and hold no tag."""
    tokenizer = vocabularies(name, model)
    ids = tokenizer.encode(text)
    assert text == tokenizer.text_of(ids)
    assert set() == set(ids) & set(tokenizer.special.values())


@EVERY_MODEL
@given(text=HOSTILE)
@SOME
def test_no_text_becomes_a_special_token(
    vocabularies: Vocabularies, name: str, model: str, text: str
) -> None:
    """Wherever a client can put it in a prompt."""
    template = loaded(model, tokenizer=vocabularies(name, model)).template
    assert tokens_of(template, "x") == tokens_of(template, text)


@EVERY_MODEL
@given(steps=st.lists(STEP, min_size=2, max_size=6))
@SOME
def test_incremental_equals_full_resend(
    vocabularies: Vocabularies, name: str, model: str, steps: list[dict[str, Any]]
) -> None:
    """And the model's own template, over forks, calls, thoughts, cuts and other instructions."""
    asyncio.run(converse(model, steps, tokenizer=vocabularies(name, model)))
