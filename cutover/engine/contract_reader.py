"""Both sides of a tenant whose plugin has no database to look into: its side is read through the contract.

The contract has no look-up by id and no cursor (domain §3). So a namespace is listed, and an answer of fewer than 100
is all of it: what is not there is missing. An answer of 100 may have been cut; past it a memory is searched for by
what it says (`domain/exact_search.py`), and it counts as missing only if that is certain: an answer that was not cut
did not hold it, full text does find these words in that content, and in this namespace the search has found memories
that the listing shows. Whatever cannot be looked up is *not findable*: nothing is said about it, and it is counted.

A memory whose every word was changed is reported as missing where it should have been reported as changed; either way
it is found.
"""

import asyncio
import hashlib
import json
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from cutover.domain.divergence import Held
from cutover.domain.errors import PluginRejected
from cutover.domain.exact_search import queries_for
from cutover.domain.memory import Kind, PluginMemory
from cutover.domain.propagation import KEY
from cutover.engine.plugin_reads import CAP, Searches
from cutover.stores.contract_side import ContractSide, Wanted
from cutover.stores.database import Database
from cutover.stores.digest import About, Limits

SEARCH_SECONDS = 5.0
"""Time-out of one search."""
_AT_ONCE = 4
_TRIED = 3
"""Listed memories that a namespace's search must find before its silence counts."""
_REMEMBERED = 200
"""Contents of unexpected memories, of at most `_LONGEST` characters each, that are kept to look for them again."""
_LONGEST = 20_000
T = TypeVar("T")
_EPOCH_2000 = datetime.fromisoformat("2000-01-01T00:00:00+00:00")


@dataclass(frozen=True, slots=True)
class Listing:
    """The newest memories of a namespace; `whole`: there are no others."""

    memories: Mapping[UUID, PluginMemory]

    @property
    def whole(self) -> bool:
        """An answer that hit the cap may have been cut."""
        return len(self.memories) < CAP


