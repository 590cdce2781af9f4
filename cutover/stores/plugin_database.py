"""The built-in plugin's tables, seen directly (domain §3): exact counts and presence, which the contract cannot give.

Only the plugin writes memories. The one thing set here is `created_at` on rows that were delivered: the contract has
no field for it, and without it everything would look new after the move (domain §4.8).
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Self
from uuid import UUID

from cutover.domain.namespace import NamespaceKind
from cutover.stores.database import Database
from cutover.stores.sql import query

CONTRACT_ONLY = "none"
"""The value of `MEMORY_PLUGIN_DATABASE_URL` that says: this plugin has no reachable database."""
SEARCH_PATH = "search_path=memory_plugin,public"
_VECTOR_DIMENSIONS = 1536
_TEXT = frozenset({"text", "character varying"})
_TIME = frozenset({"timestamp with time zone"})
_JSON = frozenset({"jsonb"})
_KNOWN: Mapping[str, Mapping[str, frozenset[str]]] = {
    "memory_namespaces": {
        "name": _TEXT,
        "kind": _TEXT,
        "expires_at": _TIME,
        "metadata": _JSON,
        "created_at": _TIME,
    },
    "memory_records": {
        "id": frozenset({"uuid"}),
        "namespace": _TEXT,
        "content": _TEXT,
        "kind": _TEXT,
        "source": _TEXT,
        "expires_at": _TIME,
        "propagation": _JSON,
        "pin": frozenset({"boolean"}),
        "embedding": frozenset({"vector"}),
        "content_tsv": frozenset({"tsvector"}),
        "created_at": _TIME,
    },
}
_KEYS = {"memory_namespaces": "name", "memory_records": "id"}


def derive_plugin_database_url(database_url: str) -> str:
    """The tenant's URL with the plugin's search path appended by `?` or `&` (domain §3).

    `,public` is needed where pgvector was installed into `public` before.
    """
    if "?" not in database_url:
        return f"{database_url}?{SEARCH_PATH}"
    return database_url + SEARCH_PATH if database_url.endswith(("?", "&")) else f"{database_url}&{SEARCH_PATH}"


def plugin_database_url(database_url: str, explicit: str | None) -> str | None:
    """The URL to use: derived by default, an explicit one untouched, None for `none` (contract only)."""
    if not explicit:
        return derive_plugin_database_url(database_url)
    return None if explicit == CONTRACT_ONLY else explicit


@dataclass(frozen=True, slots=True)
class PluginSchema:
    """Whether the tables are the ones known here, and if not, the first reason why."""

    known: bool
    why: str
    vector_schema: str | None
    """Where pgvector is installed; None without it."""


class PluginDatabase:
    """The built-in plugin's database on a pool of its own. Raises the errors of `Database` only."""

    def __init__(self, database: Database) -> None:
        self._database = database

    @classmethod
    async def connect(
        cls, url: str, *, application_name: str = "cutover", max_size: int = 4, timeout: float = 10.0
    ) -> Self:
        """Open the pool on `url`, which is used as it is."""
        return cls(
            await Database.connect(
                url,
                application_name=application_name,
                min_size=0,
                max_size=max_size,
                timeout=timeout,
                # Creation times are all that is written here, and a lost one is found by the next sweep.
                settings={"synchronous_commit": "off"},
            )
        )

    async def close(self) -> None:
        """Close the pool."""
        await self._database.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.close()

    @property
    def database(self) -> Database:
        """For the stores that work on the same tables (the set-based backfill)."""
        return self._database

    async def schema(self, *, timeout: float = 10.0) -> PluginSchema:
        """Look at tables and columns. Anything unexpected makes it unknown: nothing may be assumed about it then."""
        vector_schema = await self._database.fetchval(query("plugin_database_vector_schema"), timeout=timeout)
        rows = await self._database.fetch(query("plugin_database_columns"), timeout=timeout)
        tables: dict[str, dict[str, Mapping[str, object]]] = {}
        for row in rows:
            tables.setdefault(row["table"], {})[row["column"]] = dict(row)
        for table in _KNOWN:
            problem = _problem(table, tables.get(table, {}))
            if problem is not None:
                return PluginSchema(False, problem, vector_schema)
        return PluginSchema(True, "the built-in plugin's schema", vector_schema)

    async def counts(self, *, leaving_out: Collection[str] = (), timeout: float = 60.0) -> dict[NamespaceKind, int]:
        """Rows by the kind that each namespace's prefix stands for; every kind is there. Expired rows count."""
        counts = dict.fromkeys(NamespaceKind, 0)
        for row in await self._database.fetch(query("plugin_database_counts"), list(leaving_out), timeout=timeout):
            counts[NamespaceKind(row["kind"])] = row["rows"]
        return counts

    async def present(self, ids: Collection[UUID], *, timeout: float = 30.0) -> frozenset[UUID]:
        """Which of `ids` the plugin holds, in whatever namespace."""
        rows = await self._database.fetch(query("plugin_database_present"), list(ids), timeout=timeout)
        return frozenset(row["id"] for row in rows)

    async def strays(self, *, timeout: float = 60.0) -> dict[str, int]:
        """Populated tables of the plugin's names in `public`, with their rows; empty is good."""
        populated: dict[str, int] = {}
        for row in await self._database.fetch(query("plugin_database_strays"), timeout=timeout):
            part = row["table"].removeprefix("memory_")
            rows = await self._database.fetchval(query(f"plugin_database_stray_{part}"), timeout=timeout)
            if rows:
                populated[f"public.{row['table']}"] = rows
        return populated

    async def set_created_at(self, created_at: Mapping[UUID, datetime], *, timeout: float = 10.0) -> frozenset[UUID]:
        """Set the creation times of delivered memories; gives the ids that changed. Unknown ids are passed over."""
        rows = await self._database.fetch(
            query("plugin_database_set_created_at"),
            list(created_at.keys()),
            list(created_at.values()),
            timeout=timeout,
        )
        return frozenset(row["id"] for row in rows)


def _problem(table: str, columns: Mapping[str, Mapping[str, object]]) -> str | None:
    """The first thing about `memory_plugin.<table>` that is not as known, or None."""
    if not columns:
        return f"there is no table memory_plugin.{table}"
    for name, types in _KNOWN[table].items():
        column = columns.get(name)
        if column is None:
            return f"memory_plugin.{table} has no column {name}"
        if str(column["type"]).rpartition(".")[2] not in types:
            return f"memory_plugin.{table}.{name} is {column['type']}, not {' or '.join(sorted(types))}"
    for name, column in columns.items():
        if name not in _KNOWN[table] and not column["fillable"] and not column["generated"]:
            return f"memory_plugin.{table} demands a column {name} that is not known"
    if not columns[_KEYS[table]]["keyed"]:
        return f"memory_plugin.{table} has no primary key on {_KEYS[table]}"
    if table == "memory_records" and columns["embedding"]["modifier"] != _VECTOR_DIMENSIONS:
        return f"memory_plugin.{table}.embedding does not have {_VECTOR_DIMENSIONS} dimensions"
    if table == "memory_records" and not columns["content_tsv"]["generated"]:
        return f"memory_plugin.{table}.content_tsv is not generated"
    return None
