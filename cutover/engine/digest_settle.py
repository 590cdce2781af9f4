"""The second look: everything open is looked at again, T_z after its first look (architecture §4).

What both looks saw, with nothing delivered in between, is confirmed. What is in order is closed. What keeps changing is
looked at again, a few rounds long. Creation times are set right at once: nothing but the order hangs on them.
"""

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from uuid import UUID

from cutover.domain.divergence import Decision, DivergenceClass, DivergenceState, decide
from cutover.engine.digest_look import Look, look_at, suspicion
from cutover.stores.digest import DigestReader, Limits
from cutover.stores.digest_findings import DigestFindings, OpenFinding, Pair, Suspicion

_LOOK = 500
"""Memories per look."""
_FEW = 10_000
"""So many open findings are looked at again by every sweep; more by full ones only."""

MendTimes = Callable[[Mapping[UUID, datetime]], Awaitable[frozenset[UUID]]]
"""Sets creation times in the plugin's database; gives the ids that were changed."""
Pause = Callable[[float, str], Awaitable[None]]
"""Waits so many seconds, showing why."""


class SecondLooks:
    """The second looks of one sweep. Raises the errors of `DigestReader` and `DigestFindings`."""

    def __init__(
        self,
        reader: DigestReader,
        findings: DigestFindings,
        run: UUID,
        salt: bytes,
        limits: Limits,
        *,
        t_z: float,
        rounds: int,
        mend_times: MendTimes,
        pause: Pause,
        check_phase: Callable[[], Awaitable[object]],
        rest: Callable[[float], Awaitable[None]],
        everything: bool,
    ) -> None:
        """`everything`: not only suspects, all that is open; else that only while there is not much of it."""
        self._everything = everything
        self._reader = reader
        self._findings = findings
        self._run = run
        self._salt = salt
        self._limits = limits
        self._t_z = t_z
        self._rounds = rounds
        self._mend_times = mend_times
        self._pause = pause
        self._check_phase = check_phase
        self._rest = rest
        self.mended = 0
        """Creation times that were set right."""

    async def settle(self) -> int:
        """Look again at everything that is open until it is decided; gives how many findings stayed undecided."""
        open_ = await self._findings.count_open()
        few = sum(sum(classes.values()) for classes in open_.values()) <= _FEW
        for number in range(self._rounds):
            latest = await self._pass(everything=number == 0 and (self._everything or few))
            if latest is None:
                return 0
            if number < self._rounds - 1:
                now = (await self._reader.situation()).at
                await self._pause((latest - now).total_seconds() + self._t_z, "second look after T_z")
        return sum((await self._findings.count_open())[DivergenceState.SUSPECT].values())

    async def _pass(self, *, everything: bool) -> datetime | None:
        """One pass over what is open (after the first only over suspects). Gives the time of the latest look that still
        waits for another, or None when all is decided."""
        past: UUID | None = None
        latest: datetime | None = None
        while page := await self._findings.open(past, _LOOK):
            past = page[-1].memory_id
            by_id: dict[UUID, list[OpenFinding]] = {}
            for each in page:
                by_id.setdefault(each.memory_id, []).append(each)
            wanted = {
                memory_id: mine
                for memory_id, mine in by_id.items()
                if everything or any(each.state is DivergenceState.SUSPECT for each in mine)
            }
            if wanted:
                await self._check_phase()
                started = time.monotonic()
                waiting = await self._look_again(wanted)
                await self._rest(time.monotonic() - started)
                latest = max((each for each in (latest, waiting) if each is not None), default=None)
        return latest

    async def _look_again(self, open_: Mapping[UUID, list[OpenFinding]]) -> datetime | None:
        since = {memory_id: min(mine, key=lambda each: each.looked_at).snapshot for memory_id, mine in open_.items()}
        look = await look_at(self._reader, self._salt, sorted(open_), self._limits, since=since, reached=True)
        decisions: dict[UUID, Decision] = {}
        waiting: list[datetime] = []
        for memory_id, mine in open_.items():
            seen = look.seen[memory_id]
            looked_at = max(
                (each.looked_at for each in mine if each.state is DivergenceState.SUSPECT), default=look.situation.at
            )
            decision = decide(
                {each.what: each.state for each in mine},
                frozenset() if seen.about.planted else seen.classes,
                seconds_between=(look.situation.at - looked_at).total_seconds(),
                t_z=self._t_z,
                delivered_between=seen.delivered_since,
                unsettled=seen.unsettled,
            )
            decisions[memory_id] = decision
            if decision.undecided:
                waiting.append(looked_at if decision.kept and not decision.fresh else look.situation.at)
        await self._put_down(look, decisions)
        return max(waiting, default=None)

    async def _put_down(self, look: Look, decisions: Mapping[UUID, Decision]) -> None:
        confirmed = [(id_, each) for id_, decision in decisions.items() for each in decision.confirmed]
        await self._findings.settle(
            self._run,
            look.situation,
            confirmed=confirmed,
            renewed=[(id_, each) for id_, decision in decisions.items() for each in decision.renewed],
            gone=[(id_, each) for id_, decision in decisions.items() for each in decision.gone],
        )
        fresh: list[Suspicion] = [
            suspicion(look.seen[id_], decision.fresh) for id_, decision in decisions.items() if decision.fresh
        ]
        await self._findings.suspect(self._run, look.situation, fresh)
        await self._mend(confirmed, look)

    async def _mend(self, confirmed: Iterable[Pair], look: Look) -> None:
        wrong = [memory_id for memory_id, what in confirmed if what is DivergenceClass.CREATED_AT]
        times = {
            memory_id: row.state.created_at
            for memory_id in wrong
            if (row := look.seen[memory_id].expected) is not None and row.state.created_at is not None
        }
        if times:
            changed = await self._mend_times(times)
            self.mended += len(changed)
            pairs = [(memory_id, DivergenceClass.CREATED_AT) for memory_id in changed]
            await self._findings.settle(self._run, look.situation, gone=pairs, closed_by="sweep")
