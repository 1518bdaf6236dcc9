"""When is a connection old, idle, silent or stalled?

Decides only; who asks counts the seconds, and asks again now and then. 0 turns a rule off.
"""

from __future__ import annotations

from enum import Enum

from msgspec import Struct

__all__ = ["Due", "Pulse", "Watch"]


class Due(Enum):
    """What must happen to a connection now."""

    CUT_OFF = "cut_off"  # the client takes nothing: drop it without a close handshake
    EXPIRE = "expire"  # it is too old: end what runs, say so, close
    CLOSE_IDLE = "close_idle"  # nobody uses it: close
    KEEP_ALIVE = "keep_alive"  # a response runs and says nothing: repeat that it is in progress


class Pulse(Struct, frozen=True, kw_only=True):
    """A connection at one moment, in seconds.

    Attributes:
        age: Since the handshake.
        unheard: Since the client's last message, or since the handshake.
        unsaid: Since the quietest of its running responses said something; if none runs, since
            the last byte was written to it.
        stalled: Since the client stopped taking what is sent; 0 while it takes it.
        busy: A response runs or waits.
        remembers: It holds a conversation that can be continued.
    """

    age: float
    unheard: float
    unsaid: float
    stalled: float
    busy: bool
    remembers: bool


class Watch(Struct, frozen=True, kw_only=True):
    """The rules of one server's connections; see `config.WebSocketConfig` for the defaults."""

    max_age_sec: float = 3600.0
    idle_sec: float = 600.0
    keepalive_sec: float = 30.0
    stalled_sec: float = 60.0

    def due(self, pulse: Pulse) -> Due | None:
        """Return what must happen now, the gravest first, or None."""
        if 0 < self.stalled_sec <= pulse.stalled:
            return Due.CUT_OFF
        if 0 < self.max_age_sec <= pulse.age:
            return Due.EXPIRE
        if pulse.busy:
            return Due.KEEP_ALIVE if 0 < self.keepalive_sec <= pulse.unsaid else None
        if not pulse.remembers and 0 < self.idle_sec <= min(pulse.unheard, pulse.unsaid):
            return Due.CLOSE_IDLE
        return None
