"""Every conversation store of ours meets the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from tests.contracts.conversations import BothStores, ConversationContract, ConversationMachine

from turnwire.store.memory import MemoryStore
from turnwire.store.sqlite import SqliteStore


@pytest.fixture(params=["memory", "sqlite"])
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[BothStores]:
    opened: BothStores = (
        MemoryStore()
        if request.param == "memory"
        else await SqliteStore.open(tmp_path / "turns.db")
    )
    yield opened
    await opened.aclose()


class TestConversations(ConversationContract):
    """Memory and SQLite, by the suite."""


class MemoryMachine(ConversationMachine):
    async def open_store(self) -> BothStores:
        return MemoryStore()


class SqliteMachine(ConversationMachine):
    async def open_store(self) -> BothStores:
        self.directory = TemporaryDirectory()
        return await SqliteStore.open(Path(self.directory.name, "turns.db"), num_readers=1)

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


def test_memory_agrees_with_the_model() -> None:
    """Conversations in memory answer random sequences of calls as the model does."""
    run_state_machine_as_test(
        MemoryMachine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


def test_sqlite_agrees_with_the_model() -> None:
    """Conversations in SQLite answer random sequences of calls as the model does."""
    run_state_machine_as_test(
        SqliteMachine, settings=settings(max_examples=15, stateful_step_count=30, deadline=None)
    )
