"""What a model is offered."""

from __future__ import annotations

import pytest

from turnwire.protocol.tools import OfferedTool


@pytest.mark.parametrize(
    ("name", "namespace", "call_name"),
    [("f", None, "f"), ("f", "n", "f"), ("n.f", "n", "f"), ("a.b.f", "a.b", "f")],
)
def test_call_name(name: str, namespace: str | None, call_name: str) -> None:
    """The call item carries the tool's own name, whatever the model called it by."""
    assert call_name == OfferedTool(name=name, namespace=namespace).call_name
