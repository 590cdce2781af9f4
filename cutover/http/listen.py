"""Where a face listens: `host:port`, `unix:/path`, or `off`; several addresses are separated by commas."""

import asyncio
import errno
import re
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cutover.domain.errors import BadSetting

BACKLOG = 4096
"""As many as the kernel takes by default. On a unix socket a full queue fails the client at once."""
_EXAMPLE = "127.0.0.1:9200, unix:/run/cutover/plugin.sock, or off"
_USUAL = {
    "CUTOVER_PLUGIN_LISTEN": "127.0.0.1:9200",
    "CUTOVER_MEMORIES_LISTEN": "127.0.0.1:9201",
    "CUTOVER_OPS_LISTEN": "127.0.0.1:9202",
}
MAX_UNIX_PATH = 107
_HOST = re.compile(r"\.?[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?)*")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """A host name or address, and a port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


def parse_listen(text: str) -> tuple[Address, ...]:
    """The addresses that `text` names; empty for `off`. Raises ValueError saying what is wrong, with an example."""
    if text.strip() == "off":
        return ()
    return tuple(_parse_one(part.strip()) for part in text.split(","))


def _parse_one(text: str) -> Address:
    if text.startswith("unix:"):
        path = text.removeprefix("unix:")
        if not path.startswith("/") or "\0" in path:
            raise ValueError(f"{text!r} needs an absolute path; for example {_EXAMPLE}")
        if len(path.encode()) > MAX_UNIX_PATH:
            raise ValueError(f"{text!r} is longer than the {MAX_UNIX_PATH} bytes that a socket's path may have")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: write an IPv6 address in brackets, as in [::1]:9200")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address; for example {_EXAMPLE}")
    return TcpAddress(host, int(port))


async def bind(address: Address, factory: Callable[[], asyncio.Protocol], variable: str) -> asyncio.Server:
    """Listen on `address`. Raises `BadSetting`, naming `variable`, when that cannot be."""
    loop = asyncio.get_running_loop()
    try:
        if isinstance(address, TcpAddress):
            server = await loop.create_server(factory, address.host, address.port, backlog=BACKLOG)
        else:
            _clear_stale(address)
            server = await loop.create_unix_server(factory, address.path, backlog=BACKLOG)
            _let_group_in(address)
    except OSError as error:
        why = "it is in use" if error.errno == errno.EADDRINUSE else (error.strerror or type(error).__name__)
        raise BadSetting(
            f"{variable}={address}: cannot listen there: {why}; for example {_other_example(address, variable)}",
            next_step="stop what listens there, or choose another address",
        ) from None
    return server


def _other_example(taken: Address, variable: str) -> str:
    """The variable with an address of its own that is not the one which was just refused."""
    usual = _USUAL.get(variable, "127.0.0.1:0")
    if usual == str(taken):
        usual = f"unix:/run/cutover/{variable.removeprefix('CUTOVER_').removesuffix('_LISTEN').lower()}.sock"
    return f"{variable}={usual}"


def _let_group_in(address: UnixAddress) -> None:
    """Whoever may open the socket may use the face: the owner and the group, nobody else."""
    Path(address.path).chmod(0o660)


def remove_socket(address: UnixAddress) -> None:
    """Take the socket's name out of the file system."""
    Path(address.path).unlink(missing_ok=True)


def _clear_stale(address: UnixAddress) -> None:
    """Remove a socket that a dead process left behind; one that answers belongs to somebody alive."""
    path = Path(address.path)
    try:
        if not stat.S_ISSOCK(path.stat().st_mode):
            raise FileExistsError(errno.EEXIST, "something that is not a socket is there")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(address.path)
        except (ConnectionRefusedError, FileNotFoundError):
            path.unlink(missing_ok=True)
        else:
            raise OSError(errno.EADDRINUSE, "in use")


def bound_address(server: asyncio.Server, asked: Address) -> Address:
    """The address as it really is: with the port that the system chose."""
    if isinstance(asked, UnixAddress):
        return asked
    host, port = server.sockets[0].getsockname()[:2]
    return TcpAddress(str(host), int(port))


def parse_hosts(value: object) -> object:
    """Host names with commas, lower case; a dot in front stands for every name below it. Raises `ValueError`; what is
    no text is left to whoever checks types."""
    if not isinstance(value, str):
        return value
    names = tuple(name for name in (part.strip().lower() for part in value.split(",")) if name)
    if not all(_HOST.fullmatch(name) for name in names):
        raise ValueError("is not a list of host names (no scheme, no port)")
    return names
