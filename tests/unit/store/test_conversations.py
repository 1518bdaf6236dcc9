"""The seam's structs."""

from __future__ import annotations

from turnwire.store.conversations import StoredConversation


def test_a_new_conversation_stands_at_its_beginning() -> None:
    """Unless told otherwise nothing was added, deleted or covered."""
    made = StoredConversation(id="conv_x", owner="ann", created_at=7)
    assert (b"{}", 0, 0, None, 0) == (
        made.metadata,
        made.edition,
        made.length,
        made.response,
        made.covered,
    )
