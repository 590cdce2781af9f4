"""The daemons that serve one tenant, as `cutover.daemon` holds them (migration 017, decision 0031)."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from cutover.domain.redaction import redact_note, redact_record
from cutover.stores.database import Database

HEARD_OF = 60.0
"""Seconds after which a daemon that says nothing no longer counts as serving."""
_FORGOTTEN = "1 hour"

_TELL = """
insert into cutover.daemon as d (id, host, pid, version, config_hash, settings, faces)
values ($1, $2, $3, $4, $5, $6::jsonb, $7::jsonb)
on conflict (id) do update set faces = excluded.faces, last_seen = clock_timestamp()
"""
_PRUNE = f"""
delete from cutover.daemon
where last_seen not between clock_timestamp() - interval '{_FORGOTTEN}' and clock_timestamp() + interval '{_FORGOTTEN}'
"""
_ALL = """
select d.id, d.host, d.pid, d.version, d.config_hash, d.settings::text as settings, d.faces::text as faces,
       d.started_at, d.last_seen,
       abs(extract(epoch from clock_timestamp() - d.last_seen))::float8 as silent_seconds
from cutover.daemon d order by d.started_at, d.id
"""


@dataclass(frozen=True, slots=True)
class DaemonSelf:
    """What a daemon tells of itself. `settings`: by variable, without secrets; `config_hash`: 12 hex digits."""

    id: UUID
    host: str
    pid: int
    version: str
    config_hash: str
    settings: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class DaemonSeen:
    """One row. `silent_seconds`: since it last told, by the database's clock; or until then, where that clock was set
    back: no such row is of now either."""

    id: UUID
    host: str
    pid: int
    version: str
    config_hash: str
    settings: Mapping[str, str]
    faces: Mapping[str, Sequence[str]]
    started_at: datetime
    last_seen: datetime
    silent_seconds: float

    @property
    def serving(self) -> bool:
        """Whether it was heard of lately."""
        return self.silent_seconds < HEARD_OF

    @property
    def name(self) -> str:
        """How people tell it from the others."""
        return f"{self.host}/{self.pid}"

    def as_json(self) -> dict[str, Any]:
        """For the ops face; times RFC 3339."""
        return {
            "id": str(self.id),
            "host": self.host,
            "pid": self.pid,
            "version": self.version,
            "config_hash": self.config_hash,
            "faces": self.faces,
            "started_at": self.started_at.isoformat(),
            "last_seen": self.last_seen.isoformat(),
            "serving": self.serving,
        }


def differing(daemons: Sequence[DaemonSeen]) -> dict[str, tuple[str, ...]]:
    """The variables that daemons do not agree about, with each daemon's value in the order given."""
    names = sorted({name for each in daemons for name in each.settings})
    values = {name: tuple(each.settings.get(name, "not set") for each in daemons) for name in names}
    return {name: told for name, told in values.items() if len(set(told)) > 1}


class DaemonStore:
    """One tenant's record of its daemons. Raises the errors of `Database`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def tell(self, me: DaemonSelf, faces: Mapping[str, Sequence[str]]) -> None:
        """Write that `me` is there, and forget daemons that have long been silent."""
        async with self._database.transaction() as connection:
            await connection.execute(
                _TELL,
                me.id,
                redact_note(me.host)[:255],
                me.pid,
                me.version[:64],
                me.config_hash,
                json.dumps(redact_record(dict(me.settings))),
                json.dumps(redact_record({face: list(addresses) for face, addresses in faces.items()})),
            )
            await connection.execute(_PRUNE)

    async def leave(self, daemon: UUID) -> None:
        """Take the row of a daemon that stops away."""
        await self._database.execute("delete from cutover.daemon where id = $1", daemon, timeout=2.0)

    async def all(self) -> list[DaemonSeen]:
        """Everyone there is a row of, the one that has been there longest first."""
        return [
            DaemonSeen(**{**dict(row), "settings": json.loads(row["settings"]), "faces": json.loads(row["faces"])})
            for row in await self._database.fetch(_ALL)
        ]
