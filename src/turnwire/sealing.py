"""Text that clients carry for us and cannot read: the reasoning of stateless conversations.

With store:false a client sends reasoning items back to us as `encrypted_content` (protocol.md
section 3.3). A token opens only for the owner it was sealed for, here and with the same keys;
it does not expire, because a conversation does not.

Inside the token: one byte that says how the text is packed, a digest of the owner, the text.
Text is deflated where that makes it shorter: 300 bytes of English reasoning give a token of 356
characters instead of 484 for 4 more microseconds, and the client sends it twice a turn.
"""

from __future__ import annotations

import hmac
import os
import zlib
from collections.abc import Sequence
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Final

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from turnwire.errors import ConfigError, SealError

__all__ = ["SEALED", "SealError", "Sealer", "load_or_create_key"]

SEALED: Final = b"gAAAAA"
"""Every token begins so: with Fernet's version, and a date before the year 2106."""

PLAIN: Final = b"\x00"
DEFLATED: Final = b"\x01"
OWNER_BYTES: Final = 16
"""Two owners whose digests collide would have to be found among 2^64."""


class Sealer:
    """Seals text for an owner.

    Args:
        keys: Fernet keys (32 bytes in URL-safe base64), at least one. The first seals, all
            open: to rotate, put a new key in front and drop the old one later.

    Raises:
        ConfigError: there is no key, or one is not a key.
    """

    def __init__(self, keys: Sequence[bytes]) -> None:
        if not keys:
            raise ConfigError("Sealing needs at least one key.")
        self._fernet: Final = MultiFernet(
            [_fernet(key, f"Sealing key {position}") for position, key in enumerate(keys)]
        )

    @staticmethod
    def generate_key() -> bytes:
        """Return a fresh key, 44 bytes of URL-safe base64."""
        return Fernet.generate_key()

    def seal(self, plaintext: bytes, owner: str) -> str:
        """Return a token, URL-safe base64, that only `owner` can have opened."""
        deflated = zlib.compress(plaintext)
        packed = (
            DEFLATED + _digest(owner) + deflated
            if len(deflated) < len(plaintext)
            else PLAIN + _digest(owner) + plaintext
        )
        return self._fernet.encrypt(packed).decode("ascii")

    def open(self, token: str, owner: str) -> bytes:
        """Return the text that was sealed for `owner`.

        Raises:
            SealError: the token was not made here, with one of these keys, for this owner.
        """
        try:
            packed = self._fernet.decrypt(token.encode("ascii"))
        except (InvalidToken, UnicodeEncodeError) as error:
            raise SealError("The sealed text was altered, or made with an unknown key.") from error
        # From here on it is ours: the token carries a signature over all of it.
        text_at = 1 + OWNER_BYTES
        if not hmac.compare_digest(packed[1:text_at], _digest(owner)):
            raise SealError("The sealed text was made for another owner.")
        text = packed[text_at:]
        return zlib.decompress(text) if packed[:1] == DEFLATED else text


def load_or_create_key(path: Path) -> bytes:
    """Return the key in a file; create the file (mode 0600, directory 0700) if there is none.

    Processes that do this at the same time agree: the key appears under its name whole, and
    only once. Whoever loses the race reads the winner's.

    Raises:
        ConfigError: the file cannot be read or created, or holds no key.
    """
    try:
        try:
            key = path.read_bytes().strip()
        except FileNotFoundError:
            key = _create_key(path)
    except OSError as error:
        raise ConfigError(f"The sealing key in {path} cannot be used: {error.strerror}.") from error
    _fernet(key, f"The content of {path}")
    return key


def _create_key(path: Path) -> bytes:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f"{path.name}.{os.urandom(8).hex()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(Sealer.generate_key() + b"\n")
            file.flush()
            os.fsync(file.fileno())  # a key that is lost takes all sealed text with it
        with suppress(FileExistsError):
            os.link(draft, path)  # unlike rename, it never replaces
    finally:
        draft.unlink(missing_ok=True)
    return path.read_bytes().strip()


def _fernet(key: bytes, what: str) -> Fernet:
    try:
        return Fernet(key)
    except ValueError as error:
        raise ConfigError(
            f"{what} is not a sealing key: 32 bytes in URL-safe base64 are needed."
        ) from error


def _digest(owner: str) -> bytes:
    return blake2b(owner.encode(), digest_size=OWNER_BYTES).digest()
