"""Frames and endings in any order: the connection must do what its plain twin does.

An input is a program of two-byte steps, such as `ca` (create on lane a) or `e0` (end what runs);
what is no step is skipped. A step `"` takes the rest of its line as a frame.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Final, Self

from tests.unit.session.referee import LANES, Ending, Match

from turnwire.protocol.client_events import Cancel as CancelEvent
from turnwire.protocol.client_events import Create, FrameError, Steer
from turnwire.protocol.codec import decode_frame
from turnwire.session.connection import ConnectionLimits

__all__ = ["Connections"]

LIMITS: Final = ConnectionLimits(
    max_in_flight=3,
    max_lanes=len(LANES) - 1,
    max_queued=6,
    max_held_bytes=2_000,
    max_steers=3,
    max_cached_bytes=5,
)
MAX_STEPS: Final = 400
ENDINGS: Final = (
    Ending(),
    Ending(owing=True),
    Ending(owing=True, num_bytes=3),
    Ending(remembered=False),
    Ending(remembered=False, failed=True),
    Ending(remembered=True, failed=True),
    Ending(begun=False, remembered=False),
    Ending(begun=False, remembered=False, failed=True),
)


class Connections:
    """A fresh connection for each input."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def settle(self) -> None:
        """Connections share nothing."""

    def play(self, data: bytes) -> Hashable:
        """Play the program on both, then hang up."""
        match = Match(LIMITS)
        told = set()
        for _ in range(MAX_STEPS):
            if len(data) < 2:
                break
            step, argument, data = data[:1], data[1], data[2:]
            if step == b'"':
                frame, _, data = data.partition(b"\n")
                self._frame(match, bytes([argument]) + frame)
            else:
                self._step(match, step.decode("latin-1"), argument)
            model = match.model
            told.add((len(model.waiting), len(model.running), len(model.latest)))
        if not match.model.closed:
            match.disconnect()
        ends = {steer.end for steer in match.model.steers}
        assert None not in ends
        return (max(told, default=()), tuple(sorted(map(str, ends))))

    def _step(self, match: Match, step: str, argument: int) -> None:
        lane = LANES[argument % len(LANES)]
        known = match.known_ids()
        target = known[-1 - argument % len(known)] if known else "resp_unknown"
        running = match.running
        match step:
            case "c":
                match.create(lane, None)
            case "p":
                match.create(lane, match.connection.cache.latest_id(lane), bare=True)
            case "f":
                match.create(lane, target)
            case "x" if len(match.model.named) == LIMITS.max_lanes:
                match.create("beyond", None)
            case "s":
                match.steer(target)
            case "r" if running:
                match.steer(running[argument % len(running)].id)
            case "i":
                match.steer(target, valid=False)
            case "k":
                match.cancel(response_id=target)
            case "l":
                match.cancel(lane=lane)
            case "e" if running:
                match.finish(running[argument // 8 % len(running)], ENDINGS[argument % 8])
            case "d":
                match.drain()
            case "q":
                match.disconnect()
            case _:
                pass

    def _frame(self, match: Match, frame: bytes) -> None:
        try:
            event = decode_frame(frame)
        except FrameError:
            event = None
        if not isinstance(event, Create | CancelEvent | Steer):  # those have steps of their own
            match.any_frame(frame)
