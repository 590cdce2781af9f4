"""Recall: do both stores answer a read alike, and does the plugin show readers exactly what they may see?

Two questions with two answers (architecture §4). How alike two rankings are is a matter of degree: *overlap@10*, the
share of the first ten ids that both show, and *Kendall's tau-b* over the ids that both show. What a reader may see is
not: a memory shown to a workspace that may not see it is a leak, and one withheld from a workspace that may is lost
to it. So visibility is judged by the rules of domain §2 and §3 alone, worked out here anew from the workspace tree
and the row's owner and scope, and reported by direction, never as a part of the overlap.

The stores are read at two instants. What may differ just now (`left_out`: marked, quarantined, just changed, not yet
reached) is taken out of both sides, and what the cut of either page may have hidden is not held against anybody.
"""

from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID

from cutover.domain.namespace import Scope, name_for
from cutover.domain.requests import ListMemories, SearchMemories

DEPTH = 10
"""How many places of two rankings `overlap_at` compares: what an agent gets to read."""
OVERLAP_REQUIRED = 0.999
"""Mean overlap below which recall has suffered (architecture §6, gate of A3)."""
_HOPS = 50

Read = ListMemories | SearchMemories


class Direction(StrEnum):
    """Which side shows more. Metric label values and keys of the outcome."""

    MORE = "plugin_shows_more"  # a leak: shown to a reader who may not see it
    LESS = "plugin_shows_less"  # hidden from a reader who may
    EXPECTED = "expected"  # GLOBAL of another root: the one change that is intended (domain §3)


# -- how alike ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Answers:
    """One read as both stores answer it: ids in order, each at most once. `limit`: most rows of a page (1..100).

    `partial`: the contract's cap may have hidden rows from the plugin's side.
    """

    legacy: tuple[UUID, ...]
    plugin: tuple[UUID, ...]
    limit: int
    partial: bool = False

    @property
    def only_one_side(self) -> frozenset[UUID]:
        """The ids that one side alone shows, for whatever reason."""
        return frozenset(self.legacy) ^ frozenset(self.plugin)


def comparable(answers: Answers, left_out: frozenset[UUID]) -> tuple[tuple[UUID, ...], tuple[UUID, ...]]:
    """Both rankings without what is `left_out` and without what only the cut of a page explains."""
    left = [id_ for id_ in answers.legacy if id_ not in left_out]
    right = [id_ for id_ in answers.plugin if id_ not in left_out]
    if len(answers.legacy) >= answers.limit:  # what else the plugin shows may be what would have come next
        shown = set(left)
        right = [id_ for id_ in right if id_ in shown]
    shown = set(right)
    if answers.partial:
        left = [id_ for id_ in left if id_ in shown]
    if len(answers.plugin) >= answers.limit:
        # Rows that are left out took places of the plugin's page, so as many may have dropped off its end.
        for _ in range(sum(id_ in left_out for id_ in answers.plugin)):
            if left and left[-1] not in shown:
                left.pop()
    return tuple(left), tuple(right)


def overlap_at(left: Sequence[UUID], right: Sequence[UUID], depth: int = DEPTH) -> float:
    """Overlap@depth, 0..1: the ids that both have among their first `depth`, over as many as the longer one shows.

    1 for two empty rankings. Order within the first `depth` does not count, order across its edge does.
    """
    first, second = frozenset(left[:depth]), frozenset(right[:depth])
    longer = max(len(first), len(second))
    return len(first & second) / longer if longer else 1.0


def rank_agreement(left: Sequence[UUID], right: Sequence[UUID]) -> float | None:
    """Kendall's tau-b over the ids that both rank: 1 same order, −1 reversed; None with fewer than two such ids.

    A ranking has no ties, so tau-b is tau-a here: 1 − 4·discordant / (n·(n − 1)).
    """
    place = {id_: number for number, id_ in enumerate(right)}
    ranks = [place[id_] for id_ in left if id_ in place]
    n = len(ranks)
    if n < 2:
        return None
    before: list[int] = []
    discordant = 0
    for rank in ranks:
        discordant += len(before) - bisect_right(before, rank)
        insort(before, rank)
    return 1.0 - 4.0 * discordant / (n * (n - 1))


# -- who may see what --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Node:
    """A workspace in the tree. `removed`: softly deleted."""

    parent_id: UUID | None
    removed: bool = False


@dataclass(frozen=True, slots=True)
class Known:
    """What the tenant's database knows of a memory: owner and scope of a v1 row, or the namespace of a native."""

    workspace_id: UUID | None
    scope: Scope | None
    namespace: str | None = None


