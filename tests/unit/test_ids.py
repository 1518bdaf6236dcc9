from __future__ import annotations

import re
import subprocess
import sys

import pytest

from turnwire.ids import item_id, new_id, response_of


@pytest.mark.parametrize("prefix", ["resp", "msg", "rs", "fc", "call", "steer"])
def test_an_id_names_its_kind(prefix: str) -> None:
    """An id is its prefix, an underscore and 48 hex digits."""
    assert re.fullmatch(rf"{prefix}_[0-9a-f]{{48}}", new_id(prefix))


def test_ids_differ() -> None:
    """No id comes twice."""
    assert 1000 == len({new_id("resp") for _ in range(1000)})


FORKS = """
import os
from turnwire.ids import new_id

new_id("resp")  # others are there by now, to be handed out
child = os.fork()
if child:
    os.waitpid(child, 0)
print("\\n".join(new_id("resp") for _ in range(200)), flush=True)
"""


def test_ids_differ_in_a_forked_process() -> None:
    """A worker makes none of the ids that its parent makes."""
    done = subprocess.run([sys.executable, "-c", FORKS], capture_output=True, check=True)
    assert 400 == len(set(done.stdout.split()))


@pytest.mark.parametrize("prefix", ["msg", "rs", "fc", "ctc"])
@pytest.mark.parametrize("output_index", [0, 1, 0xFFFF])
def test_an_item_tells_its_response(prefix: str, output_index: int) -> None:
    """The id of an item that was made leads back to its response."""
    response_id = new_id("resp")
    made = item_id(prefix, response_id, output_index)
    assert made.startswith(f"{prefix}_")
    assert len(made) <= 64
    assert response_id == response_of(made)


def test_items_of_a_response_differ() -> None:
    """No two items of a response have one id."""
    response_id = new_id("resp")
    assert 100 == len({item_id("msg", response_id, index) for index in range(100)})


@pytest.mark.parametrize(
    "id_", ["", "msg_x", "msg_" + "0" * 48, "msg_" + "0" * 53, "msg_" + "0" * 51 + "G", "0" * 52]
)
def test_other_ids_lead_nowhere(id_: str) -> None:
    """What a client made up, and what was not made as an output, names no response."""
    assert response_of(id_) is None
