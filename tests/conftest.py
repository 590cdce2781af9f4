"""Fixtures for everything that needs a real PostgreSQL: one embedded server per test process, a fresh database per
test, copied from a template that holds the v1 schema."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from itertools import count
from typing import Protocol

import asyncpg
import pytest

from cutover.embedded.legacy_schema import legacy_schema
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres


class MakeDatabase(Protocol):
    """What the fixture `make_database` gives: each call returns the URL of another fresh database."""

    async def __call__(self, *, embedding: bool = True, status_enum: bool = True, legacy: bool = True) -> str: ...


class DatabaseTemplates:
    """Databases to copy from, one per shape of the v1 schema, made when first asked for."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self.server = server
        self._numbers = count(1)
        self._ready: set[str] = set()

    async def copy(self, *, embedding: bool, status_enum: bool) -> str:
        """The name of a fresh database with that shape of the v1 schema."""
        template = f"template_{'embedding' if embedding else 'plain'}_{'enum' if status_enum else 'text'}"
        if template not in self._ready:
            url = await self.server.create_database(template)
            connection = await asyncpg.connect(url)
            try:
                await connection.execute(legacy_schema(embedding=embedding, status_enum=status_enum))
            finally:
                await connection.close()
            self._ready.add(template)
        name = f"test_{next(self._numbers)}"
        await self.server.create_database(name, template=template)
        return name

    async def empty(self) -> str:
        """The name of a fresh database with nothing in it."""
        name = f"test_{next(self._numbers)}"
        await self.server.create_database(name)
        return name


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The test process's own PostgreSQL; gone, with its data, when the process's tests are done.

    A test that stops or kills the server must use `own_postgres` instead: others run on this one.
    """
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as server:
        yield server


@pytest.fixture
def own_postgres() -> Iterator[EmbeddedPostgres]:
    """A PostgreSQL for this test alone, to be stopped, killed and restarted at will."""
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as server:
        yield server


@pytest.fixture(scope="session")
def database_templates(postgres: EmbeddedPostgres) -> DatabaseTemplates:
    return DatabaseTemplates(postgres)


@pytest.fixture
def make_database(database_templates: DatabaseTemplates) -> Iterator[MakeDatabase]:
    """Makes fresh databases for this test, dropped after it whoever is still connected.

    `embedding` and `status_enum` choose the shape of the v1 schema; `legacy=False` leaves the database empty.
    """
    made: list[str] = []

    async def make(*, embedding: bool = True, status_enum: bool = True, legacy: bool = True) -> str:
        if legacy:
            made.append(await database_templates.copy(embedding=embedding, status_enum=status_enum))
        else:
            made.append(await database_templates.empty())
        return database_templates.server.url(made[-1])

    async def drop() -> None:
        for name in made:
            await database_templates.server.drop_database(name)

    yield make
    asyncio.run(drop())


@pytest.fixture
async def database(make_database: MakeDatabase) -> str:
    """The URL of a fresh database with the v1 schema, embeddings and the status enum."""
    return await make_database()


@pytest.fixture
async def connection(database: str) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
    """A connection to `database`."""
    opened = await asyncpg.connect(database)
    yield opened
    await opened.close()
