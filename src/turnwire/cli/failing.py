"""How every command fails: one line on standard error that says what to mend, and an exit code."""

from __future__ import annotations

import typer

from turnwire.errors import ConfigError

__all__ = ["exit_code", "fail"]


def fail(message: str, code: int) -> int:
    """Say what is wrong, on one line; return the code."""
    typer.echo(f"turnwire: {' '.join(message.split())}", err=True)
    return code


def exit_code(error: BaseException) -> int:
    """Say what an error says, and return the exit code that it stands for.

    0: it was Ctrl-C, and nothing is said. 2: the configuration or an option has to be changed. 1:
    anything else.
    """
    if isinstance(error, KeyboardInterrupt):
        return 0
    if isinstance(error, ConfigError):
        return fail(str(error), 2)
    return fail(f"{error}." if isinstance(error, OSError) else str(error), 1)
