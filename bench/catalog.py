"""Every bench, by name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bench.load import chat, llama, websocket
from bench.measure import Bench
from bench.micro import parts, render, request

__all__ = ["BENCHES"]

BENCHES: Final[Mapping[str, Bench]] = MappingProxyType(
    {
        bench.name: bench
        for bench in (
            parts.BENCH,
            render.BENCH,
            request.BENCH,
            websocket.BENCH,
            chat.BENCH,
            llama.BENCH,
        )
    }
)
