"""The running daemon, over its ops face: is it there, and what does it say about itself?"""

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from cutover.cli.doctor.finding import EVERYBODY, Finding, finding
from cutover.cli.ops_url import ops_url

SECONDS = 3.0


async def look(environ: Mapping[str, str], tenants: Sequence[str]) -> AsyncIterator[Finding]:
    """Findings about the daemon that `CUTOVER_OPS_URL` names; never raises anything but `BadSetting`."""
    import httpx

    url = ops_url(environ)
    uds = url.removeprefix("unix:") if url.startswith("unix:") else None
    async with httpx.AsyncClient(
        base_url="http://cutover" if uds else url,
        transport=httpx.AsyncHTTPTransport(uds=uds),
        timeout=SECONDS,
        trust_env=False,
    ) as client:
        try:
            status, _ = await _asked(client, "/readyz")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            yield _absent(url, error)
            return
        words = f"answers at {url}, /readyz says {status}"
        remedy = "cutover status; cutover phase show"
        yield finding(EVERYBODY, "daemon", status == 200, words, remedy, otherwise="warn")
        for tenant in tenants:
            try:
                async for one in _tenant(client, tenant):
                    yield one
            except (httpx.HTTPError, ValueError) as error:
                words = f"{url} tells nothing about this tenant: {_why(error)}"
                yield Finding(tenant, "traffic", "warn", words, "cutover status")


def _absent(url: str, error: Exception) -> Finding:
    remedy = "start it: cutover serve; or point CUTOVER_OPS_URL at it"
    return Finding(EVERYBODY, "daemon", "warn", f"nothing of ours answers at {url} ({_why(error)})", remedy)


def _why(error: Exception) -> str:
    return "no JSON" if isinstance(error, ValueError) else type(error).__name__


async def _asked(client: Any, path: str) -> tuple[int, dict[str, Any]]:
    answer = await client.get(path)
    told = answer.json()
    if not isinstance(told, dict):
        raise ValueError("no object")  # noqa: TRY004 - it is what somebody else's JSON would be
    return answer.status_code, told


async def _tenant(client: Any, tenant: str) -> AsyncIterator[Finding]:
    """What the daemon thinks of one tenant: does it serve, is the breaker closed, what of its readiness is red?"""
    name = quote(tenant, safe="")
    code, status = await _asked(client, f"/api/v1/tenants/{name}/status")
    if code == 404:
        words = "the daemon does not know this tenant"
        yield Finding(tenant, "traffic", "fail", words, "restart it with this tenant in its settings: cutover serve")
        return
    refusing = status.get("refusing")
    words = f"refused ({refusing['reason']}): {refusing['why']}" if refusing else "served"
    yield finding(tenant, "traffic", not refusing, words, "cutover status --watch")
    breaker = (status.get("plugin") or {}).get("breaker")
    yield finding(
        tenant,
        "breaker",
        breaker == "closed",
        f"{breaker}: {(status.get('plugin') or {}).get('why') or 'trying again'}" if breaker != "closed" else "closed",
        "mend the plugin; the breaker closes by itself: cutover status --watch",
        otherwise="fail" if breaker == "open" else "warn",
    )
    _, report = await _asked(client, f"/tenants/{name}/readyz")
    for check, entries in (report.get("checks") or {}).items():
        for one in entries:
            if one.get("status") == "fail" and check != "traffic":
                yield Finding(tenant, f"ready: {check}", "fail", str(one.get("output")), str(one.get("next") or ""))
