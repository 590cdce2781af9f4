"""Archives (architecture §7): everything that is needed to have v1 back, in one directory that anybody can check.

One archive is one snapshot, also when it took several tries: what an earlier try finished is kept only where the file
is whole and the database still gives the same digest for the same range. So it does not matter whether the table is
frozen, or what was deleted meanwhile. It ends with a restore into a scratch schema: an archive that was never restored
is a hope.
"""

import asyncio
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from cutover import __version__
from cutover.domain.archive import MANIFEST, MEMORIES, PROGRESS, UNTESTED, ArchivedTable, Manifest, Part
from cutover.domain.errors import CutoverError, OperatorError
from cutover.domain.events import Observer, TaskFailed
from cutover.domain.evidence import ArchiveEvidence
from cutover.stores import archive_files
from cutover.stores.archive import ArchiveStore, Snapshot
from cutover.stores.archive_files import PartWriter, Unreadable, hash_of
from cutover.stores.archive_look import ArchiveLooks
from cutover.stores.database import Database
from cutover.stores.restore import Differs, restore_test
from cutover.stores.runs import CheckpointKind, Runs
from cutover.stores.task_lock import ARCHIVE, task_lock

KIND = "archive"
ROWS = 20_000
"""Rows of one part: what a kill costs, and what a digest holds 32 bytes each for."""


