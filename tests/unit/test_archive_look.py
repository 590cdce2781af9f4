"""Looks at an archive's files: an unreadable path or a mount that hangs is an answer, not an end of the daemon."""

import asyncio
import os
import threading
from pathlib import Path

import pytest

from cutover.domain.archive import MANIFEST, SUMS
from cutover.stores import archive_look
from cutover.stores.archive_files import Unreadable, read_manifest, verify
from cutover.stores.archive_look import ArchiveLooks
from tests.unit.test_archive_files import FILES, archive

__all__ = ["archive"]


def _sealed(path: Path) -> str:
    return read_manifest(path)[1]


@pytest.mark.parametrize("name", FILES)
async def test_a_quick_look_finds_what_is_gone_or_shorter(archive: Path, name: str) -> None:
    sealed, looks = _sealed(archive), ArchiveLooks(seconds=20)
    assert await looks.quick(archive, sealed) == ""
    assert await looks.whole(archive, sealed) == ""
    if name != SUMS:
        (archive / name).write_bytes((archive / name).read_bytes()[:-1])
        assert name in await looks.quick(archive, sealed)
    (archive / name).unlink()
    assert name in await looks.quick(archive, sealed)
    assert name in await looks.whole(archive, sealed)


async def test_only_a_whole_look_finds_a_changed_byte(archive: Path) -> None:
    sealed, looks = _sealed(archive), ArchiveLooks(seconds=20)
    data = bytearray((archive / FILES[0]).read_bytes())
    data[len(data) // 2] ^= 1
    (archive / FILES[0]).write_bytes(data)
    assert await looks.quick(archive, sealed) == ""
    assert "sha256" in await looks.whole(archive, sealed)


async def test_a_path_that_cannot_be_read_is_not_known_and_says_why(archive: Path) -> None:
    sealed, looks = _sealed(archive), ArchiveLooks(seconds=20)
    loop = archive / "loop"
    loop.symlink_to(loop)  # ELOOP
    for path in (archive / MANIFEST / "below", loop, archive / ("n" * 300)):  # ENOTDIR, ELOOP, ENAMETOOLONG
        with pytest.raises(Unreadable) as caught:
            await looks.quick(path, sealed)
        assert "cannot be read" in caught.value.message
        manifest, problems = verify(path)
        assert manifest is None
        assert "cannot be read" in str(problems[0])


async def test_a_part_that_cannot_be_looked_at_is_not_known(archive: Path) -> None:
    sealed = _sealed(archive)
    part = archive / FILES[0]
    part.unlink()
    part.symlink_to(part)
    with pytest.raises(Unreadable, match=FILES[0]):
        await ArchiveLooks(seconds=20).quick(archive, sealed)


async def test_a_mount_that_hangs_pins_one_thread_and_the_last_answer_stands_for_a_while(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sealed, looks = _sealed(archive), ArchiveLooks(seconds=0.05, kept=0.4)
    while True:
        try:
            assert await looks.quick(archive, sealed) == ""
            break
        except Unreadable:  # a loaded machine
            await asyncio.sleep(0.05)
    released, begun = threading.Event(), []
    whole = archive_look._quick

    def hanging(path: Path, seal: str) -> str:
        begun.append(1)
        released.wait(60)
        return whole(path, seal)

    monkeypatch.setattr(archive_look, "_quick", hanging)
    assert await looks.quick(archive, sealed) == ""  # the answer of a moment ago
    await asyncio.sleep(0.5)
    for _ in range(5):
        with pytest.raises(Unreadable, match="have not answered for"):
            await looks.quick(archive, sealed)
    assert len(begun) == 1
    os.remove(archive / SUMS)  # noqa: PTH107
    released.set()
    async with asyncio.timeout(20):
        while True:
            try:
                if SUMS in await looks.quick(archive, sealed):
                    break
            except Unreadable:
                pass
            await asyncio.sleep(0.02)
