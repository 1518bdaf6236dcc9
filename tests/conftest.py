"""What holds for every test: a time never decides one. And what tests of several rooms share."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator

import pytest
import structlog
from hypothesis import settings

from turnwire.telemetry import logs

settings.register_profile("turnwire", deadline=None)
settings.load_profile("turnwire")


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    """Everything that is logged, in as much detail as there is."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    access = logging.getLogger("aiohttp.access").level
    written = io.StringIO()
    logs.configure("debug", "json", written)
    yield written
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.getLogger("aiohttp.access").setLevel(access)
    structlog.reset_defaults()
