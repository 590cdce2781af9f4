"""Acceptance tests: real processes, real sockets, signals. One PostgreSQL per test session (`postgres`)."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest

from tests.acceptance.scene import Scene, scene
from tests.conftest import MakeDatabase


class MakeScene(Protocol):
    """What the fixture `make_scene` gives: a started tenant, ended with the test."""

    async def __call__(
        self, *, daemons: int = 1, settings: dict[str, str] | None = None, start: bool = True
    ) -> Scene: ...


@pytest.fixture
async def make_scene(make_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[MakeScene]:
    """Start scenes on fresh databases."""
    async with AsyncExitStack() as stack:
        number = 0

        async def make(*, daemons: int = 1, settings: dict[str, str] | None = None, start: bool = True) -> Scene:
            nonlocal number
            number += 1
            logs = tmp_path / f"logs-{number}"
            return await stack.enter_async_context(
                scene(await make_database(), logs, daemons=daemons, settings=settings, start=start)
            )

        yield make


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """A client without limits of its own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as opened:
        yield opened
