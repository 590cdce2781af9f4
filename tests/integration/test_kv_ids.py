"""`cutover.uuid5`: SHA-1 in plain PostgreSQL, against Python's (decision 0014)."""

import asyncio
import uuid
from collections.abc import Iterator

import asyncpg
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from cutover.stores import migrate
from cutover.stores.database import Database
from tests.conftest import MakeDatabase

# PostgreSQL's text holds neither NUL nor halves of surrogate pairs.
TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)


class Asker:
    """A connection that a test without a loop of its own can use."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: "asyncpg.Connection[asyncpg.Record]") -> None:
        self._loop = loop
        self._connection = connection

    def ids(self, namespace: uuid.UUID, names: list[str]) -> list[uuid.UUID]:
        rows = self._loop.run_until_complete(
            self._connection.fetch(
                "SELECT cutover.uuid5($1, t.n) AS id FROM unnest($2::text[]) WITH ORDINALITY t (n, i) ORDER BY i",
                namespace,
                names,
            )
        )
        return [uuid.UUID(bytes=row["id"].bytes) for row in rows]


@pytest.fixture
def asker(make_database: MakeDatabase) -> Iterator[Asker]:
    loop = asyncio.new_event_loop()

    async def begin() -> "asyncpg.Connection[asyncpg.Record]":
        url = await make_database()
        database = await Database.connect(url, max_size=1)
        await migrate.up(database)
        await database.close()
        return await asyncpg.connect(url)

    connection = loop.run_until_complete(begin())
    yield Asker(loop, connection)
    loop.run_until_complete(connection.close())
    loop.close()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(namespace=st.uuids(), names=st.lists(TEXT, min_size=1, max_size=20))
@example(namespace=uuid.UUID(int=0), names=["", "a", "ключ", "鍵 🗝", "a\nb", " ", "e\u0301", "\u00e9"])
@example(namespace=uuid.UUID(int=2**128 - 1), names=["x" * length for length in range(30, 130)])
def test_as_python_has_it(asker: Asker, namespace: uuid.UUID, names: list[str]) -> None:
    assert asker.ids(namespace, names) == [uuid.uuid5(namespace, name) for name in names]


def test_a_very_long_key(asker: Asker) -> None:
    space = uuid.uuid4()
    names = ["k" * 100_000, "ü" * 20_000]
    assert asker.ids(space, names) == [uuid.uuid5(space, name) for name in names]
