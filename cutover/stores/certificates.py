"""`cutover.certificate` and `cutover.approval`: what promotions consume, and who stands for it (migration 011)."""

import json
from dataclasses import dataclass
from datetime import datetime

import asyncpg

from cutover.domain.certificate import Certificate, SweepResult, parse
from cutover.stores.database import Database
from cutover.stores.sql import query


@dataclass(frozen=True, slots=True)
class Approval:
    """One person's yes. `at`: database time."""

    approver: str
    at: datetime


@dataclass(frozen=True, slots=True)
class KeptCertificate:
    """A certificate on record. `used_in`: the epoch that a step with it began, None while it was not used."""

    certificate: Certificate
    approvals: tuple[Approval, ...]
    used_in: int | None

    @property
    def approvers(self) -> tuple[str, ...]:
        """Who has approved."""
        return tuple(each.approver for each in self.approvals)


@dataclass(frozen=True, slots=True)
class Entered:
    """How the current phase was entered. `certificate` in hex; None for a way back."""

    epoch: int
    actor: str
    reason: str
    at: datetime
    certificate: str | None
    override: str | None
    loosened: tuple[str, ...]


class CertificateStore:
    """One tenant's certificates."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def now(self) -> datetime:
        """The database's clock."""
        value: datetime = await self._database.fetchval("select clock_timestamp()")
        return value

    async def sweeps(self) -> tuple[SweepResult, ...]:
        """What the last sweep of each kind came to."""
        rows = await self._database.fetch("select kind, id, found from cutover.newest_sweeps()")
        return tuple(SweepResult(row["kind"], str(row["id"]), json.loads(row["found"])) for row in rows)

    async def issue(self, certificate: Certificate) -> None:
        """Put a new one down."""
        await self._database.execute(
            "insert into cutover.certificate (hash, target, from_phase, epoch, override, loosened, requested_by,"
            " issued_at, expires_at, body) values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
            bytes.fromhex(certificate.hash),
            certificate.target.value,
            certificate.phase.value,
            certificate.epoch,
            certificate.override,
            list(certificate.loosened),
            certificate.requested_by,
            certificate.issued_at,
            certificate.expires_at,
            certificate.text(),
        )

    async def find(self, beginning: str) -> list[KeptCertificate]:
        """Those whose hash in hex begins so; two at most, which is one too many."""
        return [_kept(row) for row in await self._database.fetch(query("certificates_kept"), beginning.lower(), 2)]

    async def recent(self, limit: int) -> list[KeptCertificate]:
        """The newest, newest first."""
        return [_kept(row) for row in await self._database.fetch(query("certificates_kept"), "", limit)]

    async def approve(self, certificate: str, approver: str) -> bool:
        """Put an approval down; False when that person had approved. Raises `CertificateVoid` where the database
        does not take it."""
        value = await self._database.fetchval(
            "insert into cutover.approval (certificate, approver) values ($1, $2) on conflict do nothing returning seq",
            bytes.fromhex(certificate),
            approver,
        )
        return value is not None

    async def entered(self) -> Entered | None:
        """The newest phase event; None before the first step."""
        row = await self._database.fetchrow("select * from cutover.phase_event order by seq desc limit 1")
        if row is None:
            return None
        used = row["certificate"]
        return Entered(
            row["epoch"],
            row["actor"],
            row["reason"],
            row["at"],
            used.hex() if used is not None else None,
            row["override"],
            tuple(row["loosened"]),
        )


def _kept(row: asyncpg.Record) -> KeptCertificate:
    approvals = tuple(
        Approval(each["approver"], datetime.fromisoformat(each["at"])) for each in json.loads(row["approvals"])
    )
    return KeptCertificate(parse(row["body"]), approvals, row["used_in"])
