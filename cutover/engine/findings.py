"""What sweeps and deliveries found, and what operators do about it (architecture §4; issue of proof: findings).

Nothing here touches either store. A repair and a retry only mark; the reconciler then delivers what the memory is by
that time, so a live edit or delete always wins over an operator's decision that came a moment later. What nobody but
the plugin knows of (`missing_in_legacy`) is never repaired: delivering its state, which is "not there", would delete
it, and the plugin takes writes from anybody, so some caller may well have been told that it was saved.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any, Protocol, TypeVar
from uuid import UUID

from cutover.domain.divergence import DivergenceClass, DivergenceState
from cutover.domain.errors import Conflict, CutoverError, IllegalStep, InvalidRequest, NotFound, Refused, StaleEpoch
from cutover.domain.events import DivergencesCounted, FindingsSettled, Observer, TaskFailed
from cutover.domain.findings import FindingFilter, QuarantineFilter
from cutover.domain.phase import Phase
from cutover.engine.phase_watch import PhaseWatch
from cutover.stores.findings import FindingStore, OpenFindings
from cutover.stores.quarantine import QuarantineStore
from cutover.stores.runs import Run, Runs

_DIGEST = "sweep.digest"
_COUNT_SECONDS = 5.0
_MOST_AT_ONCE = 5000
"""Memories per call: one transaction marks them, and they go ahead of the backfill's."""
_TOLD = 20
"""Refusals that are told one by one."""
_UNKNOWN_EXTRA = (
    "only the plugin knows of it, so a delivery would delete it, and whoever wrote it straight to the plugin was told"
    " that it was saved"
)
_EXTRA_WAY_OUT = (
    "cutover divergence show ID; then accept it (cutover divergence accept ID --why …) or delete it at the plugin"
)

T = TypeVar("T")


class Backlog(Protocol):
    """How many live marks wait for delivery."""

    @property
    def live_marks(self) -> int: ...


