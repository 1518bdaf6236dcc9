"""Which pages are allowed, and what browsers are told, by table."""

from __future__ import annotations

import pytest

from turnwire.server.cors import EXPOSED, HEADERS, Cors

LISTED = ("https://a.example", "http://LOCALHOST:3000")


@pytest.mark.parametrize(
    ("origins", "origin", "allowed"),
    [
        ((), "https://a.example", False),
        (LISTED, "https://a.example", True),
        (LISTED, "HTTPS://A.EXAMPLE", True),
        (LISTED, "http://localhost:3000", True),
        (LISTED, "http://localhost:3001", False),
        (LISTED, "http://a.example", False),
        (LISTED, "https://a.example.evil.example", False),
        (LISTED, "https://b.a.example", False),
        (LISTED, "null", False),
        (("*",), "null", True),
        (("*",), "https://any.example", True),
    ],
)
def test_who_is_allowed(origins: tuple[str, ...], origin: str, allowed: bool) -> None:
    """The origin as a whole decides; a star allows all; only those who are allowed are named."""
    cors = Cors(origins)
    assert allowed is cors.allows(origin)
    named = {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": EXPOSED}
    vary = {"Vary": "Origin"} if origins else {}
    assert {**vary, **(named if allowed else {})} == cors.headers(origin)
    assert vary == cors.headers(None)


@pytest.mark.parametrize(
    ("requested", "expected"),
    [
        ("authorization,x-stainless-os", "authorization,x-stainless-os"),
        ("content-type, OpenAI-Beta", "content-type, OpenAI-Beta"),
        ("", HEADERS),
        ("a:b", HEADERS),
        ("é", HEADERS),
        ("a" * 5000, HEADERS),
    ],
)
def test_preflight(requested: str, expected: str) -> None:
    """A page may send the headers it asks for, if they are names; credentials never."""
    told = Cors(LISTED).preflight(requested, private=False)
    assert expected == told["Access-Control-Allow-Headers"]
    assert "GET, POST, DELETE" == told["Access-Control-Allow-Methods"]
    assert not {name for name in told if "Credentials" in name or "Private" in name}
    assert "Access-Control-Allow-Private-Network" in Cors(LISTED).preflight("", private=True)
