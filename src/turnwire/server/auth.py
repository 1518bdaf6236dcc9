"""Who is asking? From the `Authorization` header to the caller, without I/O.

Keys are held as SHA-256 digests and found by digest. An attacker who times the look-up learns
about digests of guesses, which says nothing about the next guess, so that no comparison here
needs to be constant-time. Hashing costs less than half a microsecond, and so nothing is cached:
no presented key stays in memory.

Sources: protocol.md sections 1 (`Authorization: Bearer KEY` on every request and on the
handshake) and 16 (401, `invalid_api_key`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct

from turnwire.config import KeyConfig
from turnwire.errors import ConfigError, InvalidApiKey, PermissionDenied

__all__ = ["Authenticator", "Caller"]

MIN_LENGTH_TO_SHOW: Final = 16
"""Of a shorter key, four characters would be too much to show."""


class Caller(Struct, frozen=True):
    """Whoever sent a request.

    Attributes:
        owner: Whose data it sees, and only theirs.
        models: Names of the models it may use; None for all.
        zero_data_retention: Whether nothing of what it sends or is answered may be stored.
    """

    owner: str
    models: frozenset[str] | None = None
    zero_data_retention: bool = False

    def may_use(self, model: str) -> bool:
        """Whether this caller may ask for the model; says nothing about its existence."""
        return self.models is None or model in self.models

    def require_storing(self) -> None:
        """Check that it may ask for something that exists only by being stored.

        Raises:
            PermissionDenied: it keeps nothing.
        """
        if self.zero_data_retention:
            raise PermissionDenied(
                "Nothing is stored for this key (zero data retention), and so it cannot make or "
                "change conversations. Continue with `previous_response_id` on one WebSocket, or "
                "send the whole conversation."
            )


ANYONE: Final = "local"
"""The owner on a server without keys, which listens on loopback only."""


class Authenticator:
    """Tells callers apart by their keys; accepts everyone if there are none."""

    def __init__(
        self, keys: Iterable[KeyConfig] = (), *, zero_data_retention: bool = False
    ) -> None:
        """Take the configured keys.

        Args:
            zero_data_retention: It holds for every caller, whatever its key says.

        Raises:
            ConfigError: two keys are equal, or one was not loaded.
        """
        callers: dict[bytes, Caller] = {}
        for key in keys:
            digest = key.digest()
            if digest in callers:
                raise ConfigError(f"A key of owner {key.owner!r} is configured twice.")
            models = None if key.models is None else frozenset(key.models)
            callers[digest] = Caller(
                key.owner, models, zero_data_retention or key.zero_data_retention
            )
        self._callers: Final[Mapping[bytes, Caller]] = callers
        self._anyone: Final = Caller(ANYONE, zero_data_retention=zero_data_retention)

    def caller(self, headers: Mapping[str, str]) -> Caller:
        """Return who sent these headers, whose names are found in any letter case.

        Raises:
            InvalidApiKey: as `authenticate`.
        """
        return self.authenticate(headers.get("Authorization"))

    def authenticate(self, authorization: str | None) -> Caller:
        """Return the caller.

        Args:
            authorization: Value of the header as the HTTP parser gave it, or None.

        Raises:
            InvalidApiKey: there are keys, and the header has none of them. The message shows
                at most the last four characters of what was sent.
        """
        if not self._callers:
            return self._anyone
        if not authorization:
            raise InvalidApiKey(
                "No API key was sent. Send one in the Authorization header: "
                "'Authorization: Bearer YOUR_KEY'."
            )
        scheme, _, key = authorization.partition(" ")
        key = key.strip()
        if scheme.lower() != "bearer" or not key:
            raise InvalidApiKey(
                "The Authorization header cannot be read. It must be of the form "
                "'Authorization: Bearer YOUR_KEY'."
            )
        # The parser hands on bytes that are not UTF-8 as lone surrogates; they match no key.
        digest = hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()
        caller = self._callers.get(digest)
        if caller is None:
            raise InvalidApiKey(f"Incorrect API key provided: {_shown(key)}.")
        return caller


def _shown(key: str) -> str:
    last = key[-4:]
    if len(key) < MIN_LENGTH_TO_SHOW or not (last.isascii() and last.isprintable()):
        return "****"
    return f"****{last}"
