"""Every store of ours meets the contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from tests.contracts.store import Clock, StoreContract, StoreMachine

from turnwire.store.base import Store
from turnwire.store.memory import MemoryStore
from turnwire.store.sqlite import SqliteStore


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite"])
async def store(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> AsyncIterator[Store]:
    opened: Store = (
        MemoryStore(clock=clock)
        if request.param == "memory"
        else await SqliteStore.open(tmp_path / "turns.db", clock=clock)
    )
    yield opened
    await opened.aclose()


class TestStores(StoreContract):
    """Memory and SQLite, by the suite."""


class MemoryMachine(StoreMachine):
    async def open_store(self) -> Store:
        return MemoryStore(clock=self.clock)


class SqliteMachine(StoreMachine):
    async def open_store(self) -> Store:
        self.directory = TemporaryDirectory()
        return await SqliteStore.open(
            Path(self.directory.name, "turns.db"), num_readers=1, clock=self.clock
        )

    def teardown(self) -> None:
        super().teardown()
        self.directory.cleanup()


def test_memory_agrees_with_the_model() -> None:
    """MemoryStore answers random sequences of calls as the model does."""
    run_state_machine_as_test(
        MemoryMachine, settings=settings(max_examples=60, stateful_step_count=40, deadline=None)
    )


def test_sqlite_agrees_with_the_model() -> None:
    """SqliteStore answers random sequences of calls as the model does."""
    run_state_machine_as_test(
        SqliteMachine, settings=settings(max_examples=15, stateful_step_count=30, deadline=None)
    )
