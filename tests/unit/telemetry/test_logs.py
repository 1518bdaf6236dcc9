from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import structlog
from aiohttp.http_exceptions import BadStatusLine
from hypothesis import given
from hypothesis import strategies as st

from turnwire.errors import StoreError
from turnwire.telemetry.logs import (
    DROPPED,
    Level,
    configure,
    configure_if_not,
    forget_request,
    get_logger,
    remember_request,
    without_content,
)

SECRET = "what the user said"


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    access = logging.getLogger("aiohttp.access").level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(access)
    structlog.reset_defaults()
    forget_request()


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    """The JSON lines, without their times."""
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    for line in found:
        assert line.pop("timestamp").endswith("Z")
    return found


def raise_and_log(error: Exception, log: Callable[[], object]) -> None:
    try:
        raise error
    except type(error):
        log()


def test_a_line_is_one_json_object() -> None:
    """A JSON line has the event, the level, a UTC time and the fields."""
    stream = io.StringIO()
    configure("info", "json", stream)
    get_logger().info("response_ended", num_tokens=3, status="completed")
    assert [
        {"event": "response_ended", "level": "info", "num_tokens": 3, "status": "completed"}
    ] == lines(stream)


@pytest.mark.parametrize(
    ("level", "expected"),
    [
        ("debug", ["debug", "info", "warning", "error"]),
        ("info", ["info", "warning", "error"]),
        ("warning", ["warning", "error"]),
        ("error", ["error"]),
    ],
)
def test_the_level_decides(level: Level, expected: list[str]) -> None:
    """Events below the level are not written, from this package and from libraries alike."""
    stream = io.StringIO()
    log, library = get_logger(), logging.getLogger("a.library")
    configure(level, "json", stream)
    for name in ("debug", "info", "warning", "error"):
        getattr(log, name)("x")
        getattr(library, name)("y")
    assert [(name, event) for name in expected for event in "xy"] == [
        (line["level"], line["event"]) for line in lines(stream)
    ]


def test_content_does_not_reach_the_log() -> None:
    """Fields named like content are dropped, and long values of other fields are cut."""
    stream = io.StringIO()
    configure("info", "json", stream)
    fields: dict[str, Any] = {**dict.fromkeys(DROPPED, SECRET), "Input": SECRET}
    get_logger().info("x", other=["a"] * 500, **fields)
    (line,) = lines(stream)
    assert {"event", "level", "other"} == set(line)
    assert line["other"].endswith("... (2500 characters)")
    assert len(line["other"]) < 250


@pytest.mark.parametrize(
    ("error", "described"),
    [
        (ValueError(SECRET), {"error": "ValueError"}),
        (StoreError("disk full"), {"error": "StoreError", "error_message": "disk full"}),
        (OSError("in use"), {"error": "OSError", "error_message": "in use"}),
    ],
)
def test_exceptions_keep_their_place_and_only_our_messages(
    error: Exception, described: dict[str, str]
) -> None:
    """An exception is logged by type and place; its message only where it cannot quote content."""
    stream = io.StringIO()
    configure("info", "json", stream)
    raise_and_log(error, lambda: get_logger().exception("failed"))
    raise_and_log(error, lambda: get_logger().error("failed", exc_info=error))
    raise_and_log(error, lambda: logging.getLogger("asyncio").exception("failed\n%r", error))
    found = lines(stream)
    places = [line.pop("error_at") for line in found]
    assert [{"event": "failed", "level": "error"} | described] * 3 == found
    assert all("raise_and_log" in place and "test_logs.py" in place for place in places)
    assert SECRET not in stream.getvalue()


def test_exc_info_without_an_exception_is_no_error() -> None:
    """Asking for the current exception where there is none logs a plain line."""
    stream = io.StringIO()
    configure("info", "json", stream)
    get_logger().info("x", exc_info=True)
    assert [{"event": "x", "level": "info"}] == lines(stream)


def test_request_ids_are_on_every_line() -> None:
    """Ids of the context are on the lines of this package and of libraries, until forgotten."""
    stream = io.StringIO()
    configure("info", "json", stream)
    remember_request(request_id="req_1")
    get_logger().info("x")
    logging.getLogger("a.library").info("y")
    forget_request()
    get_logger().info("z")
    assert ["req_1", "req_1", None] == [line.get("request_id") for line in lines(stream)]


def test_the_console_is_for_people() -> None:
    """The console format writes the event and its fields on one line, without colour codes."""
    stream = io.StringIO()
    configure("info", "console", stream)
    get_logger().info("listening", port=8787)
    (line,) = stream.getvalue().splitlines()
    assert "listening" in line
    assert "port=8787" in line
    assert "\x1b" not in line


class Terminal(io.StringIO):
    """Somebody looks at it."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "no_color", "coloured"),
    [(Terminal(), "", True), (Terminal(), "1", False), (io.StringIO(), "", False)],
)
def test_colours_are_for_terminals(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, no_color: str, coloured: bool
) -> None:
    """There are none where nobody looks, or where somebody wants none."""
    monkeypatch.setenv("NO_COLOR", no_color)
    configure("info", "console", stream)
    get_logger().info("response_ended")
    assert coloured is ("\x1b[" in stream.getvalue())


def test_configuring_again_replaces() -> None:
    """After a second configuration each event is written once, to the new stream."""
    first, second = io.StringIO(), io.StringIO()
    log = get_logger()
    configure("info", "json", first)
    configure("info", "json", second)
    log.info("x")
    logging.getLogger("a.library").info("y")
    assert ("", ["x", "y"]) == (first.getvalue(), [line["event"] for line in lines(second)])


def test_library_access_lines_are_off() -> None:
    """The HTTP library's line per request is not written."""
    stream = io.StringIO()
    configure("debug", "json", stream)
    logging.getLogger("aiohttp.access").info("GET /")
    assert "" == stream.getvalue()


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none(), st.binary())))
def test_no_long_or_dropped_field_passes(event: dict[str, Any]) -> None:
    """Whatever the fields, those that pass are short and not named like content."""
    passed = without_content(None, "info", {"event": "x"} | event)
    assert isinstance(passed, dict)
    assert not {name.lower() for name in passed} & DROPPED
    assert all(
        len(value) < 250
        for name, value in passed.items()
        if isinstance(value, str) and not name.startswith("_")
    )


def test_an_embedded_server_has_a_log_without_content(capsys: pytest.CaptureFixture[str]) -> None:
    """Where nobody set the log up, `configure_if_not` does; what was set up stays."""
    structlog.reset_defaults()
    configure_if_not()
    try:
        raise RuntimeError("canary")
    except RuntimeError as error:
        secret = "canary"
        get_logger().error("failed", exc_info=error, input=secret)
    written = "".join(capsys.readouterr())
    assert "failed" in written
    assert "canary" not in written
    stream = io.StringIO()
    configure("error", "json", stream)
    configure_if_not()
    get_logger().error("again")
    assert "again" in stream.getvalue()


def test_requests_that_are_none_do_not_fill_the_log() -> None:
    """What the HTTP library could not read is not logged; what else it meets is."""
    stream = io.StringIO()
    configure("error", "json", stream)
    library = logging.getLogger("aiohttp.server")
    for fault in (BadStatusLine("GARBAGE"), ValueError("x")):
        try:
            raise fault
        except Exception as error:
            library.error("Error handling request", exc_info=error)
    [line] = stream.getvalue().splitlines()
    assert "ValueError" == json.loads(line)["error"]
