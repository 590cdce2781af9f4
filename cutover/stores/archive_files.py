"""An archive on disk: parts are written beside their names and renamed when they are whole; the manifest comes last.

What is there under its own name is complete: every file is synced before it is renamed, and the directory after it. A
directory without a manifest is an archive in the making, and its progress file says which parts are done.
"""

import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import zstandard

from cutover.domain.archive import (
    MANIFEST,
    PROGRESS,
    SUMS,
    SUPPLEMENT,
    UNTESTED,
    Damaged,
    Manifest,
    Part,
    Supplement,
    is_part_name,
    sums,
)
from cutover.domain.errors import OperatorError

_BLOCK = 1 << 18
_LEVEL = 3


class Unreadable(OperatorError):
    """Whether an archive is whole cannot be known now: its files cannot be read."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a file of an archive."""

    file: str
    what: str

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


class PartWriter:
    """Writes one part. `done` gives (sha256, size, raw size); a writer that is left without it leaves no part."""

    def __init__(self, directory: Path, name: str) -> None:
        self._final = directory / name
        self._path = directory / f"{name}.partial"
        self._file = self._path.open("wb")
        self._packer = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        self._hash = hashlib.sha256()
        self._size = 0
        self._raw = 0

    def write(self, data: bytes) -> None:
        """More COPY text."""
        self._raw += len(data)
        self._put(self._packer.compress(data))

    def done(self) -> tuple[str, int, int]:
        """Sync it and give it its name."""
        self._put(self._packer.flush())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._path.rename(self._final)
        sync_directory(self._final.parent)
        return self._hash.hexdigest(), self._size, self._raw

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def _put(self, packed: bytes) -> None:
        self._hash.update(packed)
        self._size += len(packed)
        self._file.write(packed)


def unpacked(path: Path) -> Iterator[bytes]:
    """The COPY text of a part, in blocks. Raises `Damaged`."""
    try:
        with path.open("rb") as file:
            yield from zstandard.ZstdDecompressor().read_to_iter(file, write_size=_BLOCK)
    except zstandard.ZstdError as error:
        raise Damaged("it cannot be unpacked") from error


def hash_of(path: Path) -> tuple[str, int]:
    """sha256 and length of a file."""
    found, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            found.update(block)
            size += len(block)
    return found.hexdigest(), size


def add_progress(directory: Path, part: Part) -> None:
    """Record that a part is done."""
    with (directory / PROGRESS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(part.as_json()) + "\n")
        file.flush()
        os.fsync(file.fileno())


def progress(directory: Path) -> list[Part]:
    """The parts that are done in an archive in the making. A last line that a kill cut off counts for nothing."""
    found: list[Part] = []
    try:
        text = (directory / PROGRESS).read_text(encoding="utf-8")
    except FileNotFoundError:
        return found
    for line in text.splitlines():
        try:
            part = Part(**json.loads(line))
        except (ValueError, TypeError):
            break
        if not is_part_name(part.file, part.table):
            raise OperatorError(f"{PROGRESS} is not what was written", next_step="give an empty directory")
        found.append(part)
    return found


def restart_progress(directory: Path, parts: list[Part]) -> None:
    """Forget what is recorded beyond these."""
    beside = directory / f"{PROGRESS}.new"
    beside.write_text("".join(json.dumps(part.as_json()) + "\n" for part in parts), encoding="utf-8")
    _synced(beside)
    beside.rename(directory / PROGRESS)


def finish(directory: Path, manifest: Manifest) -> str:
    """Write the sums and, last, the manifest under a name that says that nobody has restored it yet; gives its sha256.
    What else was in the making is cleared away."""
    sealed = manifest.to_bytes()
    known = {part.file for part in manifest.parts}
    for path in directory.glob("*.copy.zst*"):
        if path.name not in known:
            path.unlink()
    for name, data in ((SUMS, sums(manifest, sealed).encode()), (UNTESTED, sealed)):
        _write(directory, name, data)
    return hashlib.sha256(sealed).hexdigest()


def read_manifest(directory: Path) -> tuple[Manifest, str]:
    """The manifest and its sha256; raises `OperatorError` where there is none that can be believed, `Unreadable` where
    that cannot be known."""
    try:
        data = (directory / MANIFEST).read_bytes()
    except FileNotFoundError:
        unfinished = os.path.exists(directory / PROGRESS)  # noqa: PTH110 - false where it may not be looked at
        raise OperatorError(
            f"{directory} holds no archive: it has no {MANIFEST}",
            next_step=f"`cutover archive create --to {directory}` goes on with it"
            if unfinished
            else "cutover archive list",
        ) from None
    except OSError as error:
        raise Unreadable(
            f"{directory / MANIFEST} cannot be read: {error.strerror or error}",
            next_step="see to the path of the archive and to who may read it",
        ) from error
    try:
        return Manifest.from_bytes(data), hashlib.sha256(data).hexdigest()
    except Damaged as damaged:
        raise OperatorError(f"{MANIFEST} is damaged: {damaged}", next_step="take another archive") from damaged


