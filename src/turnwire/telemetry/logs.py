"""The log: one line per event, as JSON or for people, of this package and of its libraries.

What is logged are names, ids, codes, counts and times. What a client or a model said is never
logged, and three nets hold if a caller forgets: fields that are named like content or secrets
are dropped, long strings are cut, and an exception that is not ours is logged with its type and
the places it passed, without its message (which may quote what it could not digest).

Use: `log = get_logger()` at module level, `log.info("response_failed", response_id=..., code=...)`.
A call below the configured level costs 1.7 microseconds on a module's logger, which looks up
the configuration each time, and a tenth of that on a bound one: a connection or a turn binds
its ids once (`log = get_logger().bind(connection=...)`) and logs through that.
"""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import MutableMapping
from pathlib import Path
from typing import Any, Final, Literal, TextIO

import structlog
from aiohttp.http_exceptions import HttpProcessingError
from structlog.contextvars import bind_contextvars, clear_contextvars
from structlog.stdlib import ProcessorFormatter
from structlog.typing import EventDict, FilteringBoundLogger, Processor

from turnwire.errors import TurnwireError

__all__ = [
    "DROPPED",
    "configure",
    "configure_if_not",
    "forget_request",
    "get_logger",
    "remember_request",
    "without_content",
]

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["json", "console"]

DROPPED: Final = frozenset(
    {
        "api_key",
        "arguments",
        "authorization",
        "body",
        "content",
        "delta",
        "headers",
        "input",
        "instructions",
        "items",
        "key",
        "messages",
        "metadata",
        "output",
        "payload",
        "prompt",
        "text",
        "token",
        "tools",
    }
)
"""Names of fields that would hold content or secrets; they never reach the log."""

MAX_CHARS: Final = 200
"""Longer than any id, code or path of ours; shorter than most content."""

MAX_FRAMES: Final = 6


def configure(level: Level, format_: Format, stream: TextIO | None = None) -> None:
    """Set up the log of this process; may be called again.

    Args:
        level: Least severity that is written.
        format_: json: one object per line. console: for people, coloured on a terminal.
        stream: Where to write; standard error if None.
    """
    stream = stream or sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _describe_exception,
        without_content,
    ]
    renderer: Processor
    if format_ == "json":
        renderer = structlog.processors.JSONRenderer(sort_keys=True)
    else:
        plain = os.environ.get("NO_COLOR") or not stream.isatty()  # https://no-color.org
        renderer = structlog.dev.ConsoleRenderer(colors=not plain)
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[*shared, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.WriteLoggerFactory(stream),
        cache_logger_on_first_use=False,
    )
    _capture_libraries(number, shared, renderer, stream)


def configure_if_not() -> None:
    """Set up the log if nobody has: the library's default would print what variables hold."""
    if not structlog.is_configured():
        configure("warning", "console")


def get_logger() -> FilteringBoundLogger:
    """A logger that follows the configuration of the process, also if that comes later."""
    logger: FilteringBoundLogger = structlog.get_logger()
    return logger


def remember_request(**ids: str) -> None:
    """Put these ids on every line of the current async context: `request_id`, `connection`."""
    bind_contextvars(**ids)


def forget_request() -> None:
    """Drop the ids of the current async context."""
    clear_contextvars()


def without_content(logger: object, method: str, event: EventDict) -> EventDict:
    """Drop fields that would hold content, and cut what is long. A structlog processor.

    Of the event itself the first line is kept: asyncio puts the repr of a task, with that of
    its exception, on the second.
    """
    kept = {
        name: value if name.startswith("_") else _short(value)
        for name, value in event.items()
        if name.lower() not in DROPPED
    }
    kept["event"] = str(kept.get("event", "")).partition("\n")[0]
    return kept


def _short(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= MAX_CHARS else f"{text[:MAX_CHARS]}... ({len(text)} characters)"


def _describe_exception(
    logger: object, method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Replace `exc_info` by the error's type, the places it passed, and a message of ours."""
    given = event.pop("exc_info", None)
    if not given:
        return event
    error = given[1] if isinstance(given, tuple) else given
    if not isinstance(error, BaseException):
        error = sys.exception()
    if error is None:
        return event
    event["error"] = type(error).__name__
    # The system's errors and ours are sentences about the server; others may quote content.
    if isinstance(error, TurnwireError | OSError):
        event["error_message"] = str(error)
    frames = traceback.extract_tb(error.__traceback__)
    # Innermost first, so that cutting a long line loses what matters least.
    event["error_at"] = " < ".join(
        f"{Path(frame.filename).name}:{frame.lineno} {frame.name}"
        for frame in reversed(frames[-MAX_FRAMES:])
    )
    return event


def _capture_libraries(
    number: int, shared: list[Processor], renderer: Processor, stream: TextIO
) -> None:
    """Let the standard library's loggers write through the same processors."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old.formatter, ProcessorFormatter):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    # One line per HTTP request is the proxy's job; here it would cost more than the turn.
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    # Strangers must not be able to fill the log with requests that are none.
    library = logging.getLogger("aiohttp.server")
    library.removeFilter(_is_our_business)
    library.addFilter(_is_our_business)


def _is_our_business(record: logging.LogRecord) -> bool:
    """Whether a fault that the library met is more than a request it could not read."""
    kind = record.exc_info[0] if record.exc_info else None
    return kind is None or not issubclass(kind, HttpProcessingError)
