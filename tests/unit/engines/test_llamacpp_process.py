"""Tests of `turnwire.engines.llamacpp_process`: files that cannot be loaded, processes that die."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.contracts.engine import collect, ids_of
from tests.random_model import random_model

from turnwire.engines.base import Generation
from turnwire.engines.llamacpp_process import LlamaCppModel, LlamaCppProcess, start_llamacpp
from turnwire.engines.vocabulary import Vocabulary
from turnwire.errors import ConfigError, EngineUnavailable
from turnwire.tokens import EMPTY

MODEL = LlamaCppModel(window=512, slots=1, threads=1, cache_ram_mib=0)


def whole() -> bytes:
    """A file that can be loaded."""
    return random_model().read_bytes()


def renamed(old: bytes, new: bytes) -> bytes:
    """The same with one word replaced by another of its length."""
    assert len(old) == len(new)
    return whole().replace(old, new, 1)


BAD: dict[str, tuple[Callable[[], bytes], str]] = {
    "another kind": (lambda: b"hello\n", "not a GGUF file"),
    "empty": (lambda: b"", "empty"),
    "head breaks off": (lambda: whole()[:100_000], "was it copied whole?"),
    "list of tensors breaks off": (lambda: whole()[:410_000], "was it copied whole?"),
    "tensors break off": (lambda: whole()[:3_000_000], "incomplete; was it copied whole?"),
    "unknown architecture": (
        lambda: renamed(
            b"architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00llama",
            b"architecture\x08\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00lluma",
        ),
        "unknown model architecture: 'lluma'",
    ),
    "a tensor is missing": (
        lambda: renamed(b"blk.1.attn_q.weight", b"blk.9.attn_q.weight"),
        "blk.1.attn_q.weight' not found",
    ),
}


@pytest.mark.parametrize("kind", BAD)
async def test_a_file_that_cannot_be_loaded(
    tmp_path: Path, vocabulary: Vocabulary, kind: str
) -> None:
    """The error names the file and the reason, and nothing but the child has ended."""
    make, reason = BAD[kind]
    path = tmp_path / "bad.gguf"
    path.write_bytes(make())
    with pytest.raises(ConfigError) as caught:
        await start_llamacpp(path, vocabulary, model=MODEL)
    assert "bad.gguf" in str(caught.value)
    assert reason in str(caught.value)


@pytest.mark.parametrize("name", ["", "nothing.gguf"], ids=["a folder", "nothing"])
async def test_no_file(tmp_path: Path, vocabulary: Vocabulary, name: str) -> None:
    """What is no file is refused before anything is started."""
    with pytest.raises(ConfigError, match="cannot be read"):
        await start_llamacpp(tmp_path / name, vocabulary, model=MODEL)


async def test_another_vocabulary(vocabulary: Vocabulary) -> None:
    """A vocabulary that is not the file's is the configuration's fault; the process has ended."""
    turned = Vocabulary(
        (*vocabulary.token_bytes[:16], *reversed(vocabulary.token_bytes[16:])),
        vocabulary.special,
        vocabulary.encode,
    )
    with pytest.raises(ConfigError, match="another vocabulary"):
        await start_llamacpp(random_model(), turned, model=MODEL)


async def test_only_the_key_opens() -> None:
    """The server is on loopback, and wants a key that differs from process to process."""
    one, other = (LlamaCppProcess.of(random_model(), MODEL) for _ in range(2))
    assert one.api_key != other.api_key
    assert (await one.locate()).startswith("http://127.0.0.1:")
    assert one.api_key not in one.url
    await one.aclose()
    assert one.pid is None
    with pytest.raises(EngineUnavailable, match="closed"):
        await one.locate()


async def test_a_process_that_dies_is_started_anew(vocabulary: Vocabulary) -> None:
    """The generation after a kill runs on a new process, and nothing is cached there."""
    engine = await start_llamacpp(random_model(), vocabulary, model=MODEL)
    process = engine.host
    assert isinstance(process, LlamaCppProcess)
    prompt, stop = EMPTY.extend(range(100, 200)), frozenset({0, 2})
    request = Generation(prompt=prompt, max_new_tokens=3, stop=stop, temperature=0.0)
    first = await collect(engine, request)
    killed = process.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    again = await collect(engine, request)
    assert process.pid not in (None, killed)
    assert (ids_of(first), 0) == (ids_of(again), again[0].num_cached)
    await engine.aclose()


async def test_a_file_that_has_gone(tmp_path: Path, vocabulary: Vocabulary) -> None:
    """A process that cannot be started anew is not tried at every request."""
    path = tmp_path / "model.gguf"
    path.write_bytes(whole())
    process = LlamaCppProcess.of(path, MODEL)
    await process.locate()
    path.unlink()
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(EngineUnavailable, match=r"cannot load model\.gguf"):
        await process.locate()
    with pytest.raises(EngineUnavailable, match="again in a while"):
        await process.locate()
    await process.aclose()


async def test_closing_while_it_loads() -> None:
    """Whoever gives up waiting leaves no process behind."""
    process = LlamaCppProcess.of(random_model(), MODEL)
    starting = asyncio.create_task(process.locate())
    while process.pid is None:  # noqa: ASYNC110  # nobody tells that it was started
        await asyncio.sleep(0.001)
    pid = process.pid
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    await process.aclose()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize(
    "fields", [{"slots": 0}, {"window": 1}, {"threads": 0}, {"cache_ram_mib": -1}], ids=str
)
def test_impossible_settings(fields: dict[str, int]) -> None:
    """They are refused where they are written."""
    with pytest.raises(ValueError, match="at least"):
        LlamaCppModel(**fields)
