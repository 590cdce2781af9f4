"""Bringing an archive back (architecture §7): load, compare with the manifest, and only then bring it in."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cutover.domain.archive import JOURNAL, MEMORIES, SUPPLEMENT, Damaged, Manifest
from cutover.domain.errors import OperatorError
from cutover.stores.archive_files import read_manifest, read_supplement, verify
from cutover.stores.archive_restore import Stage
from cutover.stores.database import Database

STAGE = "cutover_restore"
TEST = "cutover_restore_test"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Restored:
    """What a restore came to. `left_out`: rows that were deleted after, or before, the archive was made."""

    rows: int
    left_out: int
    digests_equal: bool
    made_table: bool
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """For the CLI."""
        return {
            "rows": self.rows,
            "left_out": self.left_out,
            "digests_equal": self.digests_equal,
            "made_table": self.made_table,
            "notes": list(self.notes),
        }


class Differs(OperatorError):
    """A restore test came to other rows. `parts`: where, by file or table."""

    parts: tuple[str, ...] = ()


async def restore_test(database: Database, directory: Path, manifest: Manifest, sealed: str) -> None:
    """Load everything into a scratch schema of `database`, compare, and clear it away. Raises `Differs`, and
    `OperatorError` where a part cannot be loaded."""
    stage = Stage(database, manifest, sealed, directory, TEST)
    await stage.drop()
    try:
        await stage.prepare()
        await _load(stage, manifest, lambda _: None)
        if wrong := await stage.differing():
            differs = Differs(
                f"the restore test failed: {', '.join(wrong)} came back with other rows",
                next_step="cutover archive create",
            )
            differs.parts = tuple(wrong)
            raise differs
    finally:
        await stage.drop()


async def restore(
    database: Database,
    directory: Path,
    schema: str,
    *,
    without: frozenset[str] = frozenset(),
    say: Say = lambda _: None,
) -> Restored:
    """Bring legacy back as `schema`.agent_memories. Goes on where an earlier one was killed. Raises `OperatorError`."""
    manifest, sealed = read_manifest(directory)
    _, problems = verify(directory)
    if problems:
        raise OperatorError(
            f"the archive is damaged: {'; '.join(map(str, problems))}", next_step="restore from another copy of it"
        )
    if all(table.name != MEMORIES for table in manifest.tables):
        raise OperatorError(
            "the archive holds no agent_memories: it was made after the drop", next_step="use an older one"
        )
    stage = Stage(database, manifest, sealed, directory, STAGE)
    if loaded := await stage.prepare():
        say(f"going on with the restore that was begun: {loaded} of {len(manifest.parts)} parts are loaded")
    await _load(stage, manifest, say)
    if wrong := await stage.differing():
        raise OperatorError(
            f"what was loaded is not what was archived: {', '.join(wrong)}",
            next_step=f"drop schema {STAGE} cascade, then try again",
        )
    known = await stage.tell(read_supplement(directory, sealed))
    made, notes = await stage.make_target(schema)
    lacking = await stage.lacking(schema)
    needed = [f"{name} ({rows} rows have one)" for name, rows in lacking if rows and name not in without]
    if needed:
        raise OperatorError(
            f"{schema}.agent_memories has no column {', '.join(needed)}",
            next_step="add the column, or say --leave-out " + lacking[0][0],
        )
    rows = left_out = 0
    for part in manifest.of(MEMORIES):
        brought_in, kept_out = await stage.bring_in(part, schema, frozenset(name for name, _ in lacking))
        rows, left_out = rows + brought_in, left_out + kept_out
        say(f"{rows} rows brought in")
    edited, new = await stage.said_later()
    await stage.drop()
    if edited or new:
        notes.append(
            f"this is agent_memories as it was frozen: what was written after the freeze is in the archive's table"
            f" {JOURNAL} and was not brought in ({edited} memories with other words, {new} new ones)"
        )
    if not known:
        notes.append(
            f"nothing here says what was deleted after {manifest.snapshot_at}: the archive has no {SUPPLEMENT}, and"
            " this database no schema cutover; such memories are back"
        )
    notes += [f"column {name} was left out, {count} rows had one" for name, count in lacking]
    return Restored(rows, left_out, True, made, tuple(notes))


async def _load(stage: Stage, manifest: Manifest, say: Say) -> None:
    for number, part in enumerate(manifest.parts, 1):
        try:
            await stage.load(part)
        except Damaged as damaged:
            raise OperatorError(f"{part.file}: {damaged}", next_step="cutover archive verify") from damaged
        say(f"loaded {part.file} ({number} of {len(manifest.parts)})")
