"""The write protocol against a dictionary (architecture §3, invariants I1 to I8), on the real stack.

Hypothesis chooses what happens: writes on both faces, direct SQL, other parents, lost and late answers, a plugin that
is down, daemons that are killed, backfills and phase changes forth and back. The model is a dictionary of what callers
were told. Whenever everything has come to rest, the stores must show exactly that.

The machine itself is synchronous; the stack runs in a thread of its own, so that time passes for it between the steps.
A request is late by less than T_z, because that is what T_z promises.
"""

# ruff: noqa: PT017 - which errors are in order depends on the phase; a clause says so more plainly than a match

import asyncio
import contextlib
import threading
from collections import Counter, deque
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from uuid import UUID, uuid4

from hypothesis import HealthCheck, seed, settings
from hypothesis import Phase as Stage
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from cutover.domain.backfill import Via
from cutover.domain.breaker import BreakerState
from cutover.domain.errors import CutoverError, DatabaseFault, IllegalStep, Refused
from cutover.domain.memory import Kind
from cutover.domain.namespace import Scope
from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import Fault, Forward, ProxiedAnswer, ProxiedRequest, answer, delay, drop, swallow
from cutover.embedded.processes import until
from tests.conftest import DatabaseTemplates
from tests.integration.protocol_scene import Scene, refused, scene
from tests.integration.read_scene import CHILD, GRANDCHILD, ROOT, SIBLING, STRANGER

T = TypeVar("T")
QUARANTINE = 0.9
LATE = 0.4
FAULTS: dict[str, Fault] = {"lost": drop(), "swallowed": swallow(), "late": delay(LATE), "refused": answer(500)}
PLACES = [
    (CHILD, Scope.LOCAL),
    (CHILD, Scope.TEAM),
    (GRANDCHILD, Scope.TEAM),
    (SIBLING, Scope.LOCAL),
    (ROOT, Scope.GLOBAL),
]
MOVES = [(CHILD, ROOT), (CHILD, STRANGER), (CHILD, None), (GRANDCHILD, CHILD), (GRANDCHILD, ROOT)]
UNDERSTOOD = {"unresolved", "plugin_unhealthy", "busy"}


@dataclass(frozen=True)
class Held:
    """One memory as callers were told. `namespace` is set for natives only: the others' follow the tree."""

    content: str
    label: str
    workspace: UUID | None
    scope: Scope | None
    namespace: str | None = None

    @property
    def native(self) -> bool:
        return self.namespace is not None

    def shown(self) -> tuple[Any, ...]:
        """What every store can tell of it."""
        if self.native:
            return (self.content, self.namespace)
        return (self.content, self.label, self.workspace, self.scope)


