"""One turn of the demo's loop, as it was measured."""

from __future__ import annotations

from typing import Final, Literal

from msgspec import Struct

__all__ = ["ARMS", "Arm", "Turn"]

Arm = Literal["http", "websocket"]
"""http: the whole conversation, each time. websocket: only what is new."""

ARMS: Final[tuple[Arm, ...]] = ("http", "websocket")


class Turn(Struct, frozen=True, kw_only=True):
    """What one request came to.

    Attributes:
        text: What the model said to the user.
        calls: The tools it called: name and arguments.
        sec: From sending the request to its terminal event, seen by the client.
        first_event_sec: The same, to `response.created`.
        first_delta_sec: The same, to the first piece of text or of arguments.
        tools_sec: Carrying out the calls.
        cpu_sec: Processor time of the server, or None if unknown.
        num_sent_bytes: What the client sent: bodies and messages.
        num_rendered: Tokens that the server's tokenizer made.
        num_input: Tokens of the prompt.
        num_cached: Of those, in the engine's prefix cache.
        num_output: Tokens of the answer.
    """

    text: str
    calls: tuple[tuple[str, str], ...]
    sec: float
    first_event_sec: float
    first_delta_sec: float
    tools_sec: float
    cpu_sec: float | None
    num_sent_bytes: int
    num_rendered: int
    num_input: int
    num_cached: int
    num_output: int
