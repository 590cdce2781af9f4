"""This machine: who may read the files with secrets, and whether there is room on the disks."""

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING

from cutover.cli.doctor.finding import EVERYBODY, Finding, finding
from cutover.domain.errors import CutoverError

if TYPE_CHECKING:
    from cutover.settings import Settings

FULL, NEARLY_FULL = 0.05, 0.15
"""Shares of a file system that are free: below the first it fails, below the second it is worth a look."""
_OTHERS = stat.S_IROTH | stat.S_IWOTH
Statvfs = Callable[[str], os.statvfs_result]


def admins(settings: "Settings") -> Finding:
    """Somebody must be able to do something."""
    remedy = "set CUTOVER_ADMIN_TOKEN, for example CUTOVER_ADMIN_TOKEN=file:/run/secrets/cutover-admin-token"
    held = bool(settings.admins)
    words = f"{len(settings.admins)} set" if held else "none: every control call is refused"
    return finding(EVERYBODY, "admin tokens", held, words, remedy, otherwise="warn")


def secrets(environ: Mapping[str, str]) -> list[Finding]:
    """Every file that holds a secret: nobody but its owner, and at most its group, may read it."""
    from cutover.settings import secret_files

    check = "secret files"
    try:
        files = secret_files(environ)
    except CutoverError:
        return []  # the finding `settings` says it
    bad = [one for path, what in files.items() if (one := _exposed(path, what)) is not None]
    if bad or not files:
        return bad
    return [finding(EVERYBODY, check, True, f"{len(files)}, closed to others", "")]


def _exposed(path: Path, what: str) -> Finding | None:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
    except OSError as error:
        words = f"{path} ({what}) cannot be looked at: {error.strerror}"
        return Finding(EVERYBODY, "secret files", "fail", words, f"ls -l {quote(str(path))}")
    if not mode & (_OTHERS | stat.S_IWGRP) and not (mode & stat.S_IRGRP and not _is_my_group(path)):
        return _replaceable(path, what)
    if mode & stat.S_IWOTH:
        may = "read and written"
    else:
        may = "written" if mode & stat.S_IWGRP and not mode & stat.S_IROTH else "read"
    who = "everybody on this machine" if mode & _OTHERS else "its group"
    words = f"{path} (mode {mode:04o}; {what}) can be {may} by {who}"
    return Finding(EVERYBODY, "secret files", "fail", words, f"chmod 600 {quote(str(path))}")


def _is_my_group(path: Path) -> bool:
    """Whether its group is one of ours: the daemon may read a file through its group, strangers may not."""
    return path.stat().st_gid in {os.getegid(), *os.getgroups()}


def _replaceable(path: Path, what: str) -> Finding | None:
    """Where everybody may write a directory above it, everybody may put another file in its place."""
    for directory in path.absolute().parents:
        try:
            mode = directory.stat().st_mode
        except OSError:
            continue
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            words = f"{path} ({what}) can be replaced: everybody may write {directory} (mode {stat.S_IMODE(mode):04o})"
            return Finding(EVERYBODY, "secret files", "fail", words, f"chmod o-w {quote(str(directory))}")
    return None


async def archives(directory: Path | None, statvfs: Statvfs = os.statvfs) -> AsyncIterator[Finding]:
    """Where archives are written; nothing where none is set, for then none can be."""
    if directory is not None:
        # A network's file system may hang whoever asks: a thread can be left behind.
        for one in await asyncio.to_thread(_archives, directory, statvfs):
            yield one


def _archives(directory: Path, statvfs: Statvfs) -> list[Finding]:
    check = "disk of archives"
    if not directory.is_dir():
        words = f"CUTOVER_ARCHIVE_DIRECTORY {directory} is no directory: an archive cannot be written"
        return [Finding(EVERYBODY, check, "fail", words, f"mkdir -p -m 700 {quote(str(directory))}")]
    found = []
    if not os.access(directory, os.W_OK | os.X_OK):
        words = f"{directory} cannot be written by the user of this command (uid {os.geteuid()})"
        found.append(Finding(EVERYBODY, check, "warn", words, f"chown {os.geteuid()} {quote(str(directory))}"))
    return [*found, room(EVERYBODY, check, directory, statvfs)]


def room(tenant: str, check: str, directory: Path, statvfs: Statvfs = os.statvfs) -> Finding:
    """How full the file system of `directory` is, as far as it may be used by others than root."""
    try:
        seen = statvfs(str(directory))
    except OSError as error:
        return Finding(tenant, check, "skip", f"{directory} cannot be looked at: {error.strerror}")
    free, whole = seen.f_bavail * seen.f_frsize, seen.f_blocks * seen.f_frsize
    share = free / whole if whole else 0.0
    words = f"{_bytes(free)} of {_bytes(whole)} free ({share:.0%}) at {directory}"
    status = "fail" if share < FULL else "warn"
    remedy = f"make room or enlarge it: df -h {quote(str(directory))}"
    return finding(tenant, check, share >= NEARLY_FULL, words, remedy, otherwise=status)


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.3g} {unit}"
        number /= 1024
    return f"{number:.4g} TiB"
