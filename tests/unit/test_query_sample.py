"""The sample of live reads: bounded, without repeats, spread over callers, and nameable without its words."""

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.memory import Kind
from cutover.domain.recall import Read
from cutover.domain.requests import ListMemories, SearchMemories
from cutover.engine.query_sample import LONGEST_QUERY, MOST_NAMESPACES, QuerySample


def listing(workspace: int, text: str) -> ListMemories:
    return ListMemories(UUID(int=workspace), query=text)


def test_a_busy_caller_keeps_its_newest_and_pushes_nobody_out() -> None:
    sample = QuerySample(capacity=10, per_caller=3)
    sample.offer(listing(1, "quiet"))
    for number in range(100):
        sample.offer(listing(2, f"busy {number}"))
    assert len(sample) == 4
    assert sample.take(10) == [
        listing(1, "quiet"), listing(2, "busy 99"), listing(2, "busy 98"), listing(2, "busy 97"),
    ]  # fmt: skip


def test_faces_are_callers_of_their_own_and_repeats_take_no_place() -> None:
    sample = QuerySample(capacity=10, per_caller=2)
    name = f"workspace:{UUID(int=1)}"
    for _ in range(5):
        sample.offer(listing(1, "tea"))
        sample.offer(SearchMemories((name,), "tea"))
    assert len(sample) == 2
    assert set(sample.take(10)) == {listing(1, "tea"), SearchMemories((name,), "tea")}
    assert len(sample.take(1)) == 1
    assert len(sample) == 2  # taking leaves them there


def test_the_oldest_goes_when_all_places_are_taken() -> None:
    sample = QuerySample(capacity=3, per_caller=2)
    for workspace in range(5):
        sample.offer(listing(workspace, "x"))
    assert sample.take(10) == [listing(2, "x"), listing(3, "x"), listing(4, "x")]


def test_what_is_too_large_is_not_kept() -> None:
    sample = QuerySample()
    sample.offer(listing(1, "x" * (LONGEST_QUERY + 1)))
    sample.offer(SearchMemories(tuple(f"custom:{n}" for n in range(MOST_NAMESPACES + 1))))
    assert len(sample) == 0
    for axis in range(50):  # of different namespaces, but they share the places of one caller
        sample.offer(SearchMemories((f"custom:{axis}",), embedding=tuple(float(n == axis) for n in range(1536))))
    assert len(sample) == 8


reads = st.one_of(
    st.builds(listing, st.integers(1, 6), st.text(max_size=2)),
    st.builds(lambda n, text: SearchMemories((f"custom:{n}",), text), st.integers(1, 6), st.text(max_size=2)),
)


@given(st.lists(reads, max_size=120), st.integers(1, 8), st.integers(1, 4))
def test_it_never_outgrows_its_bounds(offered: list[Read], capacity: int, per_caller: int) -> None:
    sample = QuerySample(capacity=capacity, per_caller=per_caller)
    for read in offered:
        sample.offer(read)
        kept = sample.take(1000)
        assert len(kept) == len(sample) == len(set(kept)) <= capacity
        assert read in kept
        assert sum(len(reads) for reads in sample._reads.values()) == len(sample)


def test_a_name_says_nothing_without_the_key() -> None:
    one, other = QuerySample(), QuerySample()
    read = SearchMemories(("custom:a",), "pa\udc80ssé", frozenset({Kind.FACT, Kind.SUMMARY}))
    assert one.name_of(read) == one.name_of(
        SearchMemories(("custom:a",), "pa\udc80ssé", frozenset({Kind.SUMMARY, Kind.FACT}))
    )
    assert one.name_of(read) != other.name_of(read)  # each process has its own key
    assert one.name_of(read) != one.name_of(SearchMemories(("custom:a",), "passé"))
    assert len(one.name_of(listing(1, "tea"))) == 16
