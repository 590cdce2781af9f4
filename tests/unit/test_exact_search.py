"""Queries that find a memory by its content: always of its own words, whatever the content is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cutover.domain.exact_search import queries_for, words_of


def test_long_words_first_and_each_once() -> None:
    assert words_of("tell a story of memory 7 again") == ("memory", "story", "7", "again", "tell", "of", "a")
    assert words_of("The quick, quick brown fox (jumped) over.") == ("jumped", "quick", "brown", "over", "The", "fox")


@pytest.mark.parametrize(
    "content", ["a/b/path.txt", "mail@example.com", "half-half", "<tag>", "snake_case", "http://x.y/z", "don't", "--"]
)
def test_words_that_a_parser_may_read_otherwise_are_passed_over(content: str) -> None:
    assert words_of(content) == ()


def test_narrow_then_other_words_then_few_then_one_character() -> None:
    content = " ".join(chr(ord("a") + n) * (30 - n) for n in range(20))
    words = words_of(content)
    assert queries_for(content) == (" ".join(words[:8]), " ".join(words[8:16]), " ".join(words[:2]), "t")


@pytest.mark.parametrize(
    ("content", "queries"),
    [
        ("", ()),
        (" \n\t", ()),
        ("x", ("x",)),
        ("%", ("%",)),
        ("50%", ("5",)),
        ("ok", ("ok", "o")),
        ("naïve", ("naïve", "ï")),
        ("!?", ("?",)),
        ("ß!", ("!",)),
        ("記憶", ("記憶", "記")),
    ],
)
def test_short_and_odd_contents(content: str, queries: tuple[str, ...]) -> None:
    assert queries_for(content) == queries


def test_huge_contents_cost_little() -> None:
    assert len(queries_for("wörter und wörter " * 100_000)) == 2
    assert words_of("x" * 100_000) == ()


@given(st.text())
def test_every_query_is_made_of_the_content(content: str) -> None:
    for query in queries_for(content):
        if len(query) == 1:
            assert query in content
        else:
            assert all(word in content for word in query.split(" "))
            assert len(query) >= 2
    assert (queries_for(content) == ()) <= (not any(each.isprintable() and not each.isspace() for each in content))
