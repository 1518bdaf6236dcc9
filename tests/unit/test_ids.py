from __future__ import annotations

import re

import pytest

from turnwire.ids import new_id


@pytest.mark.parametrize("prefix", ["resp", "msg", "rs", "fc", "call", "steer"])
def test_an_id_names_its_kind(prefix: str) -> None:
    """An id is its prefix, an underscore and 48 hex digits."""
    assert re.fullmatch(rf"{prefix}_[0-9a-f]{{48}}", new_id(prefix))


def test_ids_differ() -> None:
    """No id comes twice."""
    assert 1000 == len({new_id("resp") for _ in range(1000)})