class Archivist:
    """Archives one tenant, one run at a time, in a task of its own. `directory`: where archives go if nobody says."""

    def __init__(
        self,
        tenant: str,
        database: Database,
        runs: Runs,
        observer: Observer,
        directory: Path | None,
        *,
        rows: int = ROWS,
    ) -> None:
        self._tenant = tenant
        self._database = database
        self._store = ArchiveStore(database)
        self._runs = runs
        self._observer = observer
        self._directory = directory
        self._rows = rows
        self._looks = ArchiveLooks()
        self._asked: asyncio.Queue[tuple[UUID, Path]] = asyncio.Queue(maxsize=1)
        self._busy = False
        self.ended = asyncio.Event()
        """Set at the end of every run, for whoever waits for an archive; who waited clears it."""
        self._ready = asyncio.Event()
        """What a kill left open has been closed: a run that is begun now is not taken for one of those."""
        self._progress: dict[str, Any] | None = None

    async def request(self, *, to: str | None, requested_by: str) -> dict[str, Any]:
        """Have an archive made; gives its run and where it goes. An unfinished one is gone on with. Raises
        `OperatorError`."""
        if self._busy:
            raise OperatorError("an archive is being made already", next_step="cutover archive list")
        self._busy = True
        try:
            path = self._place(to)
            try:
                complete = (path / MANIFEST).exists()
            except (OSError, ValueError) as error:
                raise OperatorError(
                    f"{path} cannot be looked at: {error}", next_step="give another directory with --to"
                ) from error
            if complete:
                raise OperatorError(f"{path} holds a complete archive", next_step="give another directory with --to")
            await self._ready.wait()
            run = await self._runs.begin(KIND, requested_by, {"path": str(path)})
            self._asked.put_nowait((run, path))
        except BaseException:
            self._busy = False
            raise
        return {"run": str(run), "path": str(path)}

    async def status(self, run: UUID) -> dict[str, Any] | None:
        """How a run goes, or what it came to; None for a run that is not one of these."""
        record = await self._runs.get(run)
        if record is None or record.kind != KIND:
            return None
        told = {"run": str(run), "state": record.state, **record.parameters, **(record.outcome or {})}
        return told if record.state != "running" else {**told, "progress": self._progress}

    async def recent(self, limit: int = 50) -> list[dict[str, Any]]:
        """The last runs, newest first."""
        return [
            {
                "run": str(run.id),
                "state": run.state,
                "at": run.started_at.isoformat(),
                **run.parameters,
                **(run.outcome or {}),
            }
            for run in await self._runs.recent(KIND, limit=limit)
        ]

    async def evidence(self) -> ArchiveEvidence | None:
        """The newest archive that came to an end, against what legacy is now. Of its files, names and sizes
        are looked at. Raises `Unreadable` where they cannot be."""
        run = await self._runs.last(KIND, finished=True)
        if run is None or run.outcome is None or run.finished_at is None:
            return None
        told, path = run.outcome, Path(str(run.outcome["path"]))
        why = await self._not_covering(told, path)
        age = await self._database.fetchval(
            "select extract(epoch from clock_timestamp() - $1)::float8", run.finished_at, timeout=2.0
        )
        return ArchiveEvidence(str(path), float(age), bool(told.get("restore_tested")), why == "", why)

    async def _not_covering(self, told: dict[str, Any], path: Path) -> str:
        if wrong := await self._looks.quick(path, str(told.get("sealed"))):
            return wrong
        state = await self._database.fetchrow(
            "select phase, epoch, legacy_changes from cutover.phase_state", timeout=2.0
        )
        assert state is not None  # noqa: S101 - the one row
        # While the table is frozen, in A3 and A4, its rows can only become fewer. A4 has the epoch after that of A3.
        frozen = {"A3": (0,), "A4": (0, 1)}.get(state["phase"], ())
        if state["epoch"] - told["epoch"] not in frozen:
            return f"it was made in {told['phase']} (epoch {told['epoch']}), since when agent_memories may have changed"
        if MEMORIES not in told["tables"]:
            return "it was made when there was no agent_memories any more"
        if told.get("legacy_changes") != state["legacy_changes"]:
            return "a way back that was given up has written into agent_memories since it was made"
        return ""

    async def verified(self) -> str:
        """Why the newest archive does not stand for agent_memories; empty when it does. Every byte is read: it is
        asked before the drop, and may take minutes. Never raises for what files are like."""
        try:
            seen = await self.evidence()
            if seen is None:
                return "no archive has been written"
            if seen.lacks:
                return seen.lacks
            run = await self._runs.last(KIND, finished=True)
            assert run is not None  # noqa: S101 - there was one just now
            assert run.outcome is not None  # noqa: S101
            if wrong := await self._looks.whole(Path(run.outcome["path"]), str(run.outcome.get("sealed"))):
                return f"the archive {run.outcome['path']} is damaged: {wrong}"
        except Unreadable as error:
            return error.message
        return ""

    async def run(self) -> None:
        """Archive when asked, for ever. A run that a kill left open is closed: its parts are found when asked again."""
        await self._close_old()
        self._ready.set()
        while True:
            run, path = await self._asked.get()
            try:
                outcome = await self._alone(run, path)
                await self._runs.finish(run, "finished", outcome)
            except (CutoverError, OSError) as error:
                why = error.message if isinstance(error, CutoverError) else f"{path}: {error.strerror}"
                self._observer(TaskFailed(self._tenant, KIND, type(error).__name__, why))
                await self._ended(run, {"path": str(path), "why": why})
            finally:
                self._busy, self._progress = False, None
                self.ended.set()

    async def _alone(self, run: UUID, path: Path) -> dict[str, Any]:
        async with task_lock(self._database, ARCHIVE) as lock:
            if not lock.ours:
                raise OperatorError("another daemon of this tenant makes an archive", next_step="cutover archive list")
            return await self._make(run, path)

    async def _make(self, run: UUID, path: Path) -> dict[str, Any]:
        await asyncio.to_thread(_prepare, path)
        self._progress = {"path": str(path), "rows": 0, "parts": 0, "kept": 0, "step": "copying"}
        manifest, sealed = await self._untested(path) or await self._copied(run, path)
        self._progress["step"] = "restoring into a scratch schema"
        try:
            await restore_test(self._database, path, manifest, sealed)
        except Differs as error:
            await asyncio.to_thread(archive_files.unseal, path, list(error.parts))
            raise
        await asyncio.to_thread(archive_files.seal, path)
        return {
            "path": str(path),
            "sealed": sealed,
            "phase": manifest.phase,
            "epoch": manifest.epoch,
            "legacy_changes": manifest.legacy_changes,
            "snapshot_at": manifest.snapshot_at,
            "restore_tested": True,
            "bytes": sum(part.size for part in manifest.parts),
            "parts": len(manifest.parts),
            "kept": self._progress["kept"],
            "tables": {
                t.name: {"rows": manifest.rows(t.name), "digest": manifest.digest(t.name)} for t in manifest.tables
            },
        }

    async def _untested(self, path: Path) -> tuple[Manifest, str] | None:
        """What an earlier try wrote wholly and did not restore; None where the phase has changed since, or a file."""
        found = await asyncio.to_thread(archive_files.untested, path)
        if found is None:
            return None
        epoch = await self._database.fetchval("select epoch from cutover.phase_state")
        whole = all([await _whole(path, part) for part in found[0].parts])
        if found[0].epoch != epoch or found[0].tenant != self._tenant or not whole:
            await asyncio.to_thread(archive_files.unseal, path, [])
            return None
        assert self._progress is not None  # noqa: S101 - set by `_make`
        self._progress |= {
            "rows": sum(part.rows for part in found[0].parts),
            "parts": len(found[0].parts),
            "kept": len(found[0].parts),
        }
        return found

    async def _copied(self, run: UUID, path: Path) -> tuple[Manifest, str]:
        """Every table, in one snapshot."""
        async with self._store.snapshot() as snapshot:
            earlier = await asyncio.to_thread(archive_files.progress, path)
            await asyncio.to_thread(archive_files.restart_progress, path, [])
            parts: list[Part] = []
            for table in snapshot.tables:
                parts += await self._table(run, path, snapshot, table, [p for p in earlier if p.table == table.name])
            now = snapshot.situation
            manifest = Manifest(
                self._tenant, now.database, now.phase, now.epoch, now.snapshot_at, now.server, now.encoding,
                f"cutover {__version__}", snapshot.tables, tuple(parts),
                now.legacy_changes,
            )  # fmt: skip
        return manifest, await asyncio.to_thread(archive_files.finish, path, manifest)

    async def _table(
        self, run: UUID, path: Path, snapshot: Snapshot, table: ArchivedTable, earlier: list[Part]
    ) -> list[Part]:
        """All parts of one table: those that an earlier try finished, as far as they still hold, and new ones."""
        assert self._progress is not None  # noqa: S101 - set by `_make`
        found: list[Part] = []
        after: str | None = None
        ranges = {part.after: part for part in earlier}
        while True:
            old = ranges.get(after)
            last = old.last if old is not None else await snapshot.edge(table, after, self._rows)
            if last is None:
                return found
            rows, digest = await snapshot.digest(table, after, last)
            kept = old is not None and (rows, digest) == (old.rows, old.digest) and await _whole(path, old)
            if old is not None and kept:
                part = old
                self._progress["kept"] += 1
            elif rows:
                name = old.file if old is not None else _next_name(table.name, earlier + found)
                part = await self._part(path, snapshot, table, name, after, last, rows, digest)
            else:  # all its rows are gone since
                after = last
                continue
            await asyncio.to_thread(archive_files.add_progress, path, part)
            if not kept:
                said = {"file": part.file, "rows": part.rows, "last": part.last}
                await self._runs.checkpoint(run, said, CheckpointKind.PROGRESS)
            self._progress["rows"] += rows
            self._progress["parts"] += 1
            found.append(part)
            after = last

    async def _part(
        self,
        path: Path,
        snapshot: Snapshot,
        table: ArchivedTable,
        name: str,
        after: str | None,
        last: str,
        rows: int,
        digest: str,
    ) -> Part:
        with PartWriter(path, name) as writer:

            async def take(data: bytes) -> None:
                writer.write(data)

            await snapshot.copy(table, after, last, take)
            sha256, size, raw = await asyncio.to_thread(writer.done)
        return Part(name, table.name, rows, after, last, digest, sha256, size, raw)

    def _place(self, to: str | None) -> Path:
        if to is not None:
            path = Path(to)
            if not path.is_absolute():
                raise OperatorError(
                    f"{to} is not an absolute path", next_step="give one: the daemon has a directory of its own"
                )
            return path
        if self._directory is None:
            raise OperatorError(
                "nobody has said where archives go", next_step="set CUTOVER_ARCHIVE_DIRECTORY, or give --to DIRECTORY"
            )
        prefix = re.sub(r"[^A-Za-z0-9_.-]", "_", self._tenant)
        unfinished = sorted(each.parent for each in self._directory.glob(f"{prefix}-*/{PROGRESS}"))
        return unfinished[-1] if unfinished else self._directory / f"{prefix}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"

    async def _close_old(self) -> None:
        try:
            async with task_lock(self._database, ARCHIVE) as lock:
                for left in await self._runs.running(KIND) if lock.ours else ():
                    why = "the daemon was restarted; `cutover archive create` goes on with its parts"
                    await self._runs.finish(left.id, "interrupted", {**left.parameters, "why": why})
        except CutoverError as error:
            self._observer(TaskFailed(self._tenant, KIND, type(error).__name__, error.message))

    async def _ended(self, run: UUID, outcome: dict[str, Any]) -> None:
        try:
            await self._runs.finish(run, "failed", outcome)
        except CutoverError as error:
            self._observer(TaskFailed(self._tenant, KIND, type(error).__name__, error.message))


def _prepare(path: Path) -> None:
    path.mkdir(parents=True, exist_ok=True, mode=0o700)
    strangers = [
        each.name
        for each in path.iterdir()
        if each.name != PROGRESS and not each.name.endswith((".copy.zst", ".partial", ".new", "SHA256SUMS", UNTESTED))
    ]
    if strangers:
        raise OperatorError(f"{path} holds other files: {strangers[0]}", next_step="give an empty directory")


async def _whole(path: Path, part: Part) -> bool:
    try:
        return await asyncio.to_thread(hash_of, path / part.file) == (part.sha256, part.size)
    except FileNotFoundError:
        return False


def _next_name(table: str, taken: list[Part]) -> str:
    """Beyond every name in use: a part that was taken over keeps its own."""
    numbers = [int(part.file.removeprefix(f"{table}-").split(".")[0]) for part in taken]
    return f"{table}-{max(numbers, default=0) + 1:05d}.copy.zst"
