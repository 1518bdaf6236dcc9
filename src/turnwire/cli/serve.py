"""`turnwire serve`: from flags and environment to a running server, or to one clear line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from turnwire.cli.failing import exit_code
from turnwire.config import load
from turnwire.errors import TurnwireError

__all__ = ["run"]


def run(path: Path | None, env: Mapping[str, str], flags: Mapping[str, object]) -> int:
    """Load the configuration and serve until the server ends.

    Args:
        path: The TOML file, or None.
        env: The environment.
        flags: What the command line gave; None where it did not.

    Returns:
        The exit code. 0: the server was asked to end. 1: it could not go on (the port is
        taken, the database cannot be opened). 2: the configuration cannot be used. On 1 and 2
        one line on standard error says what to mend.
    """
    try:
        config = load(path, env, flags)
        # Here, because importing the server takes longer than refusing a wrong flag.
        from turnwire.cli.download_bar import DownloadBar
        from turnwire.server.process import run as serve

        with DownloadBar() as bar:
            serve(config, bar)
    except (TurnwireError, OSError, KeyboardInterrupt) as error:
        return exit_code(error)
    return 0
