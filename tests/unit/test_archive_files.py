"""Manifest and parts of an archive on disk: what is changed in any file is found and named."""

import hashlib
import random
import subprocess
from pathlib import Path
from uuid import UUID

import pytest

from cutover.domain.archive import (
    MANIFEST,
    PROGRESS,
    SUMS,
    SUPPLEMENT,
    ArchivedTable,
    Column,
    Damaged,
    Manifest,
    Part,
    Supplement,
)
from cutover.domain.errors import OperatorError
from cutover.stores import archive_files
from cutover.stores.archive_files import (
    PartWriter,
    add_progress,
    add_supplement,
    finish,
    progress,
    read_manifest,
    read_supplement,
    unpacked,
    verify,
)

TABLE = ArchivedTable(
    "memories", 'public."agent_memories"', "id", "uuid",
    (Column("id", "uuid", not_null=True), Column("tsv", "tsvector", not_null=False, default="x", generated=True)),
    (("pk", "PRIMARY KEY (id)"),), ("CREATE INDEX a ON public.agent_memories USING btree (id)",),
)  # fmt: skip
FILES = ("memories-00001.copy.zst", "memories-00002.copy.zst", MANIFEST, SUMS)


def part(directory: Path, number: int, rows: int) -> Part:
    name = f"memories-{number:05d}.copy.zst"
    data = b"".join(b"%d-%d\twords\n" % (number, row) for row in range(rows))
    with PartWriter(directory, name) as writer:
        writer.write(data[:10])
        writer.write(data[10:])
        sha256, size, raw = writer.done()
    assert b"".join(unpacked(directory / name)) == data
    return Part(name, "memories", rows, None, str(number), hashlib.sha256(data).hexdigest(), sha256, size, raw)


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    parts = (part(tmp_path, 1, 50), part(tmp_path, 2, 7))
    finish(tmp_path, Manifest("t", "d", "A3", 7, "2026-01-01T00:00:00Z", "16", "UTF8", "test", (TABLE,), parts))
    return tmp_path


def test_a_manifest_comes_back_as_it_was(archive: Path) -> None:
    manifest, problems = verify(archive)
    assert problems == []
    assert manifest is not None
    assert manifest.rows("memories") == 57
    assert manifest.table("memories").copied == ("id",)
    assert manifest.table("memories") == TABLE
    assert Manifest.from_bytes(manifest.to_bytes()) == manifest
    assert (
        subprocess.run(["sha256sum", "--check", "--strict", "--status", SUMS], cwd=archive, check=False).returncode == 0
    )


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("name", FILES)
def test_a_flipped_bit_is_found_and_its_file_named(archive: Path, name: str, seed: int) -> None:
    path = archive / name
    data = bytearray(path.read_bytes())
    at = random.Random(f"{name} {seed}").randrange(len(data) * 8)
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)
    assert [problem.file for problem in verify(archive)[1]] == [name]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(archive: Path, name: str) -> None:
    (archive / name).unlink()
    assert [str(problem) for problem in verify(archive)[1]] == [f"{name}: it is missing"]


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_named(archive: Path, name: str) -> None:
    path = archive / name
    path.write_bytes(path.read_bytes()[:-1])
    assert [problem.file for problem in verify(archive)[1]] == [name]


def test_a_file_too_many_is_named(archive: Path) -> None:
    (archive / "memories-00003.copy.zst").write_bytes(b"")
    assert [str(p) for p in verify(archive)[1]] == ["memories-00003.copy.zst: the manifest does not know it"]


def supplement(archive: Path) -> Supplement:
    one, two = str(UUID(int=1)), str(UUID(int=2))
    return Supplement(read_manifest(archive)[1], "2026-01-02T00:00:00Z", (one,), ((7, two),))


def test_what_was_deleted_since_is_written_beside_an_archive_which_stays_whole(archive: Path) -> None:
    sealed = read_manifest(archive)[1]
    assert read_supplement(archive, sealed) is None
    for _ in range(2):  # again, in place of the first
        add_supplement(archive, supplement(archive))
    assert read_supplement(archive, sealed) == supplement(archive)
    assert verify(archive)[1] == []
    with pytest.raises(OperatorError, match="another archive"):
        read_supplement(archive, "0" * 64)


@pytest.mark.parametrize("seed", range(20))
def test_a_flipped_bit_in_what_was_deleted_since_is_found(archive: Path, seed: int) -> None:
    add_supplement(archive, supplement(archive))
    path = archive / SUPPLEMENT
    data = bytearray(path.read_bytes())
    at = random.Random(seed).randrange((len(data) - 1) * 8)
    data[at // 8] ^= 1 << at % 8
    path.write_bytes(data)
    assert [problem.file for problem in verify(archive)[1]] == [SUPPLEMENT]


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b"\xff", b'{"format": 2}', b"[" * 100_000])
def test_what_is_no_manifest_is_damaged(data: bytes) -> None:
    with pytest.raises(Damaged):
        Manifest.from_bytes(data)


def test_a_writer_that_fails_leaves_no_part(tmp_path: Path) -> None:
    with PartWriter(tmp_path, "memories-00001.copy.zst") as writer:
        writer.write(b"x" * 1000)
        assert [path.name for path in tmp_path.iterdir()] == ["memories-00001.copy.zst.partial"]
    assert list(tmp_path.iterdir()) == []


def test_progress_counts_up_to_a_line_that_was_cut_off(tmp_path: Path) -> None:
    parts = [part(tmp_path, 1, 5), part(tmp_path, 2, 5)]
    for each in parts:
        add_progress(tmp_path, each)
    assert progress(tmp_path) == parts
    path = tmp_path / PROGRESS
    path.write_bytes(path.read_bytes()[:-3])
    assert progress(tmp_path) == parts[:1]
    archive_files.restart_progress(tmp_path, [])
    assert progress(tmp_path) == []
