"""What an owner is told about its limit, by table."""

from __future__ import annotations

import pytest

from turnwire.server.rates import rate_headers


@pytest.mark.parametrize(
    ("limit", "running", "expected"),
    [
        (0, 0, None),
        (0, 9, None),
        (5, 0, ("5", "5", "0s")),
        (5, 1, ("5", "4", "1s")),
        (5, 5, ("5", "0", "1s")),
        (5, 6, ("5", "0", "1s")),
    ],
)
def test_headers(limit: int, running: int, expected: tuple[str, str, str] | None) -> None:
    """Limit, what is left of it and when to ask again; nothing where nothing is limited."""
    names = [f"x-ratelimit-{kind}-requests" for kind in ("limit", "remaining", "reset")]
    assert dict(zip(names, expected or (), strict=False)) == rate_headers(limit, running)