class Gauntlet:
    """What stands before the plugin: at most one request per memory may ever be under way (I4)."""

    def __init__(self) -> None:
        self.faults: deque[Fault] = deque()
        self.under_way: Counter[str] = Counter()
        self.together: list[str] = []

    @staticmethod
    def match(request: ProxiedRequest) -> bool:
        body = request.body
        return (
            b"cutover-canary" not in body
            and "cutover-canary" not in request.target
            and (request.target.endswith("/memories") or "/v1/memories/" in request.target)
        )

    async def act(self, request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        memory = request.json()["id"] if request.method == "POST" else request.path.rsplit("/", 1)[1]
        self.under_way[memory] += 1
        if self.under_way[memory] > 1:
            self.together.append(memory)
        try:
            return await (self.faults.popleft()(request, forward) if self.faults else forward(request))
        finally:
            self.under_way[memory] -= 1


class Stack:
    """The event loop's thread, and the scene in it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, name="stack")
        self.thread.start()

    def run(self, work: Coroutine[Any, Any, T], timeout: float = 90.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self.loop).result(timeout)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()


class Protocol(RuleBasedStateMachine):
    """See the module."""

    stack: Stack
    templates: DatabaseTemplates
    reached: Counter[str]

    def __init__(self) -> None:
        super().__init__()
        self.model: dict[UUID, Held] = {}
        self.deleted: set[UUID] = set()
        self.keys: dict[str, tuple[UUID, str, tuple[UUID, Scope], str]] = {}
        self.touched: set[UUID] = set()
        self.frozen: dict[UUID, str] | None = None
        self.phase = Phase.A0
        self.backfilled = False
        self.words = 0
        self.gauntlet = Gauntlet()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.stack.run(work)

    @initialize(steps=st.integers(0, 3))
    def open(self, steps: int) -> None:
        self.run(self._open())
        for _ in range(steps):
            self.forward()

    async def _open(self) -> None:
        self.closing = AsyncExitStack()
        self.name = await self.templates.copy(embedding=False, status_enum=False)
        url = self.templates.server.url(self.name)
        self.s: Scene = await self.closing.enter_async_context(scene(url, quarantine=QUARANTINE))
        assert self.s.proxy is not None
        self.s.proxy.rule(Gauntlet.match, self.gauntlet.act)

    def teardown(self) -> None:
        if not hasattr(self, "s"):
            return
        try:
            self.run(self._rest())
        finally:
            self.run(self._close())

    async def _close(self) -> None:
        await self.closing.aclose()
        await self.templates.server.drop_database(self.name)

    # -- writes ----------------------------------------

    def _word(self) -> str:
        self.words += 1
        return f"word {self.words}"

    def _tell(self, memory_id: UUID, held: Held | None) -> None:
        self.touched.add(memory_id)
        if held is None:
            del self.model[memory_id]
            self.deleted.add(memory_id)
        else:
            self.model[memory_id] = held
            self.deleted.discard(memory_id)

    def _attempt(self, what: str, work: Coroutine[Any, Any, T], *, native: bool = False) -> T | None:
        """The answer, or None where a refusal is in order: in A3 and for natives the plugin's word is waited for."""
        try:
            result = self.run(work)
        except Refused as refused:
            assert native or self.phase is Phase.A3, f"{what} was refused in {self.phase}: {refused.message}"
            assert refused.reason in UNDERSTOOD, refused.reason
            self.reached[f"{what} refused"] += 1
            return None
        self.reached[f"{what} in {self.phase}"] += 1
        return result

    def _pick(self, index: int, *, native: bool | None = None) -> UUID | None:
        ids = [each for each, held in self.model.items() if native is None or held.native is native]
        return ids[index % len(ids)] if ids else None

    @rule(place=st.sampled_from(PLACES), label=st.sampled_from(["general", "facts"]), keyed=st.booleans())
    def create(self, place: tuple[UUID, Scope], label: str, keyed: bool) -> None:
        word, key = self._word(), f"key {self.words}" if keyed else None
        made = self._attempt("create", self.s.create(place[0], word, place[1], label=label, key=key))
        if made is not None:
            self._tell(made.id, Held(word, label, *place))
            if key is not None:
                self.keys[key] = (made.id, word, place, label)

    @precondition(lambda self: self.keys)
    @rule(index=st.integers(0, 99))
    def repeat_a_create(self, index: int) -> None:
        key = sorted(self.keys)[index % len(self.keys)]
        memory_id, word, place, label = self.keys[key]
        try:
            again = self.run(self.s.create(place[0], word, place[1], label=label, key=key))
        except CutoverError as error:
            assert error.status == 409, error  # a later write of the memory is not settled yet
            assert self.phase is Phase.A3
            return
        assert again.id == memory_id

    @rule(index=st.integers(0, 99), label=st.sampled_from([None, None, "facts", "procedures"]))
    def edit(self, index: int, label: str | None) -> None:
        memory_id = self._pick(index, native=False)
        if memory_id is None:
            return
        held, word = self.model[memory_id], self._word()
        assert held.workspace is not None
        if self._attempt("edit", self.s.edit(held.workspace, memory_id, word, label)) is not None:
            self._tell(memory_id, replace(held, content=word, label=label or held.label))

    @rule(index=st.integers(0, 99))
    def delete(self, index: int) -> None:
        memory_id = self._pick(index, native=False)
        if memory_id is None:
            return
        held = self.model[memory_id]
        assert held.workspace is not None

        async def done() -> bool:
            assert held.workspace is not None
            await self.s.delete(held.workspace, memory_id)
            return True

        if self._attempt("delete", done()):
            self._tell(memory_id, None)

    @precondition(lambda self: self.phase is not Phase.A0)
    @rule(name=st.sampled_from([f"workspace:{CHILD}", f"workspace:{SIBLING}", "custom:notes"]))
    def commit_native(self, name: str) -> None:
        word = self._word()
        made = self._attempt("native", self.s.commit(name, word, Kind.SUMMARY), native=True)
        if made is not None:
            self._tell(made.id, Held(word, "general", None, None, name))

    @precondition(lambda self: self.phase is not Phase.A0)
    @rule(index=st.integers(0, 99))
    def forget_native(self, index: int) -> None:
        memory_id = self._pick(index, native=True)
        if memory_id is None:
            return
        name = self.model[memory_id].namespace
        assert name is not None

        async def done() -> bool:
            await self.s.forget(name, memory_id)
            return True

        if self._attempt("forget", done(), native=True):
            self._tell(memory_id, None)

    @precondition(lambda self: self.phase is not Phase.A0)
    @rule(index=st.integers(0, 99), to_native=st.booleans())
    def commit_over(self, index: int, to_native: bool) -> None:
        """The contract's upsert over an id that is taken: as it is, or to the other side."""
        ids = [
            each
            for each, held in self.model.items()
            if held.scope is Scope.LOCAL or (held.namespace or "").startswith("workspace:")
        ]
        if not ids:
            return
        memory_id = ids[index % len(ids)]
        held, word = self.model[memory_id], self._word()
        name = held.namespace or f"workspace:{held.workspace}"
        kind = Kind.SUMMARY if to_native else Kind.FACT
        journaled = to_native or self.phase is Phase.A3
        made = self._attempt("commit over", self.s.commit(name, word, kind, id=memory_id), native=journaled)
        if made is None:
            return
        if to_native:
            self._tell(memory_id, Held(word, held.label, None, None, name))
        else:
            self._tell(memory_id, Held(word, held.label, UUID(name.partition(":")[2]), Scope.LOCAL))

    # -- past the daemon ----------------------------------------

    @rule(place=st.sampled_from(PLACES))
    def insert_by_sql(self, place: tuple[UUID, Scope]) -> None:
        word, memory_id = self._word(), uuid4()
        inserting = self.s.insert(place[0], word, place[1].value, id=memory_id)
        if self.phase is Phase.A3:
            self.run(refused(inserting, DatabaseFault))  # frozen
        else:
            self.run(inserting)
            self._tell(memory_id, Held(word, "general", *place))

    @precondition(lambda self: self.phase is not Phase.A3)
    @rule(index=st.integers(0, 99))
    def update_by_sql(self, index: int) -> None:
        memory_id = self._pick(index, native=False)
        if memory_id is not None:
            word = self._word()
            sql = "UPDATE agent_memories SET content = $2 WHERE id = $1"
            self.run(self.s.database.execute(sql, memory_id, word))
            self._tell(memory_id, replace(self.model[memory_id], content=word))

    @precondition(lambda self: self.phase in (Phase.A1, Phase.A2))
    @rule(index=st.integers(0, 99), ours=st.booleans(), gone=st.booleans())
    def sql_beside_a_delivery(self, index: int, ours: bool, gone: bool) -> None:
        """Somebody else changes the row while its earlier state is on its way to the plugin."""
        memory_id = self._pick(index, native=False)
        if memory_id is not None:
            first, second = self._word(), self._word()
            self.run(self._sql_beside_a_delivery(memory_id, first, second, ours=ours, gone=gone))
            self._tell(memory_id, None if gone else replace(self.model[memory_id], content=second))

    async def _sql_beside_a_delivery(self, memory_id: UUID, first: str, second: str, *, ours: bool, gone: bool) -> None:
        workspace = self.model[memory_id].workspace
        assert workspace is not None
        update = "UPDATE agent_memories SET content = $2 WHERE id = $1"
        sending, go_on = asyncio.Event(), asyncio.Event()

        async def slow(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
            sending.set()
            await go_on.wait()
            return await forward(request)

        self.gauntlet.faults.appendleft(slow)
        mine, theirs = self.s.edit, self.s.database.execute
        writing: asyncio.Task[object] = asyncio.create_task(
            mine(workspace, memory_id, first) if ours else theirs(update, memory_id, first)
        )
        with contextlib.suppress(TimeoutError):  # its mark may have to wait for T_z first
            await asyncio.wait_for(sending.wait(), 0.25)
        if gone:
            await self.s.database.execute("DELETE FROM agent_memories WHERE id = $1", memory_id)
        else:
            await self.s.database.execute(update, memory_id, second)
        go_on.set()
        await writing
        if slow in self.gauntlet.faults:
            self.gauntlet.faults.remove(slow)

    @rule(index=st.integers(0, 99))
    def delete_by_sql(self, index: int) -> None:
        memory_id = self._pick(index, native=False)
        if memory_id is not None:
            done = self.run(self.s.database.execute("DELETE FROM agent_memories WHERE id = $1", memory_id))
            if done == "DELETE 1":  # in A3 newer memories are not in legacy
                self._tell(memory_id, None)
            self._refreeze()

    @rule(move=st.sampled_from(MOVES))
    def reparent(self, move: tuple[UUID, UUID | None]) -> None:
        self.run(self.s.database.execute("UPDATE workspaces SET parent_id = $2 WHERE id = $1", *move))

    def _refreeze(self) -> None:
        if self.phase is Phase.A3:
            self.frozen = self.run(self._legacy_contents())

    # -- what goes wrong ----------------------------------------

    @rule(faults=st.lists(st.sampled_from(sorted(FAULTS)), min_size=1, max_size=3))
    def misbehave(self, faults: list[str]) -> None:
        self.gauntlet.faults.extend(FAULTS[fault] for fault in faults)

    @precondition(lambda self: self.phase is not Phase.A0)
    @rule()
    def plugin_down(self) -> None:
        """A closed gate: nothing is written anywhere (I6)."""
        self.run(self._plugin_down())

    async def _plugin_down(self) -> None:
        assert self.s.proxy is not None
        await self.s.proxy.refuse()
        await self._health(up=False)
        before = await self._rows()
        for write in (self.s.create(CHILD, "never"), self.s.commit("custom:notes", "never", Kind.SUMMARY)):
            try:
                await write
            except Refused as refused:
                assert refused.reason == "plugin_unhealthy"
            else:
                raise AssertionError("a write was let in while the plugin was down")
        assert await self._rows() == before
        await self.s.proxy.accept()
        await self._health(up=True)

    async def _rows(self) -> tuple[int, int]:
        return await self.s.count("agent_memories"), await self.s.count("cutover.journal")

    async def _health(self, *, up: bool) -> None:
        async def seen() -> bool:
            health = [each.tenant.health for each in self.s.daemons if each.alive]
            if up:  # after the breaker's ramp
                return all(each.admit().ok and each.breaker.state is BreakerState.CLOSED for each in health)
            return not any(each.up for each in health)

        await until(seen, "the probes", timeout=10, every=0.02)

    @rule()
    def kill_the_daemon(self) -> None:
        self.run(self._kill())

    async def _kill(self) -> None:
        for daemon in [each for each in self.s.daemons if each.alive]:
            await daemon.abandon()
        await self._nothing_held_back()
        await self.s.daemon()

    @precondition(lambda self: len([each for each in self.s.daemons if each.alive]) < 2)
    @rule()
    def another_daemon(self) -> None:
        self.run(self.s.daemon())

    @rule(index=st.integers(0, 99), place=st.sampled_from(PLACES), new=st.booleans())
    def kill_the_daemon_in_a_write(self, index: int, place: tuple[UUID, Scope], new: bool) -> None:
        """Nobody was told anything: the old state or the new one, and both stores the same."""
        memory_id = None if new else self._pick(index, native=False)
        word = self._word()
        self.run(self._rest())
        before = self.run(self._shown())
        self.run(self._kill_in_a_write(memory_id, word, place))
        self.run(self._rest(check=False))
        after = self.run(self._shown())
        for each in before.keys() | after.keys():
            if after.get(each) == before.get(each):
                continue
            assert after[each][0] == word, (before.get(each), after.get(each))
            old = self.model.get(each)
            self._tell(each, Held(word, "general", *place) if old is None else replace(old, content=word))
        self.reached["killed in a write"] += 1

    async def _kill_in_a_write(self, memory_id: UUID | None, word: str, place: tuple[UUID, Scope]) -> None:
        daemon = self.s.daemons[-1]
        assert self.s.proxy is not None
        sending = asyncio.Event()

        async def late(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
            sending.set()
            await asyncio.sleep(LATE)
            return await forward(request)

        self.gauntlet.faults.appendleft(late)
        if memory_id is None:
            request: asyncio.Task[Any] = daemon.start(self.s.create(place[0], word, place[1]))
        else:
            workspace = self.model[memory_id].workspace
            assert workspace is not None
            request = daemon.start(self.s.edit(workspace, memory_id, word))
        waiting = asyncio.create_task(sending.wait())
        await asyncio.wait({request, waiting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if late in self.gauntlet.faults:
            self.gauntlet.faults.remove(late)
        await self._kill()

    async def _nothing_held_back(self) -> None:
        """The dead cannot send any more, so what they leased is over as soon as the latest request has arrived. This
        only saves the wait for a claim's own lease time."""
        await self.s.database.execute(
            "UPDATE cutover.mark SET due_at = least(due_at, now() + make_interval(secs => $1)) WHERE ambiguous",
            QUARANTINE + LATE,
        )

    # -- phases ----------------------------------------

    @rule()
    def forward(self) -> None:
        if self.phase is not Phase.A3:
            self._step(Phase(f"A{self.phase.order + 1}"))

    @rule()
    def back(self) -> None:
        if self.phase is not Phase.A0:
            self._step(Phase(f"A{self.phase.order - 1}"))

    def _step(self, target: Phase) -> None:
        if target is Phase.A3:
            if not self.backfilled:
                self.backfill()
            self.gauntlet.faults.clear()
        try:
            self.run(self.s.step(target))
        except IllegalStep as error:
            assert target is Phase.A3, error.message
            self.reached["not promoted"] += 1
            return
        if (self.phase, target) == (Phase.A3, Phase.A2):
            self.run(self.s.tenant.thaw.by_hand("test", "SQL goes on here"))  # others write again from here on
        if (self.phase, target) == (Phase.A0, Phase.A1):
            self.touched, self.backfilled = set(), False
        self.phase = target
        self.reached[f"reached {target}"] += 1
        self.frozen = self.run(self._legacy_contents()) if target is Phase.A3 else None

    @precondition(lambda self: self.phase is Phase.A2)
    @rule(via=st.sampled_from(Via), again=st.booleans())
    def backfill(self, via: Via = Via.AUTO, again: bool = False) -> None:
        """`again`: from the first row on, over whatever the plugin holds by now."""
        progress = self.run(self._backfill(via, again=again))
        assert progress["state"] == "finished", progress
        self.backfilled = True
        self.reached[f"backfill by {progress['via']}"] += progress["scanned"] > 0

    async def _backfill(self, via: Via, *, again: bool) -> dict[str, Any]:
        if again:
            await self.s.database.execute("DELETE FROM cutover.backfill_cursor")
        return await self.s.backfill(via=via)

    @precondition(lambda self: self.phase is Phase.A2)
    @rule(via=st.sampled_from(Via), index=st.integers(0, 99), ours=st.booleans(), gone=st.booleans())
    def write_beside_a_backfill(self, via: Via, index: int, ours: bool, gone: bool) -> None:
        memory_id = self._pick(index, native=False)
        if memory_id is None:
            return
        held, word = self.model[memory_id], self._word()
        assert held.workspace is not None
        progress = self.run(self._write_beside_a_backfill(via, memory_id, held.workspace, word, ours=ours, gone=gone))
        assert progress["state"] == "finished", progress
        self.backfilled = True
        self._tell(memory_id, None if gone else replace(held, content=word))
        self.reached[f"write beside {progress['via']}"] += 1

    async def _write_beside_a_backfill(
        self, via: Via, memory_id: UUID, workspace: UUID, word: str, *, ours: bool, gone: bool
    ) -> dict[str, Any]:
        copying = asyncio.create_task(self._backfill(via, again=True))
        await asyncio.sleep(0)
        if ours:
            await (self.s.delete(workspace, memory_id) if gone else self.s.edit(workspace, memory_id, word))
        elif gone:
            await self.s.database.execute("DELETE FROM agent_memories WHERE id = $1", memory_id)
        else:
            await self.s.database.execute("UPDATE agent_memories SET content = $2 WHERE id = $1", memory_id, word)
        return await copying

    # -- at rest ----------------------------------------

    @invariant()
    def one_request_per_memory(self) -> None:
        assert self.gauntlet.together == []

    @rule()
    def rest(self) -> None:
        self.run(self._rest())

    async def _rest(self, *, check: bool = True) -> None:
        self.gauntlet.faults.clear()
        if self.phase is not Phase.A0:
            await self.s.quiet(timeout=30)  # I8
        else:
            await asyncio.sleep(0)
        if check:
            await self._check()

    async def _shown(self) -> dict[UUID, tuple[Any, ...]]:
        """What callers can see of every memory."""
        shown: dict[UUID, tuple[Any, ...]] = {}
        if self.phase is Phase.A3:
            for row in await self.s.database.fetch(_PLUGIN):
                if row["scope"] is None:
                    shown[row["id"]] = (row["content"], row["namespace"])
                else:
                    shown[row["id"]] = (row["content"], row["label"], UUID(row["workspace"]), Scope(row["scope"]))
            return shown
        for row in await self.s.database.fetch("SELECT * FROM agent_memories"):
            shown[row["id"]] = (row["content"], row["namespace"], row["workspace_id"], Scope(row["scope"]))
        for row in await self.s.database.fetch("SELECT * FROM cutover.native"):
            assert row["memory_id"] not in shown
            shown[row["memory_id"]] = (row["content"], row["namespace"])
        return shown

    async def _legacy_contents(self) -> dict[UUID, str]:
        return {
            row["id"]: row["content"] for row in await self.s.database.fetch("SELECT id, content FROM agent_memories")
        }

    async def _check(self) -> None:
        told = {memory_id: held.shown() for memory_id, held in self.model.items()}
        assert await self._shown() == told  # I2, I3
        if self.phase is Phase.A0:
            return
        differences = await self.s.differences()
        if self.phase is Phase.A3 or self.backfilled:
            assert differences == []  # I1
        else:
            # What has not been touched in this stay is the backfill's to copy, or to mend.
            touched = {str(each) for each in self.touched | self.deleted}
            assert [each for each in differences if any(memory_id in each for memory_id in touched)] == []
            assert [each for each in differences if each.startswith("extra")] == []
        if self.phase is Phase.A3:
            assert await self._legacy_contents() == self.frozen  # I5
        sweep = await self.s.sweep()
        assert sweep["unexplained"] == 0, sweep
        self.reached[f"checked in {self.phase}"] += 1


_PLUGIN = """
SELECT id, content, namespace, propagation -> 'cutover' ->> 'namespace' AS label,
       propagation -> 'cutover' ->> 'workspace_id' AS workspace, propagation -> 'cutover' ->> 'scope' AS scope
FROM memory_plugin.memory_records WHERE namespace NOT LIKE 'custom:cutover-%'
"""


def test_the_protocol_keeps_what_callers_were_told(database_templates: DatabaseTemplates) -> None:
    Protocol.stack = Stack()
    Protocol.templates = database_templates
    Protocol.reached = Counter()
    try:
        run_state_machine_as_test(
            seed(20260401)(Protocol),
            settings=settings(
                max_examples=20,
                stateful_step_count=30,
                deadline=None,
                database=None,
                phases=(Stage.generate,),
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            ),
        )
    finally:
        Protocol.stack.close()
    for phase in ("A1", "A2", "A3"):
        assert Protocol.reached[f"reached {phase}"], Protocol.reached
        assert Protocol.reached[f"checked in {phase}"], Protocol.reached