class Tree:
    """The part of the workspace tree that a judgement needs: the workspaces in question and all above them."""

    def __init__(self, nodes: Mapping[UUID, Node]) -> None:
        self._nodes = nodes

    def __contains__(self, workspace: UUID | None) -> bool:
        return workspace in self._nodes

    def team_head(self, workspace: UUID) -> UUID:
        """The parent, or the workspace itself where it is a root."""
        return self._nodes[workspace].parent_id or workspace

    def removed(self, workspace: UUID) -> bool:
        """Whether it is softly deleted."""
        return self._nodes[workspace].removed

    def root(self, workspace: UUID) -> UUID:
        """The top of the chain; where it closes on itself, or after 50 hops, the last one reached (domain §1)."""
        at, seen = workspace, {workspace}
        for _ in range(_HOPS):
            parent = self._nodes[at].parent_id
            if parent is None or parent in seen or parent not in self._nodes:
                break
            at = parent
            seen.add(at)
        return at

    def place(self, memory: Known) -> str | None:
        """The one namespace the memory belongs in (domain §3); None where it has no place."""
        owner, scope = memory.workspace_id, memory.scope
        if scope is None:
            return memory.namespace
        if owner is None or owner not in self._nodes:
            return None
        anchor = {Scope.LOCAL: owner, Scope.TEAM: self.team_head(owner)}.get(scope)
        return name_for(scope, self.root(owner) if anchor is None else anchor)

    def readable(self, workspace: UUID) -> tuple[str, ...]:
        """The namespaces a workspace may read, each once: its own, its team's, its root's."""
        anchors = (
            (Scope.LOCAL, workspace),
            (Scope.TEAM, self.team_head(workspace)),
            (Scope.GLOBAL, self.root(workspace)),
        )
        return tuple(dict.fromkeys(name_for(scope, anchor) for scope, anchor in anchors))


def v1_shows(read: ListMemories, memory: Known, tree: Tree) -> bool:
    """Whether v1's rules let this read show the memory (domain §2). Text, label and limit are not looked at."""
    if memory.scope is None or (read.scope is not None and memory.scope is not read.scope):
        return False
    if read.scope is Scope.GLOBAL:
        return True
    owner = memory.workspace_id
    if read.scope is not Scope.TEAM:
        return owner == read.workspace_id
    if owner is None or owner not in tree or read.workspace_id not in tree or tree.removed(owner):
        return False
    head = tree.team_head(read.workspace_id)
    return head in (owner, tree.team_head(owner))


def v2_shows(read: Read, memory: Known, tree: Tree) -> bool:
    """Whether the plugin is meant to show the memory to this read (domain §3, with its one intended change)."""
    place = tree.place(memory)
    if place is None:
        return False
    if isinstance(read, SearchMemories):
        return place in read.namespaces
    if not v1_shows(read, memory, tree) or read.workspace_id not in tree:
        return False
    return memory.scope is not Scope.GLOBAL or place == name_for(Scope.GLOBAL, tree.root(read.workspace_id))


@dataclass(frozen=True, slots=True)
class Visibility:
    """Ids by direction. `less` is certain only where the read was a plain list that nothing cut (`must_probe`)."""

    more: frozenset[UUID] = frozenset()
    less: frozenset[UUID] = frozenset()
    expected: frozenset[UUID] = frozenset()


def visibility(read: Read, answers: Answers, known: Mapping[UUID, Known], tree: Tree) -> Visibility:
    """Judge the ids that one side alone shows. An id that is not `known` is known to nobody: it was deleted, or never
    was, and whoever is shown it sees too much."""
    legacy, plugin = frozenset(answers.legacy), frozenset(answers.plugin)
    missing = {id_: known[id_] for id_ in legacy - plugin if id_ in known}
    may = {id_ for id_, memory in missing.items() if v2_shows(read, memory, tree)}
    intended: frozenset[UUID] = frozenset()
    if isinstance(read, ListMemories):
        intended = frozenset(id_ for id_ in missing if id_ not in may and v1_shows(read, missing[id_], tree))
    return Visibility(
        more=frozenset(id_ for id_ in plugin - legacy if id_ not in known or not v2_shows(read, known[id_], tree)),
        less=frozenset(may),
        expected=intended,
    )


def must_probe(read: Read, answers: Answers) -> bool:
    """Whether a memory that the plugin did not show may be visible all the same: the text was matched differently, or
    the page was cut before it."""
    asked_by_text = bool(read.query) or (isinstance(read, SearchMemories) and read.embedding is not None)
    return asked_by_text or answers.partial or len(answers.plugin) >= answers.limit


# -- what a sweep comes to ---------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Tally:
    """A recall sweep in numbers. Reads: `planned` = `compared` + `failed` + not reached in time.

    `empty`: compared reads of which nothing was left to compare; `live`: compared reads that callers had made.
    """

    planned: int
    compared: int
    failed: int
    empty: int
    live: int
    left_out: int
    overlap: float | None
    more: int
    less: int


def verdict(tally: Tally) -> tuple[str, str]:
    """Outcome (clean, divergent, partial, failed) and why, in one sentence."""
    if tally.more or tally.less:
        return "divergent", f"the plugin shows {tally.more} memories too many and hides {tally.less}"
    if tally.overlap is not None and tally.overlap < OVERLAP_REQUIRED:
        return "divergent", f"overlap@{DEPTH} is {tally.overlap:.4f}, below {OVERLAP_REQUIRED}"
    if tally.compared == 0 and tally.failed:
        return "failed", "no read could be repeated on both stores"
    if tally.compared < tally.planned:
        return "partial", f"{tally.planned - tally.compared} of {tally.planned} reads were not compared"
    if tally.overlap is None:
        return "partial", "there was nothing to compare: every memory that was shown is left out for now"
    if tally.live == 0:
        return "partial", "no queries sampled from live traffic: lists of workspaces were compared instead"
    return "clean", ""
