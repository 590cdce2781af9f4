"""An explicit-state model of the mark protocol (architecture §3), searched breadth first.

One memory, because memories do not depend on each other. Two daemons, each with one sender at a time: the request path
(which takes the lease in its own write's transaction) or the reconciler (which claims a mark, then reads row and
revision in one snapshot). Around them everything that can happen: edits and deletes, writers that bypass the daemons,
a request that the plugin applies long after its sender gave up, refusals, lost answers, crashes, a lease that runs out
under a sender that is only slow, and the backfill.

Time is modelled by what it guarantees. The quarantine time T_z has passed when no request can be applied any more, so
"wait for T_z" is "the network is empty". A sender looks at its own clock before it sends, so one whose lease ran out
does not send.

A value is the revision that wrote it, 0 is "no such memory". Nothing may ever be silently different: legacy and plugin
disagree, no mark says so, and the backfill has passed. A `Policy` with one rule of the protocol broken must lead there;
the search then gives back a shortest sequence of events that does.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

NO_LEASE = 0
BACKFILL_LEASE = -1
"""Marks the one request that a backfill sends itself, in the variants where it does."""

Step = Literal["peeked", "claimed", "ready", "waiting", "answered", "refused", "locked", "looked", "wrote"]
"""The last three are the set-based copy's."""


@dataclass(frozen=True, slots=True)
class Policy:
    """Which protocol is modelled, and how much may happen. The defaults are the real one."""

    marks: bool = True
    """False: a plain dual write, legacy then plugin, with nothing durable in between."""
    clear: Literal["rev and lease", "rev", "blind"] = "rev and lease"
    quarantine: Literal["persisted", "memory", "none"] = "persisted"
    capture: Literal["trigger", "application"] = "trigger"
    backfill: Literal["none", "marks", "upserts", "inserts if absent", "copies"] = "none"
    """`copies`: the set-based copy of decision 0013, in its steps: lock the row, look for a mark, write, look again."""
    copy_locks: bool = True
    """False: the copy reads without a lock, so that a live change of the row need not wait for it."""
    copy_leaves: Literal["requested", "leased", "nothing"] = "requested"
    """Which marked rows the copy leaves to their senders; of any other it takes the mark over, copies the row and
    clears the mark. `requested`: those for which a request may be on its way. (The real one takes its own only.)"""
    copy_looks_again: bool = True
    """False: what came without the row's lock while the copy wrote is not looked for."""
    moves: bool = False
    """Whether what is expected of the plugin can change, with a mark, without the row's lock: its place in the tree."""
    snapshot: Literal["after the claim", "before the claim"] = "after the claim"
    exclusive: bool = True
    """False: an edit sends its revision although somebody else's request is on its way."""
    own_clock: bool = True
    """False: a sender that was slow sends although its lease ran out."""
    bypass: bool = True
    writes: int = 3
    sends: int = 4
    crashes: int = 1
    leases_run_out: bool = True


class Mark(NamedTuple):
    """The mark's row. `ambiguous`: a request of an earlier lease may still be applied, so wait for T_z."""

    rev: int
    lease: int
    ambiguous: bool


class Request(NamedTuple):
    """On its way to the plugin, which may apply it at any time or never."""

    lease: int
    value: int


class Sender(NamedTuple):
    """What a daemon (or a backfill that sends) is in the middle of. `rev` and `value` are what it read."""

    step: Step
    lease: int
    rev: int
    value: int


class State(NamedTuple):
    """All of the world that the protocol can see or lose."""

    rev: int
    legacy: int
    plugin: int
    mark: Mark | None
    network: frozenset[Request]
    senders: tuple[Sender | None, ...]
    backfill: Sender | Literal["to do", "done"]
    leases: int
    crashes: int


Move = tuple[str, State]


@dataclass(frozen=True, slots=True)
class Found:
    """What the search saw. `trace` is a shortest way to the violation, empty when there is none."""

    states: int
    violation: str | None
    trace: tuple[str, ...]


def initial(policy: Policy) -> State:
    """An empty world; where there is a backfill, with one legacy row from before the triggers."""
    old = 1 if policy.backfill != "none" else 0
    return State(old, old, 0, None, frozenset(), (None, None), "to do" if old else "done", 0, 0)


def silent_divergence(policy: Policy, state: State) -> str | None:
    """I1: stores differ ⇒ marked, or not yet reached by the backfill."""
    if state.legacy == state.plugin or state.mark is not None or state.backfill != "done":
        return None
    if not policy.marks and any(state.senders):
        return None  # a plain dual write is not blamed while its caller still waits for the answer
    return f"silent divergence: legacy {_shown(state.legacy)}, plugin {_shown(state.plugin)}, no mark"