class Findings:
    """One tenant's findings. Answers are JSON-able and hold no content. `max_backlog`: live marks beyond which traffic
    is refused; repairs fill at most half of it. `wake` tells the reconciler that there is something to deliver.
    `progress`: the digest sweep under way in this process, or None."""

    def __init__(
        self,
        tenant: str,
        findings: FindingStore,
        quarantine: QuarantineStore,
        runs: Runs,
        phase: PhaseWatch,
        backlog: Backlog,
        observer: Observer,
        wake: Callable[[], None],
        *,
        max_backlog: int,
        progress: Callable[[], dict[str, Any] | None],
    ) -> None:
        self._tenant = tenant
        self._findings = findings
        self._quarantine = quarantine
        self._runs = runs
        self._phase = phase
        self._backlog = backlog
        self._observer = observer
        self._wake = wake
        self._room = max(1, max_backlog // 2)
        self._progress = progress
        self.open: OpenFindings | None = None
        """The last look at what is open."""
        self._digest: Run | None = None

    async def watch(self) -> None:
        """Keep the counts fresh for metrics and status."""
        while True:
            try:
                await self.count()
            except CutoverError as error:
                self._observer(TaskFailed(self._tenant, "findings", type(error).__name__, error.message))
            await asyncio.sleep(_COUNT_SECONDS)

    async def count(self) -> OpenFindings:
        """Look now."""
        self.open = found = await self._findings.open()
        # From the record, not from this process: another daemon of the tenant may have swept.
        self._digest = await self._runs.last(_DIGEST, finished=True)
        oldest = found.oldest_confirmed
        self._observer(
            DivergencesCounted(
                self._tenant,
                found.in_state(DivergenceState.CONFIRMED),
                0.0 if oldest is None else oldest.timestamp(),
            )
        )
        return found

    def status(self) -> dict[str, Any]:
        """The last look, short: the last digest sweep, the one under way, open findings by class. Ages in seconds."""
        return {
            "digest": self._digest_status(),
            "sweeping": self._progress(),
            "divergences": self._open_status(),
        }

    def _digest_status(self) -> dict[str, Any] | None:
        run = self._digest
        if run is None or run.finished_at is None:
            return None
        outcome = run.outcome or {}
        told = {key: outcome.get(key) for key in ("outcome", "trusted", "full", "coverage", "why")}
        return {"run": str(run.id), **told, "age_seconds": _age(run.finished_at)}

    def _open_status(self) -> dict[str, Any] | None:
        if self.open is None:
            return None
        oldest = self.open.oldest_confirmed
        return {
            **{state.value: self.open.in_state(state) for state in DivergenceState},
            "oldest_seconds": None if oldest is None else _age(oldest),
        }

    # -- sweeps ----------------------------------------

    async def sweeps(self, kind: str | None, *, limit: int, after: UUID | None) -> dict[str, Any]:
        """Sweeps, newest first, and where the next page begins."""
        found = await self._runs.recent("sweep.%" if kind is None else f"sweep.{kind}", limit=limit + 1, after=after)
        shown = found[:limit]
        return {
            "sweeps": [_run(run) for run in shown],
            "next": str(shown[-1].id) if len(found) > limit else None,
        }

    async def sweep(self, run_id: UUID) -> dict[str, Any] | None:
        """One sweep with what it looked at and what it found; None for an unknown id."""
        run = await self._runs.get(run_id)
        if run is None or not run.kind.startswith("sweep."):
            return None
        progress = self._progress()
        return {
            **_run(run),
            "parameters": run.parameters,
            "progress": progress if progress is not None and progress.get("run") == str(run_id) else None,
            "buckets": await self._runs.buckets(run_id),
            "checkpoint": await self._runs.last_checkpoint(run_id),
            "found": await self._findings.of_run(run_id),
        }

    # -- divergences ----------------------------------------

    async def divergences(self, chosen: FindingFilter, *, limit: int, after: str | None) -> dict[str, Any]:
        """Findings that match, by memory, and where the next page begins."""
        rows = await self._findings.page(chosen, limit=limit + 1, after=_cursor(after))
        shown = rows[:limit]
        following = f"{shown[-1]['memory_id']}/{shown[-1]['class']}" if len(rows) > limit else None
        return {"divergences": shown, "next": following}

    async def groups(self, chosen: FindingFilter, *, limit: int) -> dict[str, Any]:
        """Findings that match, by likely cause; and the counts of all that is open."""
        groups, number = await self._findings.groups(chosen, limit=limit)
        return {"groups": groups, "more": max(0, number - len(groups)), "open": (await self.count()).as_json()}

    async def divergence(self, memory_id: UUID) -> dict[str, Any] | None:
        """Everything that was ever found of one memory; None when that is nothing."""
        found = await self._findings.page(FindingFilter(ids=(memory_id,), closed=True), limit=len(DivergenceClass))
        if not found:
            return None
        return {"memory_id": memory_id, "findings": found, **await self._findings.about(memory_id)}

    async def accept(self, chosen: FindingFilter, *, actor: str, why: str) -> dict[str, Any]:
        """Somebody answers for confirmed findings. Raises `Conflict` (or `NotFound`) when none was accepted."""
        accepted = await self._findings.accept(chosen, who=actor, why=why)
        refused = await self._not_accepted(chosen, set(accepted))
        if not accepted:
            raise _nothing(refused, "no confirmed divergence matches", "only what two looks agree on can be accepted")
        self._settled("accept", len(accepted), actor)
        return {"accepted": len(accepted), "by_class": _by_class(accepted), "refused": refused}

    async def repair(self, chosen: FindingFilter, *, actor: str, limit: int | None) -> dict[str, Any]:
        """Mark memories for delivery. Raises `Conflict` when nothing could be."""
        # By name anything that is open; in bulk what is certain.
        states = tuple(DivergenceState) if chosen.ids else (DivergenceState.CONFIRMED,)
        wanted = _in_states(chosen, states)
        most = self._how_many(limit)
        done = await self._fenced(lambda epoch: self._findings.repair(wanted, epoch=epoch, who=actor, limit=most))
        extras = await self._findings.unrepairable(wanted)
        refused = [{"class": "missing_in_legacy", "rows": extras, "why": _UNKNOWN_EXTRA}] if extras else []
        if not done.marked:
            if extras:
                raise Conflict(
                    f"missing_in_legacy is not repaired: {_UNKNOWN_EXTRA}",
                    next_step=_EXTRA_WAY_OUT,
                )
            raise NotFound("no open divergence matches that a delivery sets right", next_step="cutover divergence list")
        self._wake()
        self._settled("repair", done.marked, actor)
        return {
            "marked": done.marked,
            "by_class": done.findings,
            "remaining": done.remaining,
            "refused": refused,
            "next": _EXTRA_WAY_OUT if refused else "",
        }

    # -- quarantine ----------------------------------------

    async def quarantined(self, chosen: QuarantineFilter, *, limit: int, after: UUID | None) -> dict[str, Any]:
        """Quarantined memories that match, by id, and where the next page begins."""
        rows, matching = await self._quarantine.page(chosen, limit=limit, after=after)
        following = str(rows[-1]["memory_id"]) if matching > len(rows) else None
        return {"quarantine": rows, "next": following, "more": matching - len(rows)}

    async def quarantined_one(self, memory_id: UUID) -> dict[str, Any] | None:
        """One of them with what else is known; None when it is not in quarantine."""
        rows, _ = await self._quarantine.page(QuarantineFilter(ids=(memory_id,), acknowledged=None), limit=1)
        return {**rows[0], **await self._quarantine.about(memory_id)} if rows else None

    async def retry(self, chosen: QuarantineFilter, *, actor: str, limit: int | None) -> dict[str, Any]:
        """Mark them for another delivery; what is placed leaves the quarantine by itself."""
        most = self._how_many(limit)
        done = await self._fenced(lambda epoch: self._quarantine.retry(chosen, epoch=epoch, limit=most))
        if not done.marked:
            raise NotFound(
                "nothing in quarantine matches that does not wait for a delivery already",
                next_step="cutover quarantine list --all",
            )
        self._wake()
        self._settled("retry", done.marked, actor)
        return {"marked": done.marked, "remaining": done.remaining}

    async def acknowledge(self, memory_id: UUID, *, actor: str, why: str) -> dict[str, Any]:
        """Somebody answers for one memory that stays behind. Raises `NotFound`, or `Conflict` with the reason."""
        done = await self._quarantine.acknowledge(memory_id, who=actor, why=why)
        now = await self.quarantined_one(memory_id)
        if now is None:
            raise NotFound("this memory is not in quarantine", next_step="cutover quarantine list")
        if not done:
            if now["acknowledged_by"] is not None:
                raise Conflict(
                    f"{now['acknowledged_by']} has acknowledged it already", next_step="cutover quarantine show ID"
                )
            raise Conflict(
                "a newer state of this memory waits for delivery, which may place it",
                next_step="look again in a moment with `cutover quarantine show ID`",
            )
        self._settled("acknowledge", 1, actor)
        return now

    # -- shared ----------------------------------------

    def _how_many(self, limit: int | None) -> int:
        """How many memories may be marked now without their backlog refusing live traffic."""
        room = self._room - self._backlog.live_marks
        if room <= 0:
            raise Refused(
                "backlog",
                f"{self._backlog.live_marks} memories wait for delivery already",
                next_step="let them drain (`cutover status` shows the marks), then run it again",
            )
        return min(room, _MOST_AT_ONCE, limit or _MOST_AT_ONCE)

    async def _fenced(self, mark: Callable[[int], Awaitable[T]]) -> T:
        """Mark under the present epoch; once more when the phase changed on the way."""
        for last in (False, True):
            state = self._phase.current()
            if state.phase not in (Phase.A1, Phase.A2, Phase.A3, Phase.A4):
                raise IllegalStep(
                    f"there is nothing to deliver in {state.phase}: marks are delivered from A1 on",
                    next_step="cutover phase show",
                )
            try:
                return await mark(state.epoch)
            except StaleEpoch:
                if last:
                    raise
                await self._phase.reload()
        raise Refused("phase_unconfirmed", "the phase keeps changing")  # pragma: no cover - the loop returns or raises

    async def _not_accepted(self, chosen: FindingFilter, accepted: set[tuple[UUID, str]]) -> list[dict[str, Any]]:
        """Of findings that were named one by one, those that were not accepted, each with the reason."""
        if not chosen.ids:
            return []
        told: list[dict[str, Any]] = []
        seen = {memory for memory, _ in accepted}
        for each in await self._findings.page(FindingFilter(ids=chosen.ids, closed=True), limit=len(chosen.ids) * 8):
            memory, cls = each["memory_id"], each["class"]
            seen.add(memory)
            if (memory, cls) not in accepted:
                told.append({"memory_id": memory, "class": cls, "why": _why_not(each)})
        told += [
            {"memory_id": each, "class": None, "why": "nothing was ever found of it"}
            for each in chosen.ids
            if each not in seen
        ]
        return told[:_TOLD]

    def _settled(self, action: str, count: int, actor: str) -> None:
        self._observer(FindingsSettled(self._tenant, action, count, actor))


def _in_states(chosen: FindingFilter, states: tuple[DivergenceState, ...]) -> FindingFilter:
    return FindingFilter(
        chosen.ids, states, chosen.classes, chosen.source, chosen.namespace_kind, chosen.workspace_id, chosen.group
    )


def _nothing(refused: list[dict[str, Any]], what: str, rule: str) -> CutoverError:
    if refused:
        return Conflict(f"nothing was accepted: {refused[0]['why']}", next_step=rule)
    return NotFound(what, next_step="cutover divergence list --groups")


def _why_not(finding: dict[str, Any]) -> str:
    if finding["closed_at"] is not None:
        return f"it went away ({finding['closed_by']})"
    return {
        DivergenceState.SUSPECT: "it is a suspicion: one look only, the next sweep confirms it or closes it",
        DivergenceState.ACCEPTED: f"{finding['accepted_by']} has accepted it already",
        DivergenceState.REPAIRED: "it is being repaired: the next sweep says whether that helped",
    }.get(DivergenceState(finding["state"]), "it changed meanwhile")


def _by_class(found: list[tuple[UUID, str]]) -> dict[str, int]:
    classes = [cls for _, cls in found]
    return {cls: classes.count(cls) for cls in sorted(set(classes))}


def _cursor(text: str | None) -> tuple[UUID, str] | None:
    if text is None:
        return None
    memory, _, cls = text.partition("/")
    try:
        return UUID(memory), cls
    except ValueError:
        raise InvalidRequest("after is not the `next` of a page", next_step="begin without `after`") from None


def _age(moment: datetime) -> float:
    return round((datetime.now(UTC) - moment).total_seconds(), 1)


def _run(run: Run) -> dict[str, Any]:
    return {
        "run": run.id,
        "kind": run.kind.removeprefix("sweep."),
        "state": run.state,
        "requested_by": run.requested_by,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "outcome": run.outcome,
    }