def untested(directory: Path) -> tuple[Manifest, str] | None:
    """The manifest of an archive that is whole but for its restore test, and its sha256; None where there is none."""
    try:
        data = (directory / UNTESTED).read_bytes()
        return Manifest.from_bytes(data), hashlib.sha256(data).hexdigest()
    except (FileNotFoundError, Damaged):
        return None


def seal(directory: Path) -> None:
    """The restore test is passed: from now on it is an archive."""
    (directory / UNTESTED).rename(directory / MANIFEST)
    (directory / PROGRESS).unlink(missing_ok=True)
    sync_directory(directory)


def unseal(directory: Path, wrong: list[str]) -> None:
    """The restore test has failed: these parts are to be made anew, if they are parts."""
    restart_progress(directory, [part for part in progress(directory) if part.file not in wrong])
    (directory / UNTESTED).unlink(missing_ok=True)
    sync_directory(directory)


def add_supplement(directory: Path, supplement: Supplement) -> None:
    """Write it beside the archive, in place of an earlier one. Raises `Unreadable`."""
    try:
        _write(directory, SUPPLEMENT, supplement.to_bytes())
    except OSError as error:
        raise Unreadable(
            f"{directory / SUPPLEMENT} cannot be written: {error.strerror or error}",
            next_step="see to the path of the archive and to who may write there",
        ) from error


def read_supplement(directory: Path, sealed: str) -> Supplement | None:
    """That of the archive whose manifest has the sha256 `sealed`, None where there is none. Raises `OperatorError`."""
    try:
        supplement = Supplement.from_bytes((directory / SUPPLEMENT).read_bytes())
    except FileNotFoundError:
        return None
    except (Damaged, OSError) as error:
        what = str(error) if isinstance(error, Damaged) else _unread(error)
        raise OperatorError(f"{SUPPLEMENT}: {what}", next_step="restore from another copy of the archive") from error
    if supplement.of != sealed:
        raise OperatorError(f"{SUPPLEMENT}: it belongs to another archive", next_step="put the right one back")
    return supplement


def missing(directory: Path, manifest: Manifest) -> list[Problem]:
    """What a look at names and sizes finds: files that are gone or of another length. Raises `Unreadable`."""
    problems = []
    for name, size in [(part.file, part.size) for part in manifest.parts] + [(SUMS, None)]:
        try:
            found = (directory / name).stat().st_size
        except FileNotFoundError:
            problems.append(Problem(name, "it is missing"))
            continue
        except OSError as error:
            raise Unreadable(
                f"{directory / name} cannot be read: {error.strerror or error}",
                next_step="see to the path of the archive and to who may read it",
            ) from error
        if size is not None and found != size:
            problems.append(Problem(name, f"it has {found} bytes, and was written with {size}"))
    return problems


def verify(directory: Path) -> tuple[Manifest | None, list[Problem]]:
    """Read every file and compare it with the manifest; nothing else is asked. Empty: all is as it was written."""
    problems: list[Problem] = []
    try:
        sealed = (directory / MANIFEST).read_bytes()
        manifest = Manifest.from_bytes(sealed)
    except OSError as error:
        return None, [Problem(MANIFEST, _unread(error))]
    except Damaged as damaged:
        return None, [Problem(MANIFEST, str(damaged))]
    try:
        if (directory / SUMS).read_bytes() != sums(manifest, sealed).encode():
            problems.append(Problem(SUMS, "it does not say what the manifest says: it was changed"))
    except OSError as error:
        problems.append(Problem(SUMS, _unread(error)))
    problems += [
        Problem(part.file, wrong)
        for part in manifest.parts
        if (wrong := _wrong_with(directory / part.file, part)) is not None
    ]
    try:
        read_supplement(directory, hashlib.sha256(sealed).hexdigest())
    except OperatorError as error:
        problems.append(Problem(SUPPLEMENT, error.message.removeprefix(f"{SUPPLEMENT}: ")))
    known = {part.file for part in manifest.parts} | {MANIFEST, SUMS, SUPPLEMENT}
    try:
        names = sorted(path.name for path in directory.iterdir())
    except OSError as error:
        return manifest, [*problems, Problem(str(directory), _unread(error))]
    problems += [Problem(name, "the manifest does not know it") for name in names if name not in known]
    return manifest, problems


def _wrong_with(path: Path, part: Part) -> str | None:
    try:
        digest, size = hash_of(path)
        if size != part.size:
            return f"it has {size} bytes, and was written with {part.size}"
        if digest != part.sha256:
            return "its sha256 is another one: it was changed"
        raw = rows = 0
        for block in unpacked(path):
            raw += len(block)
            rows += block.count(b"\n")
        if (rows, raw) != (part.rows, part.raw):
            return f"it holds {rows} rows in {raw} bytes, and the manifest says {part.rows} in {part.raw}"
    except OSError as error:
        return _unread(error)
    except Damaged as damaged:
        return str(damaged)
    return None


def _unread(error: OSError) -> str:
    return "it is missing" if isinstance(error, FileNotFoundError) else f"it cannot be read: {error.strerror or error}"


def sync_directory(directory: Path) -> None:
    """Make renames in it durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _write(directory: Path, name: str, data: bytes) -> None:
    beside = directory / f"{name}.partial"
    beside.write_bytes(data)
    _synced(beside)
    beside.rename(directory / name)
    sync_directory(directory)


def _synced(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
