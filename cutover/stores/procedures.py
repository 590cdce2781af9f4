"""`cutover.memory_procedure` and its versions and events: the packaged runbooks, put down in the tenant's database.

Seeding is idempotent. A text that is not known becomes a version; whether it comes into force `domain/procedure.py`
says. What an older release offers is put down as `kept`, once, so that nothing is undone and nothing is silent.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from cutover.domain.procedure import Packaged, name_for, takes_over
from cutover.stores.database import Connection, Database
from cutover.stores.sql import query

_SEED_KEY = 7304916220481577253


@cache
def packaged() -> Mapping[str, Packaged]:
    """The runbooks of this release by name."""
    found = {}
    for entry in resources.files("cutover.procedures").iterdir():
        if entry.name.endswith(".md"):
            name, body = entry.name.removesuffix(".md"), entry.read_text(encoding="utf-8")
            title = body.partition("\n")[0].removeprefix("# ")
            found[name] = Packaged(name, title, body, hashlib.sha256(body.encode()).digest())
    return dict(sorted(found.items()))


def packaged_for(kind: str, parameters: Mapping[str, Any]) -> Packaged:
    """The runbook that a run follows."""
    return packaged()[name_for(kind, parameters)]


@dataclass(frozen=True, slots=True)
class ProcedureVersion:
    """One text of a runbook. `package`: the release that brought it; `in_force`: whether it is the one that counts."""

    id: int
    name: str
    number: int
    content_hash: bytes
    body: str
    package: str
    at: datetime
    in_force: bool


@dataclass(frozen=True, slots=True)
class ProcedureEvent:
    """What happened to a runbook: `added`, `adopted` or `kept` (see the table's comments)."""

    name: str
    what: str
    number: int
    previous: int | None
    package: str
    at: datetime


class Procedures:
    """The runbooks of one tenant."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def seed(self, package: str, offered: Mapping[str, Packaged] | None = None) -> dict[str, str]:
        """Put down what release `package` comes with; gives what that changed: event by name. Any number of daemons
        may do so at once."""
        changed: dict[str, str] = {}
        async with self._database.transaction() as connection:
            await connection.execute("select pg_advisory_xact_lock($1)", _SEED_KEY)
            for name, each in (packaged() if offered is None else offered).items():
                if (what := await _seed_one(connection, each, package)) is not None:
                    changed[name] = what
        return changed

    async def versions(self, name: str | None = None) -> list[ProcedureVersion]:
        """All versions of all runbooks, or of one: by name, newest first."""
        rows = await self._database.fetch(query("procedure_versions"), name)
        return [ProcedureVersion(**dict(row)) for row in rows]

    async def events(self, name: str | None = None) -> list[ProcedureEvent]:
        """What happened to all runbooks, or to one: newest first."""
        return [ProcedureEvent(**dict(row)) for row in await self._database.fetch(query("procedure_events"), name)]


async def _seed_one(connection: Connection, offered: Packaged, package: str) -> str | None:
    now = await connection.fetchrow(query("procedure_in_force"), offered.name)
    if now is None:
        await connection.execute(
            "insert into cutover.memory_procedure (name, title) values ($1, $2)", offered.name, offered.title
        )
    elif now["content_hash"] == offered.content_hash:
        return None
    version = await connection.fetchval(query("procedure_add_version"), *_columns(offered), package)
    what, previous = "added", None
    if now is not None:
        what, previous = "adopted" if takes_over(package, now["package"]) else "kept", now["version_id"]
    if what == "kept" and await connection.fetchval(query("procedure_was_kept"), version, previous, package):
        return None
    if what != "kept":
        await connection.execute(
            "update cutover.memory_procedure set version_id = $2, title = $3, package = $4,"
            " changed_at = clock_timestamp() where name = $1",
            offered.name,
            version,
            offered.title,
            package,
        )
    await connection.execute(
        "insert into cutover.memory_procedure_event (name, what, version_id, previous_id, package)"
        " values ($1, $2, $3, $4, $5)",
        offered.name,
        what,
        version,
        previous,
        package,
    )
    return what


def _columns(offered: Packaged) -> tuple[str, bytes, str]:
    return offered.name, offered.content_hash, offered.body
