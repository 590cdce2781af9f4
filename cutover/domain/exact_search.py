"""How to find one memory by its content through a search that was not made for it.

The contract has no look-up by id and no cursor (domain §3): past the newest 100 of a namespace a memory can only be
reached by what it says. A search of two characters or more is full text, where every word of the query must be in the
memory; of one character, a substring. So the narrowest query is several of the memory's own rare words. Rare words
are not known here, but long ones are seldom common, nor are numbers. Words that a full-text parser may take for
something else in their place (parts of addresses, paths, tags, hyphenated ones) are passed over, so that the query
means the same by itself as the word does in the text.
"""

from collections.abc import Iterator

_LOOKED_AT = 20_000  # characters of the content: enough words, however huge it is
_LONGEST_WORD = 64
_NUMBER = 4  # letters that a digit is worth
_NARROW = 8
_WIDE = 2
_AROUND = ",.;:!?\"'()[]…“”‘’«»、。，！？"
_SPECIAL = "%_\\"  # have a meaning in a pattern, so a plugin may get them wrong


def words_of(content: str) -> tuple[str, ...]:
    """The content's words of letters and digits that stand between white space, each once; long ones and numbers
    first."""
    words = dict.fromkeys(_plain_words(content))
    return tuple(sorted(words, key=lambda word: -len(word) - _NUMBER * any(map(str.isdigit, word))))


def queries_for(content: str) -> tuple[str, ...]:
    """Queries that each match a memory with this content, the narrowest first; none for white space alone.

    Some of its words, some others, a few; at last one character as a substring, for content without words.
    """
    words = words_of(content)
    queries = [" ".join(words[:_NARROW]), " ".join(words[_NARROW : 2 * _NARROW]), " ".join(words[:_WIDE])]
    return tuple(dict.fromkeys([query for query in queries if len(query) >= 2] + list(_one_character(content))))


def _plain_words(content: str) -> Iterator[str]:
    tokens = content[:_LOOKED_AT].split()
    for token in tokens if len(content) <= _LOOKED_AT else tokens[:-1]:  # the last one may have been cut in two
        word = token.strip(_AROUND)
        if len(word) <= _LONGEST_WORD and word.isalnum():
            yield word


def _one_character(content: str) -> Iterator[str]:
    """The character that fewest other memories have, as far as can be told: the one farthest from ASCII letters."""
    characters = {each for each in content[:_LOOKED_AT] if not each.isspace() and each.isprintable()}
    # A character whose case folds to several, or to another length, may not be found by a search that ignores case.
    plain = {each for each in characters if each not in _SPECIAL and len(each.lower()) == len(each.upper()) == 1}
    if chosen := plain or characters:
        yield max(chosen, key=lambda each: (ord(each) > 127, not each.isalnum(), ord(each)))
