"""The control plane's record as operators read it: runbooks with their versions, and the chain of phase changes."""

import re
from typing import Any

from cutover.domain.audit import judge
from cutover.domain.errors import NotFound
from cutover.stores.audit import AuditStore
from cutover.stores.database import Database
from cutover.stores.history import HistoryStore
from cutover.stores.procedures import Procedures, ProcedureVersion, packaged

_NAME = re.compile(r"[a-z0-9-]{1,60}")
"""What a procedure can be called (migration 010): nothing else is asked of the database."""


class Record:
    """One tenant's. Answers are JSON-able; they hold no content and no secret."""

    def __init__(self, database: Database) -> None:
        self._procedures = Procedures(database)
        self._audit = AuditStore(database)
        self._history = HistoryStore(database)

    async def procedures(self) -> list[dict[str, Any]]:
        """Every runbook: the version in force, and whether this daemon's release comes with the same text."""
        versions = await self._procedures.versions()
        return [
            {
                **_told(each),
                "versions": sum(other.name == each.name for other in versions),
                "packaged": _packaged(each),
            }
            for each in versions
            if each.in_force
        ]

    async def procedure(self, name: str, number: int | None) -> dict[str, Any]:
        """One runbook's text, in force or as version `number`, with what there was. Raises `NotFound`."""
        versions = await self._procedures.versions(name) if _NAME.fullmatch(name) else []
        if not versions:
            raise NotFound("there is no such procedure", next_step="cutover procedure list")
        wanted = [each for each in versions if (each.in_force if number is None else each.number == number)]
        if not wanted:
            numbers = ", ".join(str(each.number) for each in reversed(versions))
            raise NotFound(f"there is no version {number} of {name}: there are {numbers}", next_step="leave it out")
        events = await self._procedures.events(name)
        return {
            **_told(wanted[0]),
            "packaged": _packaged(wanted[0]),
            "versions": [_told(each) for each in versions],
            "events": [
                {
                    "at": each.at.isoformat(),
                    "what": each.what,
                    "version": each.number,
                    "previous": each.previous,
                    "package": each.package,
                }
                for each in events
            ],
            "body": wanted[0].body,
        }

    async def audit(self, expected_head: str | None) -> dict[str, Any]:
        """Whether the record of phase changes is whole; else the first bad event and what is wrong with it."""
        kept = await self._audit.read()
        head = bytes.fromhex(expected_head) if expected_head is not None else None
        verdict = judge(kept.events, kept.row, head, warrants=kept.warrants, guards=kept.guards)
        row = kept.row
        return {
            "ok": verdict.what is None,
            "events": verdict.events,
            "phase": row.phase,
            "epoch": row.epoch,
            "head": verdict.head.hex(),
            "problem": verdict.what.value if verdict.what is not None else None,
            "event": verdict.seq,
            "why": verdict.why,
        }

    async def changes(self, limit: int) -> list[dict[str, Any]]:
        """The last changes of phase, newest first: who and why, and who had approved."""
        return [
            {
                "epoch": each.epoch,
                "from": each.before,
                "to": each.after,
                "at": each.at.isoformat(),
                "by": each.actor,
                "reason": each.reason,
                "override": each.override,
                "approvers": list(each.approvers),
                "certificate": each.certificate,
            }
            for each in await self._history.changes(limit)
        ]

    async def unexplained_since(self) -> str | None:
        """When the unexplained drift that count sweeps see was first seen (RFC 3339); None: there is none."""
        since = await self._history.unexplained_since()
        return since.isoformat() if since is not None else None


def _told(version: ProcedureVersion) -> dict[str, Any]:
    return {
        "name": version.name,
        "title": version.body.partition("\n")[0].removeprefix("# "),
        "version": version.number,
        "in_force": version.in_force,
        "hash": version.content_hash.hex(),
        "package": version.package,
        "at": version.at.isoformat(),
    }


def _packaged(version: ProcedureVersion) -> str:
    """`same`, `differs` or `missing`: the daemon's own text against a version's."""
    own = packaged().get(version.name)
    if own is None:
        return "missing"
    return "same" if own.content_hash == version.content_hash else "differs"
