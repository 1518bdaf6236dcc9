"""Tests of `turnwire.order`."""

from __future__ import annotations

import pytest

from turnwire.order import Order
from turnwire.protocol.requests import CreateResponse
from turnwire.telemetry.clock import StageClock


@pytest.mark.parametrize("asked", [None, False, True])
def test_with_zero_data_retention_nothing_is_stored(asked: bool | None) -> None:
    """An order that may not be kept is one with `store: false`, whatever was asked for."""
    for zero in (False, True):
        order = Order(
            request=CreateResponse(store=asked),
            response_id="resp_1",
            owner="a",
            zero_data_retention=zero,
            transport="http",
            clock=StageClock(),
        )
        assert (False if zero else asked) is order.request.store
