"""The running daemon, as the verbs see it: its ops face, over HTTP or a unix socket.

Control calls carry `CUTOVER_ADMIN_TOKEN`. httpx is imported with this module, so verbs import it when they run.
"""

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import httpx

from cutover.cli.failure import DIVERGENT, ERROR, UNREACHABLE, USAGE, CommandFailed
from cutover.cli.ops_url import DEFAULT_URL, environment, ops_url

_NO_SUCH_TENANT = "no such tenant"
_NO_DEFAULT = "this daemon has no default tenant"


class _NoAnswer(CommandFailed):
    """The call was sent, and no answer came in time."""


class Unreadable(CommandFailed):
    """Somebody answered who is not the daemon, or another version of it."""

    def __init__(self, why: str) -> None:
        super().__init__("the daemon's answer cannot be read", why, "check CUTOVER_OPS_URL")


class _Told(dict[str, Any]):
    """An object of an answer. A member that our daemon always tells and this one does not is a failure in words."""

    def __missing__(self, key: str) -> Any:
        raise Unreadable(f"it has no {key!r}: is this cutover's ops face, and of this version?")


class Ops:
    """Calls of the ops face. Every failure is a `CommandFailed` with its exit code."""

    def __init__(
        self,
        environ: Mapping[str, str] | None = None,
        *,
        tenant: str | None = None,
        timeout: float = 30.0,
        token_file: str | None = None,
    ) -> None:
        environ = environment() if environ is None else environ
        self.url = ops_url(environ)
        self._prefix = f"/tenants/{quote(tenant, safe='')}" if tenant else ""
        self._timeout = timeout
        token = environ.get("CUTOVER_ADMIN_TOKEN", "").strip()
        if token_file is not None:
            token = f"file:{Path(token_file).absolute()}"
        if token.startswith(("env:", "file:")):
            from cutover.tenant_settings import read_secret

            token = read_secret(token, environ, variable="CUTOVER_ADMIN_TOKEN", example="file:/run/secrets/token")
        self._client = httpx.Client(
            base_url="http://cutover" if self.url.startswith("unix:") else self.url,
            transport=httpx.HTTPTransport(uds=self.url.removeprefix("unix:")) if self.url.startswith("unix:") else None,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=timeout,
            trust_env=False,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def get(self, path: str) -> Any:
        """The JSON of a GET below the tenant's part of the ops face."""
        return self._call("GET", path, None)

    def post(self, path: str, body: Mapping[str, Any], *, shown_by: str = "") -> Any:
        """The JSON of a control call. `shown_by`: the command that shows how it goes on where no answer comes in time,
        for what the daemon does to its end whoever listens."""
        try:
            return self._call("POST", path, body)
        except _NoAnswer as error:
            if not shown_by:
                raise
            why = f"{error.why}; it goes on with this all the same"
            raise CommandFailed("the daemon has not answered yet", why, shown_by, UNREACHABLE) from error

    def health(self, path: str) -> tuple[int, Any]:
        """Status and JSON of a health path: a 503 there is an answer, not a failure."""
        response = self._send("GET", path, None)
        return response.status_code, _json(response)

    def _call(self, method: str, path: str, body: Mapping[str, Any] | None) -> Any:
        response = self._send(method, path, body)
        if response.is_success:
            return _json(response)
        raise self._elsewhere(response) or _refusal(response)

    def _elsewhere(self, response: httpx.Response) -> CommandFailed | None:
        """A 404 that this verb's routes never give: somebody else, or another face, listens at that address."""
        told = _members(response)
        if response.status_code != 404 or "next" in told or told.get("error") == _NO_SUCH_TENANT:
            return None
        why = f"{response.url.path} is not known at {self.url}: that is not cutover's ops face, or an older one"
        step = f"point CUTOVER_OPS_URL at the ops face; for example CUTOVER_OPS_URL={DEFAULT_URL}"
        return CommandFailed("the daemon was not found there", why, step)

    def _send(self, method: str, path: str, body: Mapping[str, Any] | None) -> httpx.Response:
        try:
            return self._client.request(method, self._prefix + path, json=body)
        except httpx.ConnectTimeout:
            why, step = f"no connection within {self._timeout:g} s to {self.url}", "look at the daemon's log"
        except httpx.TimeoutException:
            why, step = f"no answer within {self._timeout:g} s from {self.url}", "look at the daemon's log"
            raise _NoAnswer("the daemon cannot be reached", why, step, UNREACHABLE) from None
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            why = f"nothing answers at {self.url} ({type(error).__name__})"
            step = "start it with `cutover serve`, or point CUTOVER_OPS_URL at it"
        raise CommandFailed("the daemon cannot be reached", why, step, UNREACHABLE)


def _json(response: httpx.Response) -> Any:
    path = response.url.path
    try:
        told = response.json(object_hook=_Told) if response.content else _Told()
    except (ValueError, RecursionError):
        raise Unreadable(f"{path} did not answer with JSON: is this cutover's ops face?") from None
    if not isinstance(told, _Told):
        raise Unreadable(f"{path} answered with JSON that is no object: is this cutover's ops face?")
    return told


def _members(response: httpx.Response) -> dict[str, Any]:
    """The members of an error's body; none where it is no JSON object."""
    try:
        told = response.json()
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}


def _refusal(response: httpx.Response) -> CommandFailed:
    """The daemon's own words, with the code that fits its status."""
    told = _members(response)
    why = str(told.get("error") or f"it answered {response.status_code}")
    step = str(told.get("next") or "")
    code = {409: DIVERGENT, 412: DIVERGENT, 503: UNREACHABLE, 504: UNREACHABLE}.get(response.status_code, ERROR)
    if response.status_code == 401:
        step = "set CUTOVER_ADMIN_TOKEN to a token of this daemon (the daemon must have one set, too)"
    if response.status_code == 404:
        step = step or "cutover status without --tenant (which tenants are there, and does this daemon have this verb?)"
    if why == _NO_DEFAULT:
        step = "name one with --tenant; `cutover status` shows which there are"
    if why in (_NO_DEFAULT, _NO_SUCH_TENANT):
        code = USAGE
    checks = told.get("checks") or []
    points = [f"{each['id']}: {each['reason']}{_remedy(each)}" for each in checks]
    return CommandFailed("the daemon refused", why, step or "cutover status", code, points=points)


def _remedy(check: Mapping[str, Any]) -> str:
    return f" (next: {check['next']})" if check.get("next") else ""