def two_requests_at_once(policy: Policy, state: State) -> str | None:
    """I4: at most one request per memory that may still be applied."""
    del policy
    return "two requests for one memory at once" if len(state.network) > 1 else None


def search(
    policy: Policy, broken: Callable[[Policy, State], str | None] = silent_divergence, *, limit: int = 3_000_000
) -> Found:
    """Visit every reachable state. Raises RuntimeError at `limit`: a search that was cut short proves nothing."""
    start = initial(policy)
    came_from: dict[State, tuple[State, str] | None] = {start: None}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        violation = broken(policy, state)
        if violation is not None:
            return Found(len(came_from), violation, _trace(came_from, state))
        for event, following in moves(policy, state):
            if following not in came_from:
                came_from[following] = (state, event)
                queue.append(following)
        if len(came_from) > limit:
            raise RuntimeError(f"more than {limit} states: lower the policy's bounds")
    return Found(len(came_from), None, ())


def cannot_drain(policy: Policy) -> list[State]:
    """Reachable states, with a send left to spend, from which no path leads to equal stores without a mark (I8)."""
    start = initial(policy)
    before: dict[State, list[State]] = {start: []}
    queue = deque([start])
    while queue:
        state = queue.popleft()
        for _, following in moves(policy, state):
            if following not in before:
                before[following] = []
                queue.append(following)
            before[following].append(state)
    drained = deque(s for s in before if s.mark is None and s.legacy == s.plugin and s.backfill == "done")
    can_drain = set(drained)
    while drained:
        for earlier in before[drained.popleft()]:
            if earlier not in can_drain:
                can_drain.add(earlier)
                drained.append(earlier)
    return [state for state in before if state.leases < policy.sends and state not in can_drain]


def moves(policy: Policy, state: State) -> Iterator[Move]:
    """Everything that can happen next."""
    yield from _writes(policy, state)
    yield from _network(policy, state)
    for daemon, sender in enumerate(state.senders):
        if sender is None:
            yield from _claims(policy, state, daemon)
        else:
            yield from _sender_moves(policy, state, daemon, sender)
    if policy.leases_run_out and state.mark is not None and state.mark.lease != NO_LEASE:
        yield f"lease {state.mark.lease} runs out", state._replace(mark=_released(policy, state.mark, definite=False))
    yield from _backfill(policy, state)


def _writes(policy: Policy, state: State) -> Iterator[Move]:
    """A write of legacy, the next revision: by a daemon's request path, or past the daemons."""
    if state.rev >= policy.writes:
        return
    rev = state.rev + 1
    if policy.moves and state.legacy and policy.marks:
        mark = state.mark._replace(rev=rev) if state.mark else Mark(rev, NO_LEASE, ambiguous=False)
        yield f"the tree moves it, r{rev}: mark, without the row's lock", state._replace(rev=rev, legacy=rev, mark=mark)
    if policy.copy_locks and isinstance(state.backfill, Sender) and policy.backfill == "copies":
        return  # whoever changes the row waits for the end of the copy's transaction
    for verb, value in (("edit", rev), ("delete", 0)) if state.legacy else (("create", rev),):
        written = state._replace(rev=rev, legacy=value)
        if not policy.marks:
            yield from _plain_dual_write(policy, written, f"{verb} r{rev}")
            continue
        mark = state.mark._replace(rev=rev) if state.mark else Mark(rev, NO_LEASE, ambiguous=False)
        marked = written._replace(mark=mark)
        # A daemon that may not send writes exactly this: legacy and a mark for the reconciler.
        yield f"{verb} r{rev}, not sent: legacy and mark", marked
        if policy.bypass and policy.capture == "application":
            yield f"{verb} r{rev} past the daemons: legacy only", written
        if state.leases < policy.sends and (_may_take(state) or not policy.exclusive):
            lease = state.leases + 1
            for daemon in _idle(state):
                taken = marked._replace(mark=Mark(rev, lease, policy.quarantine != "none"), leases=lease)
                sender = Sender("ready", lease, rev, value)
                yield f"{verb} r{rev} by daemon {daemon}: legacy, mark, lease {lease}", _with(taken, daemon, sender)


def _plain_dual_write(policy: Policy, written: State, what: str) -> Iterator[Move]:
    for daemon in _idle(written):
        if written.leases < policy.sends:
            lease = written.leases + 1
            sender = Sender("ready", lease, written.rev, written.legacy)
            yield f"{what} by daemon {daemon}: legacy", _with(written._replace(leases=lease), daemon, sender)


