"""How a command fails: one line on standard error, and a code that says whose turn it is."""

from __future__ import annotations

from collections.abc import Callable

import typer

from turnwire.errors import ConfigError, TurnwireError

__all__ = ["fail", "guarded"]


def fail(message: object, code: int) -> int:
    """Say why, on one line; return `code`."""
    typer.echo(f"turnwire: {' '.join(str(message).split())}", err=True)
    return code


def guarded(work: Callable[[], int]) -> int:
    """Do a command's work.

    Returns:
        The work's own exit code. 0 where the person interrupts it; where it raises, 2 for what the
        configuration has to mend, and 1 for all else that is foreseen.
    """
    try:
        return work()
    except ConfigError as error:
        return fail(error, 2)
    except TurnwireError as error:
        return fail(error, 1)
    except OSError as error:
        return fail(f"{error}.", 1)
    except KeyboardInterrupt:
        return 0
