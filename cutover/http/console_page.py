"""The page at `/`: where a tenant stands and what is in the way, in plain HTML without a script.

It answers "may I promote, and if not why?" and refreshes by itself. Everything on it is also in `/readyz/…` and
`/api/v1/status`.
"""

from collections.abc import Iterable, Mapping
from html import escape
from importlib import resources
from typing import Any

from aiohttp import web

from cutover.domain.check import HealthReport, Status
from cutover.domain.phase import Phase
from cutover.http.health_cache import HealthCache
from cutover.http.ops_tenant import OpsTenant, OpsTenants
from cutover.http.server import Call, Route

SECURITY_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}
_WORDS = {Status.PASS: "ready", Status.WARN: "ready, with a warning", Status.FAIL: "not ready"}


class ConsolePage:
    """`/` and its style sheet."""

    def __init__(self, tenants: OpsTenants, cache: HealthCache) -> None:
        self._tenants = tenants
        self._cache = cache
        self._css = resources.files("cutover.http").joinpath("console/console.css").read_bytes()

    def routes(self) -> Iterable[Route[OpsTenant]]:
        """The default tenant's page, each tenant's, and the style sheet."""
        yield Route("GET", "/", "console", self.page, scope="daemon", quiet=True)
        yield Route("GET", "/tenants/{tenant}/", "console", self.page, quiet=True)
        yield Route("GET", "/console/console.css", "console", self.css, scope="daemon", quiet=True)

    async def css(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """The style sheet, from the package."""
        return web.Response(body=self._css, headers={**SECURITY_HEADERS, "Content-Type": "text/css; charset=utf-8"})

    async def page(self, call: Call[OpsTenant]) -> web.StreamResponse:
        """The tenant's page; without a tenant, the list of them."""
        tenant = call.named_tenant
        body = self._list() if tenant is None else await self._tenant(tenant)
        headers = {**SECURITY_HEADERS, "Content-Type": "text/html; charset=utf-8"}
        return web.Response(body=_document(body).encode("utf-8", "replace"), headers=headers)

    def _list(self) -> str:
        rows = "".join(
            f'<li><a href="/tenants/{escape(each.name)}/">{escape(each.name)}</a> '
            f"{each.phase.state.phase if each.phase.state else 'phase not confirmed'}</li>"
            for each in self._tenants
        )
        return f"<h1>Tenants</h1><ul>{rows}</ul>"

    async def _tenant(self, tenant: OpsTenant) -> str:
        state = tenant.phase.state
        ready = (await self._cache.ask(tenant.name, "readyz", tenant.readiness)).report
        rungs = [await self._rung(tenant, phase, state.phase if state else None) for phase in Phase]
        status = await tenant.status()
        since = f"since {state.entered_at:%Y-%m-%d %H:%M:%S} UTC, epoch {state.epoch}" if state else ""
        where = f"{state.phase} ({state.phase.meaning})" if state else "phase not confirmed"
        return (
            f"<h1>{escape(tenant.name)}: {where}</h1><p class=quiet>{since}</p>{_override(status)}"
            f"<h2>Traffic</h2>{_verdict(ready, 'serving', 'not serving')}"
            f"<h2>Phases</h2><ol class=ladder>{''.join(rungs)}</ol>"
            f"<h2>Drift</h2>{_table(status.get('drift'))}"
            f"<h2>Proof</h2>{_proof(status)}"
            f"<h2>Backfill</h2>{_table(status.get('backfill'))}"
        )

    async def _rung(self, tenant: OpsTenant, phase: Phase, current: Phase | None) -> str:
        made = (await self._cache.ask(tenant.name, f"phase {phase}", lambda: tenant.readiness_for(phase))).report
        passed = current is not None and phase.order <= current.order
        here = ' aria-current="step"' if phase is current else ""
        word = "?" if made is None else ("holds" if passed and made.status is not Status.FAIL else _WORDS[made.status])
        kind = "fail" if made is None else made.status.value
        title = f"{phase} {phase.meaning}{' — the tenant is here' if here else ''}"
        return f"<li{here}><h3><span>{title}</span><span class={kind}>{word}</span></h3>{_reasons(made)}</li>"


def _verdict(made: HealthReport | None, good: str, bad: str) -> str:
    if made is None:
        return f"<p class=fail>{bad}</p>"
    word = bad if made.status is Status.FAIL else good
    return f"<p class={made.status.value}><strong>{word}</strong></p>{_reasons(made)}"


def _reasons(made: HealthReport | None) -> str:
    if made is None:
        return ""
    lines = "".join(
        f"<li><span class={check.status.value}>{check.status.value}</span> {escape(check.output)}"
        + (f"<br><small>next: <code>{escape(check.next)}</code></small>" if check.next else "")
        + "</li>"
        for check in made.checks
        if check.status is not Status.PASS
    )
    return f"<ul class=why>{lines}</ul>" if lines else ""


def _table(values: Any) -> str:
    """A table of what is plain in a mapping, one level deep; the rest is left to the API."""
    if not isinstance(values, Mapping):
        return "<p class=quiet>nothing yet</p>"
    rows: list[str] = []
    for name, value in values.items():
        parts = value.items() if isinstance(value, Mapping) else (("", value),)
        rows += [
            _row(f"{name} {part}", each) for part, each in parts if each != "" and isinstance(each, str | int | float)
        ]
    return f"<table>{''.join(rows)}</table>" if rows else "<p class=quiet>nothing yet</p>"


def _proof(status: Mapping[str, Any]) -> str:
    """The last digest sweep, what is confirmed and open, and what is in quarantine; each with the next command."""
    digest, found, blocking = status.get("digest"), status.get("divergences") or {}, status.get("quarantine_blocking")
    if digest is None:
        lines = [_line("warn", "no digest sweep yet", "cutover sweep run --kind digest --full")]
    else:
        good = digest["trusted"] and digest["outcome"] == "clean"
        words = f"last digest sweep: {digest['outcome']}{'' if digest['trusted'] else ', not trusted'}"
        words += f", {'full' if digest['full'] else 'incremental'}, {_ago(digest['age_seconds'])}"
        lines = [_line("pass" if good else "fail", words, "" if good else f"cutover sweep show {digest['run']}")]
    if confirmed := found.get("confirmed"):
        classes = ", ".join(f"{rows} {cls}" for cls, rows in confirmed.items())
        words = f"confirmed differences: {classes}; the oldest was seen {_ago(found['oldest_seconds'])}"
        lines.append(_line("fail", words, "cutover divergence list --groups"))
    if blocking:
        lines.append(_line("fail", f"in quarantine, and blocking the cutover: {blocking}", "cutover quarantine list"))
    return f"<ul class=why>{''.join(lines)}</ul>"


def _override(status: Mapping[str, Any]) -> str:
    """Shown until the phase is left that was entered past a closed gate, or with thresholds below their defaults."""
    override, loosened = status.get("override"), status.get("loosened") or ()
    lines = [_line("warn", words, "") for words in loosened]
    if override is not None:
        lines.insert(0, _line("fail", f"entered past a closed gate by {override['by']}: {override['why']}", ""))
    return f"<ul class=why>{''.join(lines)}</ul>" if lines else ""


def _line(kind: str, words: str, command: str) -> str:
    step = f"<br><small>next: <code>{escape(command)}</code></small>" if command else ""
    return f"<li><span class={kind}>{kind}</span> {escape(words)}{step}</li>"


def _ago(seconds: float) -> str:
    for unit, size in (("days", 86400), ("hours", 3600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{seconds:.0f} seconds ago"


def _row(name: str, value: str | float) -> str:
    words = name.replace("_", " ").replace(".", " ").strip()
    return f"<tr><th scope=row>{escape(words)}</th><td class=number>{escape(str(value))}</td></tr>"


def _document(body: str) -> str:
    return (
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>cutover</title>"
        '<meta name=viewport content="width=device-width"><meta http-equiv=refresh content=10>'
        f'<link rel=stylesheet href="/console/console.css"></head><body><main>{body}</main>'
        "<footer><p class=quiet>Read-only, refreshed every 10 s. The same as JSON: "
        "<code>/readyz/A0</code> … <code>/readyz/A4</code>, <code>/api/v1/status</code>.</p></footer></body></html>"
    )
