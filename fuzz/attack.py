"""The loop: make an input, play it, keep what broke the target and what it had not seen."""

from __future__ import annotations

import hashlib
import re
import time
import traceback
from collections.abc import Hashable, Sequence
from pathlib import Path
from typing import Final, Protocol, Self

from msgspec import Struct

from fuzz.mutation import Mutator

__all__ = ["CORPUS", "FINDINGS", "Report", "Target", "attack", "corpus", "replay"]

HERE: Final = Path(__file__).parent
CORPUS: Final = HERE / "corpus"
FINDINGS: Final = HERE / "findings"
MAX_FINDINGS: Final = 10
# CPU time, so that a busy machine finds nothing. Inputs have at most 64 KiB.
MAX_CPU_SEC: Final = 3.0
PROGRESS_SEC: Final = 60.0
SETTLE_EVERY: Final = 50


class Target(Protocol):
    """What is attacked. A context: it is ready inside."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *error: object) -> None: ...

    def play(self, data: bytes) -> Hashable:
        """Take one input; return what kind of answer it got.

        Raises:
            Exception: of any kind: the target is broken.
        """
        ...

    def settle(self) -> None:
        """Called now and then, and at the end: everything must be as it was at the start.

        Raises:
            Exception: it is not.
        """
        ...


class Report(Struct, frozen=True):
    """What came of an attack.

    Attributes:
        num_inputs: Inputs played.
        num_answers: Kinds of answers seen.
        findings: Files with the inputs that broke the target.
    """

    num_inputs: int
    num_answers: int
    findings: tuple[Path, ...]


def corpus(name: str) -> list[bytes]:
    """The inputs that an attack begins with."""
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def replay(target: Target, data: bytes) -> Hashable:
    """Play one input and let out what it raises."""
    with target:
        answer = target.play(data)
        target.settle()
        return answer


def attack(
    name: str, target: Target, *, seconds: float, seed: int, findings: Path = FINDINGS
) -> Report:
    """Attack a target for some time.

    Args:
        name: Of the corpus, and of the files of the findings.
        target: What to attack.
        seconds: For how long; the corpus itself is always played.
        seed: For the mutations.
        findings: Where to put the inputs that break it.
    """
    mutator = Mutator(corpus(name), seed)
    answers: set[Hashable] = set()
    broken: list[Path] = []
    faults: set[Hashable] = set()
    recent: list[bytes] = []
    num_inputs = 0
    began = told = time.monotonic()
    first = list(mutator.pool)
    with target:
        while (first or time.monotonic() - began < seconds) and len(broken) < MAX_FINDINGS:
            data = first.pop() if first else mutator.make()
            num_inputs += 1
            recent.append(data)
            try:
                cpu = time.process_time()
                answer = target.play(data)
                used = time.process_time() - cpu
                if used > MAX_CPU_SEC:
                    raise TimeoutError(f"{used:.1f} s of CPU for {len(data)} bytes")
            except Exception as fault:
                # The same fault again is no news.
                kind = _kind(fault)
                if kind not in faults:
                    faults.add(kind)
                    traceback.print_exc()
                    broken.append(_save(name, data, findings))
                continue
            if num_inputs % SETTLE_EVERY == 0:
                broken += _settle(name, target, recent, findings)
                recent.clear()
            if answer not in answers:
                answers.add(answer)
                mutator.pool.append(data)
            if time.monotonic() - told > PROGRESS_SEC:
                told = time.monotonic()
                _tell(name, told - began, num_inputs, len(answers), len(broken))
        broken += _settle(name, target, recent, findings)
    _tell(name, time.monotonic() - began, num_inputs, len(answers), len(broken))
    return Report(num_inputs, len(answers), tuple(broken))


def _tell(name: str, seconds: float, inputs: int, answers: int, findings: int) -> None:
    print(
        f"{name:<10} {seconds:6.0f} s {inputs:10,} inputs {answers:6,} kinds of answers "
        f"{findings:3} findings",
        flush=True,
    )


def _kind(fault: BaseException) -> Hashable:
    """Where it was raised, and the start of what it says without numbers."""
    frames = traceback.extract_tb(fault.__traceback__)
    last = frames[-1] if frames else None
    place = (last.filename, last.lineno) if last else None
    return type(fault).__name__, place, re.sub(r"[0-9a-f]{2,}|\d", "#", str(fault))[:60]


def _settle(name: str, target: Target, recent: Sequence[bytes], findings: Path) -> Sequence[Path]:
    """Any of the inputs since the last time may be the cause of what does not settle."""
    try:
        target.settle()
    except Exception:
        traceback.print_exc()
        return [_save(f"{name}-one-of", data, findings) for data in recent]
    return ()


def _save(name: str, data: bytes, findings: Path) -> Path:
    findings.mkdir(parents=True, exist_ok=True)
    path = findings / f"{name}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    print(f"saved {path}", flush=True)
    return path
