"""One range of ids compared: both sides digested by bucket at once, then the ids of the buckets that differ."""

import asyncio
import time
from collections.abc import Awaitable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from cutover.domain.errors import CutoverError
from cutover.stores.digest import Bucket, DigestReader, Limits, differing_buckets, differing_ids
from cutover.stores.digest_findings import BucketRows, bucket_of

_LISTED = 8192
"""Rows of differing buckets that are listed at once."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """What comparing a range came to. Rows are counted as each side has them, planted faults among them; `ids` differ
    at this glance; `seconds` were spent in statements."""

    expected_rows: int
    held_rows: int
    differing_buckets: int
    ids: tuple[UUID, ...]
    buckets: tuple[BucketRows, ...]
    seconds: float


async def compare_range(reader: DigestReader, salt: bytes, low: UUID, high: UUID, limits: Limits) -> Comparison:
    """Compare `low` to `high`, both included. Raises the errors of `DigestReader`."""
    started = time.monotonic()
    marked = await reader.marked(low, high, limits)
    expected, held = await _both(
        reader.expected_buckets(salt, low, high, limits), reader.held_buckets(salt, low, high, marked, limits)
    )
    differing = differing_buckets(expected, held)
    ids: list[UUID] = []
    for group in _groups(differing, expected, held):
        mine, theirs = await _both(
            reader.expected_hashes(salt, low, high, group, limits),
            reader.held_hashes(salt, low, high, group, marked, limits),
        )
        ids += differing_ids(mine, theirs)
    return Comparison(
        sum(each.rows for each in expected.values()),
        sum(each.rows for each in held.values()),
        len(differing),
        tuple(ids),
        _bucket_rows(expected, held, ids),
        time.monotonic() - started,
    )


async def _both(here: Awaitable[Any], there: Awaitable[Any]) -> tuple[Any, Any]:
    """Both databases at once: they are two, or at least two processes of one."""
    try:
        async with asyncio.TaskGroup() as group:
            one, two = group.create_task(_of(here)), group.create_task(_of(there))
    except* CutoverError as errors:
        raise next(iter(_leaves(errors))) from None
    return one.result(), two.result()


async def _of(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _leaves(group: BaseExceptionGroup[CutoverError]) -> Iterable[CutoverError]:
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _leaves(error)
        else:
            yield error


def _groups(buckets: list[int], expected: Mapping[int, Bucket], held: Mapping[int, Bucket]) -> Iterable[list[int]]:
    """Differing buckets in groups of at most `_LISTED` rows a side (or one bucket that has more)."""
    group: list[int] = []
    rows = 0
    for bucket in buckets:
        size = max(side[bucket].rows if bucket in side else 0 for side in (expected, held))
        if group and rows + size > _LISTED:
            yield group
            group, rows = [], 0
        group.append(bucket)
        rows += size
    if group:
        yield group


def _bucket_rows(
    expected: Mapping[int, Bucket], held: Mapping[int, Bucket], ids: Iterable[UUID]
) -> tuple[BucketRows, ...]:
    differing: dict[int, int] = {}
    for memory_id in ids:
        differing[bucket_of(memory_id)] = differing.get(bucket_of(memory_id), 0) + 1
    return tuple(
        BucketRows(
            bucket,
            expected[bucket].rows if bucket in expected else 0,
            held[bucket].rows if bucket in held else 0,
            differing.get(bucket, 0),
        )
        for bucket in sorted(expected.keys() | held.keys())
    )
