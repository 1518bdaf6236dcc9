"""Tests of `turnwire.cli.failing`: codes and words of commands that fail."""

from __future__ import annotations

import pytest

from turnwire.cli.failing import guarded
from turnwire.errors import ConfigError, EngineUnavailable


@pytest.mark.parametrize(
    ("raised", "code", "said"),
    [
        (ConfigError("no\n such  field"), 2, "turnwire: no such field\n"),
        (EngineUnavailable("it is not there"), 1, "turnwire: it is not there\n"),
        (OSError("the port is taken"), 1, "turnwire: the port is taken.\n"),
        (KeyboardInterrupt(), 0, ""),
    ],
    ids=["configuration", "engine", "system", "person"],
)
def test_a_failure_is_a_line_and_a_code(
    capsys: pytest.CaptureFixture[str], raised: BaseException, code: int, said: str
) -> None:
    """On standard error, in one line; whoever interrupts a command is not told of it."""

    def work() -> int:
        raise raised

    assert code == guarded(work)
    assert ("", said) == capsys.readouterr()


def test_work_that_ends_has_its_own_code() -> None:
    """Nothing is made of it."""
    assert 3 == guarded(lambda: 3)