def _may_take(state: State) -> bool:
    """Whether a new lease may be taken: nobody has one, and T_z has passed where it must."""
    mark = state.mark
    return mark is None or (mark.lease == NO_LEASE and not (mark.ambiguous and state.network))


def _claims(policy: Policy, state: State, daemon: int) -> Iterator[Move]:
    """The reconciler finds a due mark."""
    if state.mark is None or state.leases >= policy.sends or not _may_take(state):
        return
    if policy.snapshot == "before the claim":
        yield (
            f"daemon {daemon} reads {_shown(state.legacy)}",
            _with(state, daemon, Sender("peeked", NO_LEASE, 0, state.legacy)),
        )
    else:
        yield _claimed(policy, state, daemon, state.mark, Sender("claimed", state.leases + 1, 0, 0))


def _claimed(policy: Policy, state: State, daemon: int, mark: Mark, sender: Sender) -> Move:
    lease = state.leases + 1
    taken = state._replace(mark=Mark(mark.rev, lease, policy.quarantine != "none"), leases=lease)
    return f"daemon {daemon} claims the mark at r{mark.rev}, lease {lease}", _with(taken, daemon, sender)


def _sender_moves(policy: Policy, state: State, daemon: int, sender: Sender) -> Iterator[Move]:
    who = f"daemon {daemon} (lease {sender.lease})"
    idle = _with(state, daemon, None)
    match sender.step:
        case "peeked":
            if state.mark is not None and state.leases < policy.sends and _may_take(state):
                ready = Sender("ready", state.leases + 1, state.mark.rev, sender.value)
                yield _claimed(policy, state, daemon, state.mark, ready)
            yield f"daemon {daemon} finds nothing to claim", idle
        case "claimed":
            ready = Sender("ready", sender.lease, state.rev, state.legacy)
            yield f"{who} reads row {_shown(state.legacy)} and r{state.rev}", _with(state, daemon, ready)
        case "ready":
            if not policy.marks or not policy.own_clock or _holds(state, sender):
                sent = state._replace(network=state.network | {Request(sender.lease, sender.value)})
                yield f"{who} sends {_shown(sender.value)}", _with(sent, daemon, sender._replace(step="waiting"))
            else:
                yield f"{who} sees that its lease ran out", idle
        case "waiting":
            yield f"{who} times out", idle._replace(mark=_left(policy, state, sender, definite=False))
        case "answered":
            yield f"{who} gets 2xx", idle._replace(mark=_cleared(policy, state, sender))
            yield f"{who} loses the answer, times out", idle._replace(mark=_left(policy, state, sender, definite=False))
        case "refused":
            yield f"{who} gets 5xx", idle._replace(mark=_left(policy, state, sender, definite=True))
    if state.crashes < policy.crashes:
        mark = state.mark
        if mark is not None and policy.quarantine == "memory":
            mark = mark._replace(ambiguous=False)  # who knew of the open request is gone
        yield f"daemon {daemon} crashes", idle._replace(mark=mark, crashes=state.crashes + 1)


def _network(policy: Policy, state: State) -> Iterator[Move]:
    """The plugin applies, refuses or never sees a request, whether or not somebody still waits for it."""
    for request in state.network:
        if _blocked(state, request):
            continue
        landed = state._replace(network=state.network - {request})
        taken = request.value
        if request.lease == BACKFILL_LEASE and policy.backfill == "inserts if absent" and state.plugin:
            taken = state.plugin
        applied = landed._replace(plugin=taken)
        waiting = [d for d, s in enumerate(state.senders) if s and s.lease == request.lease and s.step == "waiting"]
        if request.lease == BACKFILL_LEASE:
            yield f"plugin applies the backfill's {_shown(request.value)}", applied._replace(backfill="done")
        elif waiting:
            sender = state.senders[waiting[0]]
            assert sender is not None
            answered, refused = sender._replace(step="answered"), sender._replace(step="refused")
            yield f"plugin applies {_shown(request.value)}", _with(applied, waiting[0], answered)
            yield f"plugin refuses {_shown(request.value)}", _with(landed, waiting[0], refused)
        else:
            yield f"plugin applies {_shown(request.value)} LATE (lease {request.lease})", applied
            yield f"request of lease {request.lease} is lost", landed


