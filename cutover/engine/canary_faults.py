"""Faults planted on purpose, so that a sweep proves it would have seen a real one (architecture §4).

Before each sweep a few memories are planted in a reserved namespace of the plugin, and what legacy would hold of them
in `cutover.canary`: one side missing, changed, extra, resurrected, and intact ones in between. Their ids are fresh and
random, so they lie in other buckets every time, and they pass through the very statements that real rows pass through.
A sweep is trusted only if it reported exactly these: a missed fault means it is blind, a reported intact one that it
sees ghosts.
"""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from cutover.domain.divergence import DivergenceClass
from cutover.domain.errors import PluginRejected
from cutover.domain.memory import Kind, PluginCommit, Source
from cutover.domain.requests import PutNamespace
from cutover.stores.database import Database
from cutover.stores.plugin import PluginClient

FAULTS_NAMESPACE = "custom:cutover-canary-faults"
_EACH = 2
_REPORTED_AS: Mapping[str, frozenset[DivergenceClass]] = {
    "missing": frozenset({DivergenceClass.MISSING_IN_PLUGIN}),
    "changed": frozenset({DivergenceClass.CONTENT}),
    "extra": frozenset({DivergenceClass.MISSING_IN_LEGACY}),
    "resurrected": frozenset({DivergenceClass.RESURRECTED}),
    "intact": frozenset(),
}
EXPECTED_FAULTS = frozenset({"missing", "changed", "intact"})
"""What legacy would hold, were it a memory."""
HELD_FAULTS = frozenset(_REPORTED_AS) - {"missing"}
"""What the plugin holds."""
FAULTS = tuple(fault for fault in _REPORTED_AS if fault != "intact")


@dataclass(frozen=True, slots=True)
class CanaryVerdict:
    """How a sweep did: faults planted and caught per kind, and intact ones it reported."""

    planted: Mapping[str, int]
    caught: Mapping[str, int]
    false_alarms: int

    @property
    def trusted(self) -> bool:
        """Every fault of every kind was reported as what it is, and nothing else was."""
        return self.false_alarms == 0 and all(
            self.planted.get(fault, 0) > 0 and self.caught.get(fault, 0) == self.planted[fault] for fault in FAULTS
        )

    def as_json(self) -> dict[str, Any]:
        """For `task_run.outcome`."""
        return {"planted": dict(self.planted), "caught": dict(self.caught), "false_alarms": self.false_alarms}


def judge(planted: Mapping[UUID, str], reported: Mapping[UUID, frozenset[DivergenceClass]]) -> CanaryVerdict:
    """Compare what was planted (fault by id) with what was reported (classes by id)."""
    kinds = dict.fromkeys(FAULTS, 0)
    caught = dict.fromkeys(FAULTS, 0)
    alarms = 0
    for memory_id, fault in planted.items():
        right = reported.get(memory_id, frozenset()) == _REPORTED_AS[fault]
        if fault == "intact":
            alarms += not right
        else:
            kinds[fault] += 1
            caught[fault] += right
    return CanaryVerdict(kinds, caught, alarms)


class CanaryFaults:
    """Plants and removes one tenant's faults. Raises the errors of `Database` and `PluginClient`."""

    def __init__(self, database: Database, client: PluginClient, *, timeout: float) -> None:
        self._database = database
        self._client = client
        self._timeout = timeout

    async def planted_by(self, run: UUID) -> dict[UUID, str]:
        """The faults that belong to a run, by id."""
        rows = await self._database.fetch("select memory_id, fault from cutover.canary where planted_by = $1", run)
        return {row["memory_id"]: row["fault"] for row in rows}

    async def plant(self, run: UUID) -> dict[UUID, str]:
        """Replace the faults of earlier sweeps by fresh ones. Each is recorded before the plugin gets it, so that what
        a crash leaves behind is found and removed the next time."""
        await self._remove()
        planted = {uuid4(): fault for fault in _REPORTED_AS for _ in range(_EACH)}
        for memory_id, fault in planted.items():
            content = f"planted {fault} \u00e9\u4e16\U0001f9e0 {secrets.token_hex(8)}"
            async with self._database.transaction() as connection:
                await connection.execute(
                    "insert into cutover.canary (memory_id, fault, namespace, content, planted_by)"
                    " values ($1, $2, $3, $4, $5)",
                    memory_id, fault, FAULTS_NAMESPACE, content, run,
                )  # fmt: skip
                if fault == "resurrected":
                    await connection.execute(
                        "insert into cutover.tombstone (memory_id, rev, held_in)"
                        " values ($1, nextval('cutover.rev_seq'), array[$2])",
                        memory_id,
                        FAULTS_NAMESPACE,
                    )
            if fault != "missing":
                await self._commit(memory_id, content + (" (changed)" if fault == "changed" else ""))
        return planted

    async def _commit(self, memory_id: UUID, content: str) -> None:
        commit = PluginCommit(
            memory_id, FAULTS_NAMESPACE, content, Kind.FACT, Source.RUNTIME, None, {}, False, None
        )  # fmt: skip

        async def definition() -> PutNamespace:
            return PutNamespace(FAULTS_NAMESPACE, "custom", None, {"purpose": "planted faults of cutover's sweeps"})

        await self._client.commit_ensuring_namespace(commit, definition, timeout=self._timeout)

    async def _remove(self) -> None:
        for row in await self._database.fetch("select memory_id, fault from cutover.canary"):
            if row["fault"] != "missing":
                try:
                    await self._client.forget(row["memory_id"], FAULTS_NAMESPACE, timeout=self._timeout)
                except PluginRejected as error:
                    if error.http_status != 404:
                        raise
            async with self._database.transaction() as connection:
                await connection.execute("delete from cutover.tombstone where memory_id = $1", row["memory_id"])
                await connection.execute("delete from cutover.canary where memory_id = $1", row["memory_id"])
