"""The embedded server: it starts, survives what tests do to it, and leaves nothing behind."""

import os
import tempfile
from pathlib import Path

import asyncpg
import pytest

from cutover.embedded.legacy_schema import legacy_schema
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres, EmbeddedPostgresError
from tests.conftest import MakeDatabase


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_it_is_postgresql_16_with_pgvector(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    assert 160000 <= int(await connection.fetchval("SHOW server_version_num")) < 170000
    assert await connection.fetchval("SELECT extversion FROM pg_extension WHERE extname = 'vector'") >= "0.8"


def test_stop_leaves_no_process_and_no_file() -> None:
    server = EmbeddedPostgres.temporary(settings=DISPOSABLE)
    socket_dir = Path(server.start().partition("host=")[2])
    data = Path(server._data)
    pid = server.pid
    assert pid is not None
    assert _alive(pid)
    assert (socket_dir / ".s.PGSQL.5432").is_socket()
    server.stop()
    assert not _alive(pid)
    assert not socket_dir.exists()
    assert not data.parent.exists()


async def test_committed_rows_survive_restart_and_kill(own_postgres: EmbeddedPostgres) -> None:
    url = await own_postgres.create_database("kept")
    connection = await asyncpg.connect(url)
    await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
    own_postgres.restart()
    assert connection.is_closed() or await _is_cut(connection)
    connection = await asyncpg.connect(url)
    await connection.execute("INSERT INTO t VALUES (2)")
    own_postgres.kill()
    assert own_postgres.pid is None
    assert own_postgres.start() == own_postgres.url()
    assert await _is_cut(connection)
    connection = await asyncpg.connect(url)
    assert await connection.fetchval("SELECT count(*) FROM t") == 2
    await connection.close()


async def _is_cut(connection: "asyncpg.Connection[asyncpg.Record]") -> bool:
    try:
        await connection.fetchval("SELECT 1")
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError):
        return True
    return False


def test_data_outlive_the_object() -> None:
    holder = EmbeddedPostgres.temporary(settings=DISPOSABLE)  # a directory that the server's user can reach
    data = holder._data.parent / "kept"
    try:
        with EmbeddedPostgres(data, settings=DISPOSABLE) as first:
            identity = (data / "global" / "pg_control").stat().st_size
            assert first.pid is not None
        assert (data / "PG_VERSION").read_text().strip() == "16"
        with EmbeddedPostgres(data, settings=DISPOSABLE) as second:
            assert second.pid is not None
        assert (data / "global" / "pg_control").stat().st_size == identity
    finally:
        holder.stop()


def test_a_second_server_on_the_same_data_is_refused_with_the_reason(own_postgres: EmbeddedPostgres) -> None:
    second = EmbeddedPostgres(own_postgres._data, settings=DISPOSABLE)
    with pytest.raises(EmbeddedPostgresError, match="lock file"):
        second.start()
    second.stop()
    assert own_postgres.pid is not None


def test_a_wrong_setting_is_refused_with_the_servers_words_and_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("tempfile.tempdir", tempfile.mkdtemp(prefix="t-"))
    base = Path(tempfile.gettempdir())
    base.chmod(0o755)
    with (
        pytest.raises(EmbeddedPostgresError, match="max_connections"),
        EmbeddedPostgres.temporary(settings={"max_connections": "many"}),
    ):
        raise AssertionError("it started")
    base.rmdir()  # fails unless it is empty


def test_programs_are_copied_where_the_servers_user_cannot_reach_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cutover.embedded.postgres._open_to_all", lambda path: False)
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as server:
        assert server.pid is not None
        # Only root's server runs as another user, so only there a copy is needed.
        assert (server._bin != server.programs) is (os.geteuid() == 0)


@pytest.mark.parametrize("embedding", [True, False])
@pytest.mark.parametrize("status_enum", [True, False])
async def test_the_legacy_schema_has_the_asked_shape(
    make_database: MakeDatabase, embedding: bool, status_enum: bool
) -> None:
    connection = await asyncpg.connect(await make_database(embedding=embedding, status_enum=status_enum))
    try:
        columns = await connection.fetch(
            "SELECT column_name, data_type FROM information_schema.columns"
            " WHERE table_schema = 'public' AND (table_name, column_name)"
            " IN (('agent_memories', 'embedding'), ('workspaces', 'status'))"
        )
        shape = {row["column_name"]: row["data_type"] for row in columns}
        assert ("embedding" in shape) is embedding
        assert shape["status"] == ("USER-DEFINED" if status_enum else "text")
        indexes = await connection.fetchval(
            "SELECT count(*) FROM pg_indexes WHERE tablename = 'agent_memories' AND indexname LIKE 'idx_%'"
        )
        assert indexes == (5 if embedding else 4)
    finally:
        await connection.close()


async def test_each_database_is_fresh(make_database: MakeDatabase) -> None:
    first, second = await make_database(), await make_database(legacy=False)
    assert first != second
    connection = await asyncpg.connect(second)
    assert await connection.fetchval("SELECT to_regclass('public.agent_memories')") is None
    await connection.execute(legacy_schema(embedding=True, status_enum=False))
    assert await connection.fetchval("SELECT count(*) FROM agent_memories") == 0
    await connection.close()
