"""Manifest and parts of an archive on disk: what is changed in any file is found and named."""

import hashlib
import json
import random
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
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
    _canonical,
    _seal,
    unusual,
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
    seal,
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
    assert verify(tmp_path)[0] is None  # nobody has restored it yet
    seal(tmp_path)
    return tmp_path


def made_up(archive: Path, change: Callable[[dict[str, Any]], object]) -> bytes:
    """The manifest as somebody wrote it who can seal as well as we do: the seal has no key."""
    said = json.loads((archive / MANIFEST).read_bytes())
    del said["seal"]
    change(said)
    return _canonical({**said, "seal": _seal(said)})


HOSTILE: dict[str, Callable[[dict[str, Any]], object]] = {
    "path": lambda said: said["parts"][0].update(file="../../etc/passwd"),
    "absolute": lambda said: said["parts"][0].update(file="/etc/passwd"),
    "other-file": lambda said: said["parts"][0].update(file="manifest.json"),
    "other-table": lambda said: said["parts"][0].update(file="journal-00001.copy.zst"),
    "twice": lambda said: said["parts"].append(said["parts"][0]),
    "range": lambda said: said["parts"][0].update(last="1'::text) or true --"),
    "table": lambda said: said["tables"][0].update(name='x" (a int); drop table workspaces; --'),
    "key": lambda said: said["tables"][0].update(key="id) ; drop table workspaces; --"),
    "key-type": lambda said: said["tables"][0].update(key_type="uuid; drop table workspaces"),
    "type": lambda said: said["tables"][0]["columns"][0].update(type="uuid); drop table workspaces; --"),
    "column": lambda said: said["tables"][0]["columns"][1].update(name='a" int); drop table workspaces; --'),
    "constraint": lambda said: said["tables"][0].update(constraints=[['a" check (true); drop table x; --', "UNIQUE"]]),
}


@pytest.mark.parametrize("which", HOSTILE)
def test_a_manifest_that_is_sealed_and_hostile_is_damaged(archive: Path, which: str) -> None:
    Manifest.from_bytes(made_up(archive, lambda _: None))
    with pytest.raises(Damaged):
        Manifest.from_bytes(made_up(archive, HOSTILE[which]))


@pytest.mark.parametrize(
    "name", ["../memories-00001.copy.zst", "/etc/passwd", "memories-1.copy.zst", "kv-00001.copy.zst"]
)
def test_a_progress_file_that_names_other_files_is_refused(archive: Path, name: str) -> None:
    done = read_manifest(archive)[0].parts[0]
    add_progress(archive, replace(done, file=name))
    with pytest.raises(OperatorError, match="not what was written"):
        progress(archive)


@pytest.mark.parametrize(
    ("expression", "odd"),
    [
        ("gen_random_uuid()", ""),
        ("'LOCAL'::public.memory_scope", ""),
        ("to_tsvector('english'::regconfig, COALESCE(content, ''::text))", ""),
        ("CHECK (((scope)::text = ANY ((ARRAY['LOCAL'::character varying, 'TEAM'])::text[])))", ""),
        ("FOREIGN KEY (workspace_id) REFERENCES public.workspaces(id) ON DELETE CASCADE", ""),
        ("CHECK ((char_length(content) > 0) AND (a <> (b * (2))))", ""),
        ("hnsw (embedding public.vector_cosine_ops) WITH (m='16')", ""),
        ("CHECK (lo_export(1, 'x') > 0)", "lo_export()"),
        ("CHECK (pg_catalog.pg_read_file ('x') <> '')", "pg_read_file()"),
        ("CHECK ( \"pg_read_file\"('x') <> '')", "pg_read_file()"),
        ("CHECK (pg_read_file/**/('x') <> '')", "a comment or an escape"),
        ("CHECK (U&\"\\0070g_read_file\"('x') <> '')", "a comment or an escape"),
        ("-pg_sleep(9)", "pg_sleep()"),
    ],
)
def test_expressions_call_only_what_v1_calls(expression: str, odd: str) -> None:
    assert unusual(expression) == odd


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
