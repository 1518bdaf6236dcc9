"""Tests of `turnwire.cli.download_bar`."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from turnwire.cli.download_bar import DownloadBar


@pytest.mark.parametrize("total", [100_000_000, None])
def test_a_log_gets_some_lines(total: int | None) -> None:
    """Not one for every piece, and the last when all is there."""
    out = io.StringIO()
    with DownloadBar(Console(file=out, force_terminal=False)) as bar:
        for number in range(101):
            bar("owner/name/file.gguf", 1_000_000 * number, total)
    lines = out.getvalue().splitlines()
    if total is None:
        assert ["owner/name/file.gguf: 0.0 MB"] == lines
    else:
        assert 11 == len(lines)
        assert "owner/name/file.gguf: 100.0 of 100.0 MB" == lines[-1]


def test_a_terminal_gets_a_bar() -> None:
    """It shows the file's own name and how much of it is there, and is gone from then on."""
    out = io.StringIO()
    with DownloadBar(Console(file=out, force_terminal=True, width=120)) as bar:
        bar("owner/name/file.gguf", 50_000_000, 100_000_000)
        bar("owner/name/file.gguf", 100_000_000, 100_000_000)
        size = len(out.getvalue())
    assert size == len(out.getvalue())
    assert "file.gguf" in out.getvalue()
    assert "owner" not in out.getvalue()
    assert "100.0/100.0 MB" in out.getvalue()


def test_nothing_is_shown_where_nothing_is_fetched() -> None:
    """Most starts download nothing."""
    out = io.StringIO()
    with DownloadBar(Console(file=out, force_terminal=True)):
        pass
    assert "" == out.getvalue()
