from __future__ import annotations

import os
import stat
import string
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import ConfigError, SealError
from turnwire.sealing import Sealer, load_or_create_key

OLD, NEW = Sealer.generate_key(), Sealer.generate_key()
SEALER = Sealer([OLD])


@given(st.binary(max_size=2000), st.text(st.characters(exclude_categories=["Cs"])))
def test_round_trip(plaintext: bytes, owner: str) -> None:
    """What was sealed for an owner opens for that owner, byte for byte."""
    assert plaintext == SEALER.open(SEALER.seal(plaintext, owner), owner)


@pytest.mark.parametrize("other", ["", "bo", "bob ", "Bob", "ann"])
def test_other_owner(other: str) -> None:
    """A token does not open for anyone else."""
    token = SEALER.seal(b"thoughts", "bob")
    with pytest.raises(SealError, match="another owner"):
        SEALER.open(token, other)


@given(st.text())
def test_made_up_token(token: str) -> None:
    """Nothing that was not sealed opens, whatever it is made of."""
    with pytest.raises(SealError):
        SEALER.open(token, "bob")


@given(place=st.integers(0, 139), shift=st.integers(1, 63))
def test_altered_token(place: int, shift: int) -> None:
    """A token with one character changed, or cut short, does not open."""
    alphabet = string.ascii_letters + string.digits + "-_"
    # Of a size that fills its base64: else the last character has bits that no byte uses.
    token = SEALER.seal(b"thoughts about thoughts", "bob")
    assert 140 == len(token.rstrip("="))
    other = alphabet[(alphabet.index(token[place]) + shift) % 64]
    for altered in (token[:place] + other + token[place + 1 :], token[:place]):
        with pytest.raises(SealError):
            SEALER.open(altered, "bob")


def test_rotation() -> None:
    """The first key seals and all open, so old tokens live as long as their key."""
    old_token = SEALER.seal(b"old", "bob")
    both = Sealer([NEW, OLD])
    new_token = both.seal(b"new", "bob")
    assert [b"old", b"new"] == [both.open(token, "bob") for token in (old_token, new_token)]
    assert b"new" == Sealer([NEW]).open(new_token, "bob")
    with pytest.raises(SealError, match="unknown key"):
        SEALER.open(new_token, "bob")


def test_tokens_differ() -> None:
    """The same text sealed twice gives two tokens: nobody sees that it is the same."""
    assert SEALER.seal(b"thoughts", "bob") != SEALER.seal(b"thoughts", "bob")


def test_prose_is_deflated() -> None:
    """Prose gets shorter than its base64, and noise gets hardly longer than its own."""
    prose = b"I should list the directory, then read the failing test, and run it again. " * 4
    noise = os.urandom(300)
    assert len(SEALER.seal(prose, "bob")) < len(prose) * 4 / 3
    assert len(SEALER.seal(noise, "bob")) < len(noise) * 4 / 3 + 140


@pytest.mark.parametrize(
    "keys",
    [[], [b""], [b"short"], [OLD, OLD[:-4]], [b"!" * 44], [b"\xff" * 44]],
    ids=["none", "empty", "short", "second is cut", "not base64", "not text"],
)
def test_bad_keys(keys: list[bytes]) -> None:
    """What is not a key is refused when the sealer is made."""
    with pytest.raises(ConfigError):
        Sealer(keys)


def test_key_is_created_once(tmp_path: Path) -> None:
    """The first call creates the key, private to the user; later calls read it."""
    path = tmp_path / "data" / "seal.key"
    before = os.umask(0)
    try:
        key = load_or_create_key(path)
    finally:
        os.umask(before)
    assert key == load_or_create_key(path)
    assert b"text" == Sealer([key]).open(Sealer([key]).seal(b"text", "bob"), "bob")
    assert ["seal.key"] == os.listdir(path.parent)
    modes = [stat.S_IMODE(one.stat().st_mode) for one in (path, path.parent)]
    assert [0o600, 0o700] == modes


def test_processes_agree(tmp_path: Path) -> None:
    """Processes that all find no key end up with the same one."""
    program = (
        "import sys; from pathlib import Path; from turnwire.sealing import load_or_create_key; "
        "sys.stdin.read(); print(load_or_create_key(Path(sys.argv[1])).decode())"
    )
    path = tmp_path / "seal.key"
    children = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    for child in children:
        assert child.stdin is not None
        child.stdin.close()  # now all go
        child.stdin = None
    keys = {child.communicate()[0].strip() for child in children}
    assert {path.read_text().strip()} == keys
    assert ["seal.key"] == os.listdir(tmp_path)


def test_loser_reads_the_winners_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key that appears between looking and creating wins, and the draft goes."""
    path = tmp_path / "seal.key"
    link = os.link

    def be_late(source: Path, target: Path) -> None:
        path.write_bytes(NEW)
        link(source, target)

    monkeypatch.setattr(os, "link", be_late)
    assert NEW == load_or_create_key(path)
    assert ["seal.key"] == os.listdir(tmp_path)


def test_file_without_key(tmp_path: Path) -> None:
    """A file that holds no key is an error that names it, and is not overwritten."""
    path = tmp_path / "seal.key"
    path.write_text("hello")
    with pytest.raises(ConfigError, match=r"seal\.key"):
        load_or_create_key(path)
    assert "hello" == path.read_text()


def test_unreadable_key(tmp_path: Path) -> None:
    """A path that cannot be a file is an error that names it."""
    with pytest.raises(ConfigError, match="cannot be used"):
        load_or_create_key(tmp_path)
