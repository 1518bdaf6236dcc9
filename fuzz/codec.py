"""Bytes to requests: only the protocol's errors may come out, and what came in goes out again."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from typing import Self

from msgspec import Raw

from turnwire.errors import WireError
from turnwire.protocol.client_events import Create, FrameError, Inject, Steer
from turnwire.protocol.codec import (
    decode_create,
    decode_frame,
    decode_items,
    decode_tool_choice,
    decode_tools,
    echo,
    encode_event,
    encode_item,
    encode_response,
    error_body,
    error_event,
)
from turnwire.protocol.requests import CreateResponse
from turnwire.session.steering import InvalidSteer, merge_input, steer_messages

__all__ = ["Codec"]

NUMBERS = re.compile(r"\d+")


class Codec:
    """Everything that decodes what a client sent."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def settle(self) -> None:
        """Decoders remember nothing."""

    def play(self, data: bytes) -> Hashable:
        """Decode as a body, as a frame in bytes and as a frame in text."""
        answers: list[Hashable] = []
        try:
            answers.append(self._request(decode_create(data)))
        except WireError as error:
            answers.append(self._error(error, None))
        answers.append(self._frame(data))
        try:
            text = data.decode()
        except UnicodeDecodeError:
            return tuple(answers)
        assert self._frame(text) == answers[1], "text and bytes are read differently"
        return tuple(answers)

    def _frame(self, frame: bytes | str) -> Hashable:
        try:
            event = decode_frame(frame)
        except FrameError as failure:
            return self._error(failure.error, failure.stream_id)
        match event:
            case Create(request, _):
                try:
                    return self._request(request)
                except WireError as error:
                    return self._error(error, None)
            case Steer(_, given):
                return self._steer(given)
            case Inject(_, given):
                json.loads(bytes(given), parse_int=str)  # whatever its size
                return "inject"
            case _:
                return type(event).__name__

    def _request(self, request: CreateResponse) -> Hashable:
        tools = decode_tools(request.tools, None)
        choice = decode_tool_choice(request.tool_choice, tools)
        items = decode_items(request.input)
        encoded = [encode_item(item) for item in items]
        again = decode_items(Raw(b"[" + b",".join(encoded) + b"]"))
        assert items == again, "items are not what they were once they were encoded"
        merged = decode_items(merge_input(steer_messages(Raw(b'"first"')), request.input))
        assert items == merged[1:], "a steer changes the input behind it"
        shown = echo(request, tools, choice, id="resp_1", created_at=7, model="sim")
        json.loads(encode_response(shown))
        return ("request", tuple(sorted({type(item).__name__ for item in items})))

    def _steer(self, given: Raw) -> Hashable:
        try:
            messages = steer_messages(given)
        except InvalidSteer:
            return "invalid steer"
        for item in decode_items(merge_input(messages, Raw(b"null"))):
            assert b"user" in encode_item(item)
        return "steer"

    def _error(self, error: WireError, stream_id: str | None) -> Hashable:
        """Errors must themselves be fit to be sent."""
        assert 400 <= error.status < 500, error
        json.loads(encode_event(error_event(error, stream_id=stream_id)))
        json.loads(error_body(error))
        return (error.code, NUMBERS.sub("0", error.param or "")[:60])
