"""A sample of the reads that callers make, kept in memory only, for recall sweeps to repeat.

Queries are the callers' words: they are never written anywhere. What a sweep records of one is `name_of`, a hash keyed
with a key of this process, so that nobody can find a query by trying.

An offer costs the request a few dictionary operations. What the sample holds is spread: a caller (a workspace on the
v1 routes, a set of namespaces on the contract) has at most `per_caller` places, so that a busy one does not push the
others out; within a caller, and overall, the newest stay.
"""

import hashlib
import json
import secrets
from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import asdict

from cutover.domain.recall import Read
from cutover.domain.requests import ListMemories, SearchMemories

CAPACITY = 512
PER_CALLER = 8
LONGEST_QUERY = 2048
"""Characters; a longer query is not sampled, so that memory stays bounded."""
MOST_NAMESPACES = 32
"""A workspace reads three; a search of more than these is not sampled either."""
_BY_EMBEDDING = "embedding"


class QuerySample:
    """Reads, each once. Everything is O(1) but `take`."""

    def __init__(self, *, capacity: int = CAPACITY, per_caller: int = PER_CALLER) -> None:
        self._capacity = capacity
        self._per_caller = per_caller
        self._key = secrets.token_bytes(32)
        self._callers: OrderedDict[Read, Hashable] = OrderedDict()
        self._reads: dict[Hashable, deque[Read]] = {}

    def __len__(self) -> int:
        return len(self._callers)

    def offer(self, read: Read) -> None:
        """A read that a caller has just made."""
        if len(read.query) > LONGEST_QUERY or read in self._callers:
            return
        if isinstance(read, SearchMemories) and len(read.namespaces) > MOST_NAMESPACES:
            return
        caller = _caller_of(read)
        mine = self._reads.setdefault(caller, deque())
        if len(mine) >= self._per_caller:
            del self._callers[mine.popleft()]
        elif len(self._callers) >= self._capacity:
            oldest, its_caller = self._callers.popitem(last=False)
            theirs = self._reads[its_caller]
            theirs.remove(oldest)  # at most `per_caller` long, and it is the first
            if not theirs and its_caller != caller:
                del self._reads[its_caller]
        self._callers[read] = caller
        mine.append(read)

    def take(self, most: int) -> list[Read]:
        """At most `most` reads, one of each caller first, then a second of each, newest first. They stay."""
        queues = [deque(reversed(reads)) for reads in self._reads.values()]
        taken: list[Read] = []
        while queues and len(taken) < most:
            taken += [queue.popleft() for queue in queues][: most - len(taken)]
            queues = [queue for queue in queues if queue]
        return taken

    def name_of(self, read: Read) -> str:
        """What may be recorded of a read: 16 hex digits that mean nothing without this process's key."""
        body = json.dumps(asdict(read), default=_plain, sort_keys=True).encode("utf-8", "surrogatepass")
        return hashlib.blake2b(body, key=self._key, digest_size=8).hexdigest()


def _caller_of(read: Read) -> Hashable:
    if isinstance(read, ListMemories):
        return read.workspace_id
    # Embeddings are large, so they share the places of one caller.
    return _BY_EMBEDDING if read.embedding is not None else read.namespaces


def _plain(value: object) -> object:
    return sorted(value) if isinstance(value, frozenset) else str(value)