class ContractReader(ContractSide):
    """Reads both sides of one tenant, the plugin's through `search`. For one sweep at a time (`begin`).

    Raises what `DigestReader` raises, and `PluginError`s.
    """

    def __init__(self, tenant: Database, search: Searches, *, leaving_out: tuple[str, ...]) -> None:
        super().__init__(tenant, leaving_out=leaving_out)
        self._search = search
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self.begin()

    def begin(self) -> None:
        """Forget what an earlier sweep saw."""
        self.not_findable: set[UUID] = set()
        """What could not be looked up, of all that was asked for."""
        self.whole: dict[str, bool] = {}
        """Whether a namespace's last listing was all of it, by name."""
        self._unknown: frozenset[UUID] = frozenset()
        self._also: tuple[str, ...] = ()
        self._extras: dict[UUID, str] = {}
        self._reliable: dict[tuple[str, bool], bool] = {}
        self._words: dict[UUID, str] = {}

    def also_list(self, namespaces: Iterable[str]) -> None:
        """Namespaces to list at the next look whether or not a memory asked for belongs there."""
        self._also = tuple(namespaces)
        self._extras = {}

    def extras(self, asked: Collection[UUID]) -> list[UUID]:
        """What was listed since `also_list` beside the memories that were asked for, ascending."""
        return sorted(self._extras.keys() - frozenset(asked))

    # -- the plugin's side ----------------------------------------------------------------------------------------

    async def held(self, salt: bytes, ids: Collection[UUID], limits: Limits) -> dict[UUID, Held]:
        """What the plugin shows of `ids`, field by field, wherever it was found."""
        wanted = await self.wanted(ids, limits)
        places = await self.places(ids)
        for id_, namespace in self._extras.items():
            if id_ in ids:
                places.setdefault(id_, set()).add(namespace)
        names = {each.namespace for each in wanted.values()}.union(self._also, *places.values())
        names.difference_update(self._leaving_out)
        self._also = ()
        listings = dict(
            zip(sorted(names), await self._all(partial(self._list, name) for name in sorted(names)), strict=True)
        )
        found = {id_: memory for listing in listings.values() for id_, memory in listing.memories.items() if id_ in ids}
        self._note(listings, frozenset(ids), wanted)
        lost = [id_ for id_ in ids if id_ not in found]
        looked_up = await self._all(
            partial(self._look_up, id_, wanted.get(id_), places.get(id_, set()), listings) for id_ in lost
        )
        unknown = {id_ for id_, (_, certain) in zip(lost, looked_up, strict=True) if not certain}
        self._unknown = frozenset(unknown)
        self.not_findable = (self.not_findable - frozenset(ids)) | unknown
        found.update((id_, memory) for id_, (memory, _) in zip(lost, looked_up, strict=True) if memory is not None)
        gone = limits.as_of  # what is about to expire counts as gone on both sides
        return {
            id_: as_held(memory, salt)
            for id_, memory in found.items()
            if gone is None or memory.expires_at is None or memory.expires_at > gone
        }

    async def about(self, ids: Collection[UUID], snapshot: str) -> dict[UUID, About]:
        """As `DigestReader.about`; what the last look could not look up counts as marked: nothing is known of it."""
        about = await super().about(ids, snapshot)
        return {id_: replace(each, marked=True) if id_ in self._unknown else each for id_, each in about.items()}

    async def held_of(self, workspace_id: UUID) -> list[UUID]:
        """What the plugin shows as one workspace's: in its own namespace, or by its provenance in those it reads."""
        found: set[UUID] = set()
        for name in await self.readable(workspace_id):
            for id_, memory in (await self._list(name)).memories.items():
                if name == f"workspace:{workspace_id}" or _ours(memory).get("workspace_id") == str(workspace_id):
                    found.add(id_)
        return sorted(found)

    # -- listing and searching ------------------------------------------------------------------------------------

    async def _all(self, work: Iterable[Callable[[], Awaitable[T]]]) -> list[T]:
        """All of it, a few at once; the first error ends the rest."""

        async def one(each: Callable[[], Awaitable[T]]) -> T:
            async with self._slots:
                return await each()

        tasks = [asyncio.ensure_future(one(each)) for each in work]
        try:
            return await asyncio.gather(*tasks)
        except BaseException:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            raise

    async def _ask(self, namespace: str, text: str) -> Listing:
        try:
            found = await self._search.search((namespace,), text, limit=CAP, timeout=SEARCH_SECONDS)
        except PluginRejected as error:
            if error.http_status != 404:
                raise
            found = []  # a namespace that was never put
        return Listing({memory.id: memory for memory in found})

    async def _list(self, namespace: str) -> Listing:
        listing = await self._ask(namespace, "")
        self.whole[namespace] = listing.whole
        return listing

    def _note(self, listings: Mapping[str, Listing], asked: frozenset[UUID], wanted: Mapping[UUID, Wanted]) -> None:
        for name, listing in listings.items():
            self._extras.update((id_, name) for id_ in listing.memories if id_ not in asked)
            if listing.whole:
                continue
            for id_, memory in listing.memories.items():  # the next look may not see it among the newest any more
                unexpected = id_ in asked and id_ not in wanted
                if unexpected and len(self._words) < _REMEMBERED and len(memory.content) <= _LONGEST:
                    self._words[id_] = memory.content

    async def _look_up(
        self, memory_id: UUID, wanted: Wanted | None, places: Collection[str], listings: Mapping[str, Listing]
    ) -> tuple[PluginMemory | None, bool]:
        """What searches find of a memory that no listing showed, and whether that is certain."""
        certain = True
        contents = {wanted.namespace: wanted.content} if wanted is not None else {}
        if (words := self._words.get(memory_id)) is not None:
            contents |= {place: words for place in places if place not in contents}
        for name in {*contents, *places}:
            if listings[name].whole if name in listings else name in self._leaving_out:
                continue
            if name not in contents:
                certain = False
                continue
            memory, sure = await self._find(memory_id, name, contents[name], listings[name])
            if memory is not None:
                return memory, True
            certain = certain and sure
        return None, certain

    async def _find(
        self, memory_id: UUID, namespace: str, content: str, listing: Listing
    ) -> tuple[PluginMemory | None, bool]:
        """The memory, if a search for its content gives it; else whether that proves that it is not there."""
        sure = False
        for text in queries_for(content):
            answer = await self._ask(namespace, text)
            if memory_id in answer.memories:
                return answer.memories[memory_id], True
            if not sure and await self._should_hold(answer, content, text):
                sure = await self._is_reliable(namespace, listing, by_words=len(text) > 1)
        return None, sure

    async def _should_hold(self, answer: Listing, content: str, text: str) -> bool:
        """Whether an answer for `text` would hold a memory of this content, searched as PostgreSQL searches."""
        return answer.whole and (len(text) == 1 or await self.full_text_finds(content, text))

    async def _is_reliable(self, namespace: str, listing: Listing, *, by_words: bool) -> bool:
        """Whether the namespace's search finds what its listing shows: only then does its silence mean anything."""
        reliable = self._reliable.get((namespace, by_words))
        if reliable is None:
            step = max(1, len(listing.memories) // _TRIED)
            tried = list(listing.memories.values())[::step][:_TRIED]
            reliable = all([await self._finds(namespace, memory, by_words) for memory in tried])
            self._reliable[namespace, by_words] = reliable
        return reliable

    async def _finds(self, namespace: str, memory: PluginMemory, by_words: bool) -> bool:
        for text in queries_for(memory.content):
            if (len(text) > 1) is by_words:
                answer = await self._ask(namespace, text)
                if memory.id not in answer.memories and await self._should_hold(answer, memory.content, text):
                    return False
        return True


_WHOLE = frozenset({"workspace_id", "scope", "namespace", "created_at", "updated_at"})
"""What makes a v1 row of a memory again."""


def as_held(memory: PluginMemory, salt: bytes) -> Held:
    """A memory as a look compares it: the words and fields that `digest_held.sql` makes of the plugin's own tables.

    `created_at` is the one it was delivered with, where legacy knew one: readers are shown that, because the plugin's
    own is the time of the delivery, and the contract has no way to change it. Embeddings are not shown.
    """
    ours = _ours(memory)
    content = memory.content.encode()
    created_at = None
    if isinstance(told := ours.get("created_at"), str):
        try:
            created_at = datetime.fromisoformat(told)
        except ValueError:
            created_at = None
    return Held(
        namespace=memory.namespace,
        content_hash=hashlib.sha256(salt + content).digest(),
        content_length=len(content),
        created_at=created_at,
        embedding=None,
        provenance_hash=hashlib.sha256(salt + _provenance(memory, ours).encode()).digest(),
    )


def _ours(memory: PluginMemory) -> Mapping[str, Any]:
    ours = memory.propagation.get(KEY) if isinstance(memory.propagation, dict) else None
    return ours if isinstance(ours, dict) else {}


def _provenance(memory: PluginMemory, ours: Mapping[str, Any]) -> str:
    """Times, owner, scope, kind, source, pin, expiry and label, written as `digest_held.sql` writes them."""
    label = _text(ours.get("namespace"))
    expires = ""
    if memory.expires_at is not None:
        since = memory.expires_at - _EPOCH_2000
        microseconds = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
        expires = microseconds.to_bytes(8, "big", signed=True).hex()
    fields = (
        _text(ours.get("workspace_id")) or "", _text(ours.get("scope")) or "", memory.kind.value, memory.source.value,
        "t" if memory.pin else "f", expires, "" if label is None else f"{len(label)}|{label}",
    )  # fmt: skip
    times = ("5", _text(ours["created_at"]) or "", _text(ours["updated_at"]) or "") if ours.keys() >= _WHOLE else ()
    return "|".join((*times, *fields)) + (_of_kv(ours["kv"]) if memory.kind is Kind.CHECKPOINT and "kv" in ours else "")


def _of_kv(kv: Any) -> str:
    """Key and version of a K/V row."""
    told = kv if isinstance(kv, dict) else {}
    key, version = _text(told.get("key")), _text(told.get("version"))
    return f"|{'' if key is None else len(key)}|{key or ''}|{version or ''}"


def _text(value: Any) -> str | None:
    """A JSON value as `->>` gives it."""
    return value if value is None or isinstance(value, str) else json.dumps(value)
