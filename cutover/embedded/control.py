"""The ops face as the demo, the tests and the benchmarks use it."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import aiohttp

from cutover.embedded.processes import PEOPLE, ChildError, until

_REQUESTER = "edsger"
_APPROVERS = ("ada", "grace")
_PASSING = ("healthy plugin", "a change of phase is under way", " is closed by ", " is void: ", "newer sweep found")
"""Words of refusals that may be over in a moment."""


class ControlError(Exception):
    """The daemon refused a control call, or could not be reached; the message holds its words."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class Control:
    """Control calls of one daemon, for its default tenant or a named one. An async context manager."""

    def __init__(self, ops_url: str, token: str, *, tenant: str | None = None) -> None:
        self._base = ops_url if tenant is None else f"{ops_url}/tenants/{tenant}"
        self._headers = {"Authorization": f"Bearer {token}"}
        self._session: aiohttp.ClientSession | None = None
        self.last_change: dict[str, Any] = {}
        """What the daemon answered to the last step forward."""

    async def __aenter__(self) -> Self:
        # A connection per call: daemons are killed and come back on the same port all the time here.
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=900, sock_connect=60), connector=aiohttp.TCPConnector(force_close=True)
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._session is not None:
            await self._session.close()

    async def call(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, token: str | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Status and JSON of one call, with the client's token or another. ControlError when there is no answer."""
        if self._session is None:
            raise ControlError("the control client is not open")
        headers = self._headers if token is None else {"Authorization": f"Bearer {token}"}
        try:
            async with self._session.request(method, self._base + path, json=body, headers=headers) as response:
                return response.status, await response.json(content_type=None)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise ControlError(f"{method} {path}: {type(error).__name__}: {error}") from None

    async def _ask(
        self, method: str, path: str, body: dict[str, Any] | None = None, *, token: str | None = None
    ) -> dict[str, Any]:
        status, answer = await self.call(method, path, body, token=token)
        if status >= 300:
            raise ControlError(f"{method} {path} was answered {status}: {answer}", status)
        return answer

    # -- phases -----------------------------------------------------------------------------------------------------

    async def phase(self) -> str:
        """The current phase."""
        return str((await self._ask("GET", "/api/v1/phase"))["phase"])

    async def enter(self, phase: str, *, override: str | None = None, timeout: float = 30.0) -> None:
        """One step to `phase`, forward or back. Forward as operators go: through the gate, or with an override past it;
        where approval is needed (A3, A4, every override) edsger asks, and ada and grace approve.

        Tried again within `timeout` seconds while the daemon is busy (503), its plugin just coming back, the gate still
        closed, or a certificate void because something changed meanwhile (409); then ControlError with the last answer.
        """
        last: list[ControlError] = []

        async def entered() -> bool:
            try:
                current = await self.phase()
                if current == phase:
                    return True
                await (self._forward(phase, override) if phase > current else self._back(phase))
            except ControlError as error:
                last[:] = [error]
                if error.status == 503 or (error.status == 409 and any(word in str(error) for word in _PASSING)):
                    return False
                raise
            return True

        try:
            await until(entered, f"phase {phase}", timeout=timeout, every=0.1)
        except ChildError:
            raise (last[0] if last else ControlError(f"phase {phase}: no answer within {timeout:g} s")) from None

    async def _forward(self, phase: str, override: str | None) -> None:
        step: dict[str, Any] = {"reason": "embedded run", "target": phase}
        if override is not None or phase in ("A3", "A4"):
            asked = {"target": phase, **({} if override is None else {"override": override})}
            step["certificate"] = (await self._ask("POST", "/api/v1/phase/certify", asked, token=PEOPLE[_REQUESTER]))[
                "hash"
            ]
            for name in _APPROVERS:
                approval = {"certificate": step["certificate"], "name": name}
                await self._ask("POST", "/api/v1/phase/approve", approval, token=PEOPLE[name])
        self.last_change = await self._ask("POST", "/api/v1/phase/promote", step)

    async def _back(self, phase: str) -> None:
        await self._ask("POST", "/api/v1/phase/rollback", {"reason": "embedded run", "target": phase})

    # -- work -------------------------------------------------------------------------------------------------------

    async def status(self) -> dict[str, Any]:
        """Everything the daemon says about the tenant."""
        return await self._ask("GET", "/api/v1/status")

    async def sweep(self) -> dict[str, Any]:
        """Run a count sweep; what it found."""
        return await self._ask("POST", "/api/v1/sweeps", {"kind": "count"})

    async def start_digest_sweep(self, *, full: bool, timeout: float = 120.0) -> UUID:
        """Start a digest sweep, after the one that is under way; gives the id of its run."""
        run: list[UUID] = []

        async def started() -> bool:
            try:
                answer = await self._ask("POST", "/api/v1/sweeps", {"kind": "digest", "full": full})
            except ControlError as error:
                if error.status == 0 or "under way already" in str(error):
                    return False
                raise
            run.append(UUID(answer["run"]))
            return True

        await until(started, "a digest sweep to start", timeout=timeout, every=0.2)
        return run[0]

    async def repair(self, memory_ids: Sequence[UUID]) -> dict[str, Any]:
        """Have memories that differ delivered once more."""
        return await self._ask("POST", "/api/v1/divergence/repair", {"ids": [str(each) for each in memory_ids]})

    async def start_backfill(self, **options: Any) -> dict[str, Any]:
        """Start the copy. `options`: limit, via, rate, pause_file, workspace."""
        return await self._ask("POST", "/api/v1/backfill", {"mode": "apply", **options})

    async def control_backfill(self, verb: str) -> dict[str, Any]:
        """pause, resume or abort."""
        return await self._ask("POST", f"/api/v1/backfill/{verb}", {})

    async def backfill(self) -> dict[str, Any]:
        """How far the copy is."""
        return await self._ask("GET", "/api/v1/backfill")

    async def copy(self, *, timeout: float, **options: Any) -> None:
        """A backfill from its start to its last mark: A3 is entered after one only."""
        await self.start_backfill(**options)
        await self.backfilled(timeout=timeout)

    async def verify(self, *, timeout: float) -> dict[str, Any]:
        """Have everything verified, after the sweep that is under way; what it came to."""
        run = (await self._ask("POST", "/api/v1/verify", {}))["run"]
        told: dict[str, Any] = {}

        async def ended() -> bool:
            told.update(await self._ask("GET", f"/api/v1/verify/{run}"))
            return bool(told["state"] != "running")

        await until(ended, "the verification to end", timeout=timeout, every=0.1)
        return told

    async def digest_sweep(self, *, full: bool, timeout: float) -> dict[str, Any]:
        """Have a digest sweep run, and wait for what it comes to."""
        run = await self.start_digest_sweep(full=full)
        return await self._ended(f"/api/v1/sweeps/{run}", "a digest sweep", timeout)

    async def acknowledge_quarantined(self, why: str) -> int:
        """Answer for everything that cannot be placed, one by one as an operator would; how many there were."""
        blocking = (await self._ask("GET", "/api/v1/quarantine?acknowledged=no&limit=200"))["quarantine"]
        for each in blocking:
            await self._ask("POST", "/api/v1/quarantine/acknowledge", {"id": each["memory_id"], "why": why})
        return len(blocking)

    async def rehearse(self, *, timeout: float = 60.0) -> dict[str, Any]:
        """Rehearse the way back; what it came to."""
        await self._ask("POST", "/api/v1/phase/rehearsal", {})
        told: dict[str, Any] = {}

        async def ended() -> bool:
            told.clear()
            told.update(await self._ask("GET", "/api/v1/phase/rehearsal"))
            return not told["doing"] and told["last"] is not None

        await until(ended, "the rehearsal to end", timeout=timeout, every=0.1)
        return dict(told["last"])

    async def archive(self, *, timeout: float) -> dict[str, Any]:
        """Write an archive and have its restore tested; what it came to."""
        run = (await self._ask("POST", "/api/v1/archive", {}))["run"]
        return await self._ended(f"/api/v1/archive/{run}", "the archive", timeout)

    async def drop(self) -> dict[str, Any]:
        """How the drop of legacy's table is going."""
        return await self._ask("GET", "/api/v1/drop")

    async def _ended(self, path: str, what: str, timeout: float) -> dict[str, Any]:
        told: dict[str, Any] = {}

        async def ended() -> bool:
            told.clear()
            told.update(await self._ask("GET", path))
            return bool(told.get("state") != "running")

        await until(ended, what + " to end", timeout=timeout, every=0.1)
        return told

    async def backfilled(self, *, timeout: float) -> None:
        """Wait until the copy has put its mark on every row; a daemon that is just starting is asked again."""

        async def condition() -> bool:
            try:
                found = await self.backfill()
            except ControlError as error:
                if error.status in (0, 503):
                    return False
                raise
            return found.get("state") == "finished"

        await until(condition, "backfill complete", timeout=timeout, every=0.1)

    async def ready(self, phase: str | None = None) -> tuple[int, dict[str, Any]]:
        """`/readyz` or `/readyz/{phase}`: status and body."""
        return await self.call("GET", "/readyz" if phase is None else f"/readyz/{phase}")
