"""Fixtures for everything that needs a real PostgreSQL: one embedded server per test process, a fresh database per
test, copied from a template that holds the v1 schema.

Tests marked `pg15` run on PostgreSQL 15 as Debian ships it, without pgvector; those marked `prometheus`, `browser`
and `systemd` on Debian's packages of these. Where such a program is missing they are left out and the report's head
says so; with CI=true they fail instead.
"""

import asyncio
import os
import shutil
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Protocol

import asyncpg
import pytest

from cutover.embedded.legacy_schema import legacy_schema
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres

PG15_PROGRAMS = Path(os.environ.get("CUTOVER_TEST_PG15_BIN", "/usr/lib/postgresql/15/bin"))
_PG15_MISSING = (
    None
    if (PG15_PROGRAMS / "initdb").is_file()
    else f"no PostgreSQL 15 in {PG15_PROGRAMS} (Debian's package postgresql-15, or set CUTOVER_TEST_PG15_BIN)"
)


BARE_STEPS = "ALTER DATABASE {} SET cutover.bare_steps = '{}'"
"""Scenes set the phase that they want without certificates. Databases that a daemon makes for itself do not know it."""


_NEEDS = {
    "browser": next((f"no {each} (Debian's package {each})" for each in ("chromium",) if not shutil.which(each)), None),
    "pg15": _PG15_MISSING,
    "prometheus": next(
        (f"no {each} (Debian's package prometheus)" for each in ("prometheus", "promtool") if not shutil.which(each)),
        None,
    ),
    "systemd": None if shutil.which("systemd-analyze") else "no systemd-analyze (Debian's package systemd)",
}
"""What tests of a marker need beyond Python's packages, and what of it is missing here."""


def pytest_report_header() -> list[str]:
    fate = "fail" if _in_ci() else "are left out"
    return [
        f"{marker}: {missing}: the tests marked so {fate}" if missing else f"{marker}: all there"
        for marker, missing in _NEEDS.items()
    ]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _in_ci():
        return
    missing = [marker for marker, what in _NEEDS.items() if what]
    without = [item for item in items if any(item.get_closest_marker(marker) for marker in missing)]
    if without:
        config.hook.pytest_deselected(items=without)
        items[:] = [item for item in items if item not in without]


def _in_ci() -> bool:
    return os.environ.get("CI", "") == "true"


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
        await self._create(name, template)
        return name

    async def empty(self) -> str:
        """The name of a fresh database with nothing in it."""
        name = f"test_{next(self._numbers)}"
        await self._create(name, None)
        return name

    async def _create(self, name: str, template: str | None) -> None:
        connection = await asyncpg.connect(await self.server.create_database(name, template=template))
        try:
            await connection.execute(BARE_STEPS.format(f'"{name}"', "on"))
        finally:
            await connection.close()


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
def postgres15() -> Iterator[EmbeddedPostgres]:
    """PostgreSQL 15 without pgvector: a legacy schema without embeddings works there, the plugin's own does not. Only
    for tests marked `pg15`."""
    if _PG15_MISSING is not None:
        pytest.fail(_PG15_MISSING)
    with EmbeddedPostgres.temporary(settings=DISPOSABLE, programs=PG15_PROGRAMS) as server:
        yield server


@pytest.fixture(scope="session")
def database_templates(postgres: EmbeddedPostgres) -> DatabaseTemplates:
    return DatabaseTemplates(postgres)


@pytest.fixture(scope="session")
def database_templates15(postgres15: EmbeddedPostgres) -> DatabaseTemplates:
    return DatabaseTemplates(postgres15)


@contextmanager
def _databases(templates: DatabaseTemplates) -> Iterator[MakeDatabase]:
    """Makes databases, and drops them at the end."""
    made: list[str] = []

    async def make(*, embedding: bool = True, status_enum: bool = True, legacy: bool = True) -> str:
        if legacy:
            made.append(await templates.copy(embedding=embedding, status_enum=status_enum))
        else:
            made.append(await templates.empty())
        return templates.server.url(made[-1])

    async def drop() -> None:
        for name in made:
            await templates.server.drop_database(name)

    yield make
    asyncio.run(drop())


@pytest.fixture
def make_database(database_templates: DatabaseTemplates) -> Iterator[MakeDatabase]:
    """Makes fresh databases for this test, dropped after it whoever is still connected.

    `embedding` and `status_enum` choose the shape of the v1 schema; `legacy=False` leaves the database empty.
    """
    with _databases(database_templates) as make:
        yield make


@pytest.fixture
def make_database15(database_templates15: DatabaseTemplates) -> Iterator[MakeDatabase]:
    """As `make_database`, on PostgreSQL 15; `embedding=False` always, for there is no pgvector."""
    with _databases(database_templates15) as make:
        yield make


@pytest.fixture(params=[16, pytest.param(15, marks=pytest.mark.pg15)], ids="PostgreSQL {}".format)
def make_on_either(request: pytest.FixtureRequest) -> MakeDatabase:
    """`make_database`, then `make_database15`: the test runs once on each version."""
    make: MakeDatabase = request.getfixturevalue("make_database" if request.param == 16 else "make_database15")
    return make


@pytest.fixture
async def plain_database(make_on_either: MakeDatabase) -> str:
    """The URL of a fresh database with the v1 schema without embeddings, on each version of PostgreSQL."""
    return await make_on_either(embedding=False)


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