def _backfill(policy: Policy, state: State) -> Iterator[Move]:
    if state.backfill == "to do" and policy.backfill == "marks":
        mark = state.mark or Mark(state.rev, NO_LEASE, ambiguous=False)
        yield "backfill marks the row", state._replace(backfill="done", mark=mark)
    elif policy.backfill == "copies":
        yield from _copy(policy, state)
    elif state.backfill == "to do":
        read = Sender("ready", BACKFILL_LEASE, state.rev, state.legacy)
        yield f"backfill reads {_shown(state.legacy)}", state._replace(backfill=read if state.legacy else "done")
    elif isinstance(state.backfill, Sender) and state.backfill.step == "ready":
        sent = state.network | {Request(BACKFILL_LEASE, state.backfill.value)}
        waiting = state.backfill._replace(step="waiting")
        yield f"backfill sends {_shown(state.backfill.value)}", state._replace(network=sent, backfill=waiting)


def _copy(policy: Policy, state: State) -> Iterator[Move]:
    """The set-based copy, one transaction in its steps. What it writes is seen with its commit; until then the plugin
    waits for its row, unless it is asked to forget one that is not there yet (`_blocked`). In the sender, `rev` is the
    revision at the first look."""
    copying = state.backfill
    if copying == "to do":
        yield "copy locks the row", state._replace(backfill=Sender("locked", NO_LEASE, 0, 0))
    elif not isinstance(copying, Sender):
        return
    elif copying.step == "locked":
        if not state.legacy or (state.mark is not None and _is_left(policy, state.mark)):
            yield "copy leaves the row", state._replace(backfill="done")
        elif state.mark is not None:
            # One step, because the mark's own row is locked: nobody claims, renews or clears it before the commit.
            yield (
                f"copy takes the mark over, writes {_shown(state.legacy)}",
                state._replace(plugin=state.legacy, mark=None, backfill="done"),
            )
        else:
            looked = Sender("looked", NO_LEASE, state.rev, state.legacy)
            yield f"copy finds no mark, reads {_shown(state.legacy)}", state._replace(backfill=looked)
    elif copying.step == "looked":
        wrote = state._replace(backfill=copying._replace(step="wrote"))
        if policy.copy_looks_again and state.rev != copying.rev:
            # Marks come with revisions: one came since the first look, and may have been delivered and cleared.
            rest = state.mark[1:] if state.mark is not None else (NO_LEASE, False)
            wrote = wrote._replace(rev=state.rev + 1, mark=Mark(state.rev + 1, *rest))
        yield f"copy writes {_shown(copying.value)}, looks again", wrote
    elif copying.step == "wrote":
        yield "copy commits", state._replace(plugin=copying.value, backfill="done")


def _blocked(state: State, request: Request) -> bool:
    """Whether the plugin has to wait for a copy that has written its row."""
    writing = isinstance(state.backfill, Sender) and state.backfill.step == "wrote"
    return writing and bool(request.value or state.plugin)


def _is_left(policy: Policy, mark: Mark) -> bool:
    match policy.copy_leaves:
        case "requested":
            return mark.lease != NO_LEASE or mark.ambiguous
        case "leased":
            return mark.lease != NO_LEASE
        case "nothing":
            return False


def _holds(state: State, sender: Sender) -> bool:
    return state.mark is not None and state.mark.lease == sender.lease


def _released(policy: Policy, mark: Mark, *, definite: bool) -> Mark:
    """The mark without its lease; without an answer it stays ambiguous, where the policy keeps that."""
    return Mark(mark.rev, NO_LEASE, mark.ambiguous and policy.quarantine != "none" and not definite)


def _left(policy: Policy, state: State, sender: Sender, *, definite: bool) -> Mark | None:
    """The mark after a sender that did not succeed: it gives back its own lease, never somebody else's."""
    if state.mark is None or not _holds(state, sender):
        return state.mark
    return _released(policy, state.mark, definite=definite)


def _cleared(policy: Policy, state: State, sender: Sender) -> Mark | None:
    """The mark after a success: cleared where it is still what was sent, else kept for the next delivery."""
    same_rev = state.mark is not None and state.mark.rev == sender.rev
    matches = {
        "rev and lease": same_rev and _holds(state, sender),
        "rev": same_rev,
        "blind": True,
    }[policy.clear]
    return None if matches else _left(policy, state, sender, definite=True)


def _idle(state: State) -> list[int]:
    return [daemon for daemon, sender in enumerate(state.senders) if sender is None]


def _with(state: State, daemon: int, sender: Sender | None) -> State:
    senders = tuple(sender if index == daemon else other for index, other in enumerate(state.senders))
    return state._replace(senders=senders)


def _shown(value: int) -> str:
    return f"r{value}" if value else "absent"


def _trace(came_from: dict[State, tuple[State, str] | None], state: State) -> tuple[str, ...]:
    events: list[str] = []
    step = came_from[state]
    while step is not None:
        state, event = step
        events.append(event)
        step = came_from[state]
    return tuple(reversed(events))
