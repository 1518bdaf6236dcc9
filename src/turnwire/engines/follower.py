"""Holds what somebody else sampled against its constraint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from turnwire.engines.constrain import Guide
from turnwire.errors import EngineError

__all__ = ["Follower"]

_MAX_ESCAPE_BYTES: Final = 6  # \u003c


class Follower:
    """Follows one output, as far as that goes.

    JSON has several spellings for a character, and not every version of llguidance knows the
    same. Where an engine takes one that ours does not (`\\/`), ours cannot go on, and that is no
    fault of the engine's.
    """

    def __init__(self, guide: Guide, token_bytes: Sequence[bytes], name: str) -> None:
        """Follow from the start of an output.

        Args:
            guide: Fresh; it is used up.
            token_bytes: The bytes of every token.
            name: What errors call the engine.
        """
        self._guide: Guide | None = guide
        self._token_bytes = token_bytes
        self._name = name
        self._before = b""

    def follow(self, ids: Sequence[int]) -> None:
        """Take what was sampled.

        Raises:
            EngineError: the constraint does not allow it.
        """
        for id_ in ids:
            if self._guide is None:
                return
            spelling = self._token_bytes[id_]
            try:
                self._guide.commit(id_)
            except ValueError as error:
                if b"\\" not in self._before + spelling:
                    text = f"the {self._name} did not obey its grammar: {error}"
                    raise EngineError(text) from error
                self._guide = None
            self._before = (self._before + spelling)[-_MAX_ESCAPE_BYTES:]
