"""`cutover healthcheck`: what a container probe runs. Standard library only, so it costs little every few seconds."""

import http.client
import json
import socket
from urllib.parse import urlsplit

import click

from cutover.cli.failure import UNREACHABLE, CommandFailed
from cutover.cli.output import say
from cutover.cli.verb import Verb


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


@click.command(
    cls=Verb,
    examples=(
        "cutover healthcheck            # does it live?",
        "cutover healthcheck --ready --timeout 1",
    ),
)
@click.option("--ready", is_flag=True, help="Ask whether traffic can be served now, not only whether the daemon lives.")
@click.option("--timeout", type=click.FloatRange(min=0.05), default=2.0, show_default=True, help="Seconds.")
def healthcheck(ready: bool, timeout: float) -> None:
    """Exit 0 when the daemon answers.

    Without --ready a dead plugin does not make the probe fail: restarting the daemon would not bring it back.
    """
    from cutover.cli.ops_url import environment, ops_url

    url = ops_url(environment())
    path = "/readyz" if ready else "/livez"
    try:
        status, body = _ask(url, path, timeout)
    except (OSError, http.client.HTTPException) as error:
        raise CommandFailed(
            "the daemon cannot be reached",
            f"nothing answers at {url} ({type(error).__name__})",
            "start it with `cutover serve`, or point CUTOVER_OPS_URL at it",
            UNREACHABLE,
        ) from None
    if status != 200:
        raise CommandFailed(f"{path} answered {status}", _reason(body), "cutover status", 1)
    if not _is_ours(body):
        why = f"{path} at {url} answers as somebody else would: that is not cutover's ops face"
        raise CommandFailed("the daemon was not found there", why, "check CUTOVER_OPS_URL", 1)
    say("ok")


def _ask(url: str, path: str, timeout: float) -> tuple[int, bytes]:
    connection: http.client.HTTPConnection
    if url.startswith("unix:"):
        connection = _UnixConnection(url.removeprefix("unix:"), timeout)
    else:
        parts = urlsplit(url)
        kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
        connection = kind(parts.hostname or "", parts.port, timeout=timeout)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read(65_536)
    finally:
        connection.close()


def _is_ours(body: bytes) -> bool:
    try:
        told = json.loads(body)
    except ValueError:
        return False
    return isinstance(told, dict) and told.get("status") in ("pass", "warn")


def _reason(body: bytes) -> str:
    """Every failing check with its reason, of one tenant or of several; or that there is none to be read."""
    try:
        told = json.loads(body)
        reports = told["tenants"].values() if "tenants" in told else [told]
        failing = [
            f"{name}: {check['output']}"
            for report in reports
            for name, found in report["checks"].items()
            for check in found
            if check["status"] == "fail"
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        failing = []
    return "; ".join(failing) or "the answer names no failing check"
