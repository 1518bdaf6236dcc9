from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.config import KeyConfig
from turnwire.errors import ConfigError, InvalidApiKey, PermissionDenied
from turnwire.server.auth import Authenticator, Caller

KEY = "tw-0123456789-wxyz"
AUTHENTICATOR = Authenticator(
    [
        KeyConfig(owner="a", key=KEY, models=("sim",)),
        KeyConfig(owner="b", key_sha256=hashlib.sha256(b"other").hexdigest()),
        KeyConfig(owner="c", key="schlüssel"),
    ]
)


@pytest.mark.parametrize(
    ("header", "caller"),
    [
        (f"Bearer {KEY}", Caller("a", frozenset({"sim"}))),
        (f"bearer   {KEY} ", Caller("a", frozenset({"sim"}))),
        ("Bearer other", Caller("b")),
        ("Bearer schlüssel", Caller("c")),
    ],
)
def test_a_known_key_names_its_caller(header: str, caller: Caller) -> None:
    """A configured key, in clear or as a hash, is found whatever the scheme's letter case."""
    assert caller == AUTHENTICATOR.authenticate(header)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (None, "No API key was sent"),
        ("", "No API key was sent"),
        (KEY, "cannot be read"),
        ("Bearer", "cannot be read"),
        ("Bearer  ", "cannot be read"),
        (f"Basic {KEY}", "cannot be read"),
        ("Bearer tw-0123456789-abcd", "Incorrect API key provided: ****abcd."),
        ("Bearer short", "Incorrect API key provided: ****."),
        ("Bearer 0123456789abcde\udcff", "Incorrect API key provided: ****."),
        (f"Bearer {KEY.upper()}", "Incorrect API key provided: ****WXYZ."),
    ],
)
def test_anything_else_is_refused(header: str | None, message: str) -> None:
    """A missing, malformed or unknown key is a 401 with the service's code."""
    with pytest.raises(InvalidApiKey) as caught:
        AUTHENTICATOR.authenticate(header)
    assert message in caught.value.message
    assert (401, "invalid_api_key") == (caught.value.status, caught.value.code)


@given(st.one_of(st.none(), st.text()))
def test_without_keys_everyone_is_local(header: str | None) -> None:
    """A server without keys takes any header, and none, as its one local owner."""
    assert Caller("local") == Authenticator().authenticate(header)
    keeping_nothing = Authenticator(zero_data_retention=True)
    assert Caller("local", zero_data_retention=True) == keeping_nothing.authenticate(header)


@given(st.text(alphabet=st.characters(codec=None), min_size=5))
def test_a_wrong_key_is_never_echoed(key: str) -> None:
    """Any header is answered with a caller or a 401 that can be sent and holds no whole key."""
    with pytest.raises(InvalidApiKey) as caught:
        AUTHENTICATOR.authenticate(f"Bearer x{key}x")
    caught.value.message.encode()
    assert f"x{key}x" not in caught.value.message


def test_keys_are_not_kept() -> None:
    """Neither configured nor presented keys stay in the authenticator."""
    AUTHENTICATOR.authenticate(f"Bearer {KEY}")
    assert KEY not in repr(vars(AUTHENTICATOR))


@pytest.mark.parametrize(
    ("models", "model", "allowed"),
    [
        (None, "anything", True),
        (frozenset({"sim"}), "sim", True),
        (frozenset({"sim"}), "sim-65", False),
        (frozenset(), "sim", False),
    ],
)
def test_may_use(models: frozenset[str] | None, model: str, allowed: bool) -> None:
    """A caller may use the models of its list, or all of them if it has none."""
    assert allowed is Caller("a", models).may_use(model)


def test_one_key_has_one_owner() -> None:
    """The same key twice is refused, because its owner would be unclear."""
    with pytest.raises(ConfigError, match="configured twice"):
        Authenticator([KeyConfig(owner="a", key="k"), KeyConfig(owner="b", key="k")])


@pytest.mark.parametrize("server", [False, True], ids=["", "server"])
@pytest.mark.parametrize("key", [False, True], ids=["", "key"])
def test_zero_data_retention(server: bool, key: bool) -> None:
    """It holds for a caller if the server or its key says so; then nothing can be stored."""
    keys = [KeyConfig(owner="a", key="k", zero_data_retention=key)]
    caller = Authenticator(keys, zero_data_retention=server).authenticate("Bearer k")
    assert (server or key) == caller.zero_data_retention
    if not caller.zero_data_retention:
        caller.require_storing()
        return
    with pytest.raises(PermissionDenied, match="zero data retention"):
        caller.require_storing()
