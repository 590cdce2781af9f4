"""The writers of `workspace_memory`, who never heard of the daemon: they go on in every phase (decision 0014)."""

import json
import random
from collections import Counter
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import asyncpg

from cutover.embedded.callers import Seat

_PUT = """
INSERT INTO public.workspace_memory AS v (workspace_id, key, value, expires_at)
VALUES ($1, $2, $3::jsonb, now() + $4 * interval '1 second')
ON CONFLICT (workspace_id, key) DO UPDATE
SET value = excluded.value, expires_at = excluded.expires_at, version = v.version + 1, updated_at = now()
"""
_DROP = "DELETE FROM public.workspace_memory WHERE workspace_id = $1 AND key = $2"
# Written anew here: what the plugin holds of each row that has not expired, and whatever else it calls K/V.
_DIFFERENT = """
WITH held AS (
    SELECT r.namespace, r.content, r.expires_at, r.propagation #> '{cutover,kv}' AS kv
    FROM memory_plugin.memory_records r
    WHERE r.propagation #> '{cutover,kv}' IS NOT NULL AND (r.expires_at IS NULL OR r.expires_at > now())
), wanted AS (
    SELECT 'workspace:' || v.workspace_id AS namespace, v.key, v.value, v.version, v.expires_at
    FROM public.workspace_memory v WHERE v.expires_at IS NULL OR v.expires_at > now() + interval '1 second'
)
SELECT coalesce(w.namespace, h.namespace) AS namespace, coalesce(w.key, h.kv ->> 'key') AS key,
       CASE WHEN h.content IS NULL THEN 'missing' WHEN w.key IS NULL THEN 'extra' ELSE 'different' END AS what
FROM wanted w FULL JOIN held h ON h.namespace = w.namespace AND h.kv ->> 'key' = w.key
WHERE h.content IS NULL OR (w.key IS NULL AND (h.expires_at IS NULL OR h.expires_at > now() + interval '1 second'))
   OR (h.content::jsonb, (h.kv ->> 'version')::bigint, h.expires_at) IS DISTINCT FROM (w.value, w.version, w.expires_at)
      AND w.key IS NOT NULL
"""


class KeyValueWriter:
    """A connection as workspace-server has it. An async context manager; `step()` makes one change."""

    def __init__(self, database_url: str, seats: Sequence[Seat], seed: int) -> None:
        self._url = database_url
        self._seats = list(seats)
        self._random = random.Random(seed + 77)
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self.tally: Counter[str] = Counter()

    async def __aenter__(self) -> Self:
        self._connection = await asyncpg.connect(self._url, server_settings={"application_name": "workspace-server"})
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._connection is not None:
            await self._connection.close()

    async def step(self) -> None:
        """Put a key, mostly one that is there; drop one; or put one that expires within seconds."""
        seat, key = self._random.choice(self._seats), f"soak {self._random.randrange(20)}"
        what = self._random.choices(("put", "put briefly", "drop"), (7, 1, 2))[0]
        if what == "drop":
            await self._open().execute(_DROP, seat.workspace_id, key)
        else:
            seconds = None if what == "put" else self._random.uniform(1, 30)
            await self._open().execute(_PUT, seat.workspace_id, key, json.dumps(self._value()), seconds)
        self.tally[what] += 1

    async def differences(self) -> list[str]:
        """How the plugin differs from the table; only meaningful when nothing is marked."""
        rows = await self._open().fetch(_DIFFERENT)
        return [f"{row['what']}: {row['key']} of {row['namespace']}" for row in rows]

    def _value(self) -> Any:
        number = self._random.randrange(10**6)
        return self._random.choice(
            (number, f"naïve 東京 {number}", None, {"n": number, "list": [number, 0.5, True, None]}, [], "x" * 2000)
        )

    def _open(self) -> "asyncpg.Connection[asyncpg.Record]":
        if self._connection is None:
            raise LookupError("the writer is not at work")
        return self._connection
