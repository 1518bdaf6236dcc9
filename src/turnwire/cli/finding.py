"""What `turnwire doctor` has to say about one thing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from msgspec import Struct

from turnwire.cli.doctor_probe import Seen

__all__ = ["Finding", "State"]

State = Literal["ok", "note", "broken"]


class Finding(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was looked at.

    Attributes:
        what: `configuration`, `data directory`, `model NAME`, ...
        state: ok. note: it works, but something could be better. broken: it does not.
        text: What was found.
        mend: What to do about it.
        turns: Of a model: what it did.
    """

    what: str
    state: State
    text: str
    mend: str = ""
    turns: Sequence[Seen] = ()
