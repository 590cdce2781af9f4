"""Secret redaction on every write path (domain §2, SAFE-T1201).

The rules run in the platform's order. Each one looks only at the text between markers (`[REDACTED:<LABEL>]`), the
ones that came with the content included, so a marker is never read as part of a secret and never rewritten.

Why a second pass changes nothing: whether a rule matches at a place does not depend on the text further right being
there, so cutting matched text out of a segment leaves no match of that rule behind. Only the raw-token rules look to
their left (so that `task-…` is not an `sk-` key), and every match of every rule ends where no letter or digit
follows, or on a character that is neither; so cutting never opens a boundary that was closed. What an assignment
keeps (name, equals sign, opening quote) is not a value by itself.

Why it is linear: no rule has an unbounded prefix, repetitions that could be retried are possessive, and the two
rules that look for a far end (PEM block, database URL) remember where that end was, or that there is none.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

LABELS: Final = (
    "API_KEY",
    "TOKEN",
    "SECRET",
    "BEARER_TOKEN",
    "OPENSSH_PRIVATE_KEY",
    "PRIVATE_KEY",
    "DB_URL_WITH_CREDENTIALS",
    "GITHUB_PAT",
    "GITHUB_OAUTH",
    "GITHUB_APP_SERVER_TOKEN",
    "GITHUB_USER_TOKEN",
    "GITHUB_REFRESH_TOKEN",
    "GITHUB_FINEGRAINED_PAT",
    "VERCEL_TOKEN",
    "AWS_ACCESS_KEY_ID",
    "PERPLEXITY_API_KEY",
    "SK_TOKEN",
    "CTX7_TOKEN",
    "BASE64_BLOB",
)
"""Every label, in the order in which the rules run."""

Span = tuple[int, int, str]
"""Start, end (exclusive) and label of one secret inside a segment."""


@dataclass(frozen=True, slots=True)
class Redacted:
    """`content` is safe to store; `labels` names what was taken out: each label once, in rule order."""

    content: str
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Rule:
    needles: tuple[str, ...]
    """Lower case. Content without any of them cannot match: the cheap answer for nearly every memory."""
    find: Callable[[str], Iterable[Span]]
    """Spans from left to right, not overlapping."""


# What a value may be: quoted (line breaks too), or all up to white space with an authorization scheme before it, but
# without the brackets and stops that close the sentence around it. A PEM block is left for its own rule, which knows
# where it ends.
_ASSIGNMENT = re.compile(
    r"""[A-Za-z0-9_]_(?P<kind>(?ai:API_KEY|TOKEN|SECRET))[ \t]*+=++[ \t]*+
    (?:
        "(?P<double>[^"]++)"
      | '(?P<single>[^']++)'
      | (?!-----BEGIN\ [A-Z0-9 ]{0,40}PRIVATE\ KEY)
        (?P<bare>(?:(?ai:Bearer|Basic|Token)[ \t]++)?\S*[^\s"'`)\]},;.])
    )""",
    re.VERBOSE,
)
# In prose `bearer of bad news` is no secret, so spellings other than the usual one need something long behind them.
_BEARER_VALUE = r"""[^\s"'`<>{}()\[\],;$]"""
_BEARER = re.compile(rf"Bearer[ \t]++{_BEARER_VALUE}+|(?ai:bearer)[ \t]++{_BEARER_VALUE}{{16,}}")
_OPENSSH_BEGIN = re.compile(r"-----BEGIN OPENSSH PRIVATE KEY-----")
_OPENSSH_END = re.compile(r"-----END OPENSSH PRIVATE KEY-----")
_PEM_BEGIN = re.compile(r"-----BEGIN (?:[A-Z0-9]++ )*?PRIVATE KEY(?: BLOCK)?-----")
_PEM_END = re.compile(r"-----END (?:[A-Z0-9]++ )*?PRIVATE KEY(?: BLOCK)?-----")
_DATABASE_HEAD = re.compile(
    r"""(?ai:postgres(?:ql)?|mysql|mongodb|rediss?|amqps?)(?:\+[A-Za-z0-9_]++)?://[^\s:@/"'`<>]*+:"""
)
_DATABASE_PASSWORD_END = re.compile(r"""[\s"'`<>@]""")
_DATABASE_REST = re.compile(r"""[^\s"'`<>]*""")
_AWS = re.compile(r"(?<![A-Za-z0-9])AKIA[0-9A-Z]{16}[A-Za-z0-9]*")
_BASE64 = re.compile(r"[A-Za-z0-9+/]{33,}+={0,2}")
_MARKER = re.compile(rf"\[REDACTED:(?:{'|'.join(LABELS)})\]")


def _assignments(text: str) -> Iterator[Span]:
    for match in _ASSIGNMENT.finditer(text):
        start, end = match.span(match.lastgroup or 0)
        yield start, end, match["kind"].upper()


def _whole(pattern: re.Pattern[str], label: str) -> Callable[[str], Iterator[Span]]:
    def find(text: str) -> Iterator[Span]:
        for match in pattern.finditer(text):
            yield match.start(), match.end(), label

    return find


def _pem_blocks(begin: re.Pattern[str], end: re.Pattern[str], label: str) -> Callable[[str], Iterator[Span]]:
    def find(text: str) -> Iterator[Span]:
        head = begin.search(text)
        while head is not None:
            tail = end.search(text, head.end())
            if tail is None:
                return  # nor is there one behind any later head
            yield head.start(), tail.end(), label
            head = begin.search(text, tail.end())

    return find


def _database_urls(text: str) -> Iterator[Span]:
    taken = 0
    stop = -1
    for head in _DATABASE_HEAD.finditer(text):
        if head.start() < taken:
            continue
        if stop < head.end():
            ending = _DATABASE_PASSWORD_END.search(text, head.end())
            if ending is None:
                return  # no `@` behind any later head either
            stop = ending.start()
        if text[stop] != "@" or stop == head.end():
            continue
        rest = _DATABASE_REST.match(text, stop + 1)
        taken = stop + 1 if rest is None else rest.end()
        yield head.start(), taken, "DB_URL_WITH_CREDENTIALS"


def _prefixed(prefix: str, least: int, label: str) -> _Rule:
    pattern = re.compile(rf"(?<![A-Za-z0-9]){re.escape(prefix)}[A-Za-z0-9_\-]{{{least},}}+")
    return _Rule((prefix,), _whole(pattern, label))


_RULES: Final = (
    _Rule(("_api_key", "_token", "_secret"), _assignments),
    _Rule(("bearer",), _whole(_BEARER, "BEARER_TOKEN")),
    _Rule(("openssh private key-----",), _pem_blocks(_OPENSSH_BEGIN, _OPENSSH_END, "OPENSSH_PRIVATE_KEY")),
    _Rule(("private key",), _pem_blocks(_PEM_BEGIN, _PEM_END, "PRIVATE_KEY")),
    _Rule(("://",), _database_urls),
    _prefixed("ghp_", 16, "GITHUB_PAT"),
    _prefixed("gho_", 16, "GITHUB_OAUTH"),
    _prefixed("ghs_", 16, "GITHUB_APP_SERVER_TOKEN"),
    _prefixed("ghu_", 16, "GITHUB_USER_TOKEN"),
    _prefixed("ghr_", 16, "GITHUB_REFRESH_TOKEN"),
    _prefixed("github_pat_", 16, "GITHUB_FINEGRAINED_PAT"),
    _prefixed("vc_", 16, "VERCEL_TOKEN"),
    _Rule(("akia",), _whole(_AWS, "AWS_ACCESS_KEY_ID")),
    _prefixed("pplx-", 20, "PERPLEXITY_API_KEY"),
    _prefixed("sk-", 16, "SK_TOKEN"),
    _prefixed("ctx7_", 1, "CTX7_TOKEN"),
)
_LAST_RULE: Final = _Rule((), _whole(_BASE64, "BASE64_BLOB"))
_NOTE_BLOB = re.compile(r"[A-Za-z0-9+]{40,}+")


def _note_blobs(text: str) -> Iterator[Span]:
    for match in _NOTE_BLOB.finditer(text):
        found = match.group()
        if any(c.islower() for c in found) and any(c.isupper() for c in found) and any(c.isdigit() for c in found):
            yield match.start(), match.end(), "BASE64_BLOB"


_NOTE_RULE: Final = _Rule((), _note_blobs)
_NEEDLED: Final = tuple((needle, rule) for rule in _RULES for needle in rule.needles)


def redact(content: str) -> str:
    """`content` with every secret of domain §2 replaced by `[REDACTED:<LABEL>]`; idempotent, linear in its length."""
    return redact_with_report(content).content


def redact_note(text: str) -> str:
    """As `redact`, for the control plane's own record (architecture §8): digests and paths, which it is made of, are
    no blobs. `cutover.looks_secret` (migration 010) refuses nothing that this has been through."""
    return _apply((*_wanted(text), _NOTE_RULE), text).content


def redact_record(value: Any) -> Any:
    """`redact_note` for every string and every key of a JSON-able value."""
    match value:
        case str():
            return redact_note(value)
        case Mapping():
            return {redact_note(str(key)): redact_record(each) for key, each in value.items()}
        case list() | tuple():
            return [redact_record(each) for each in value]
        case _:
            return value


def redact_with_report(content: str) -> Redacted:
    """As `redact`, and which labels were used now (markers already in `content` are not reported)."""
    wanted = _wanted(content)
    if _BASE64.search(content) is not None:
        wanted.append(_LAST_RULE)
    if not wanted:
        return Redacted(content, ())
    return _apply(wanted, content)


def _wanted(content: str) -> list[_Rule]:
    """The rules that can match, by their needles."""
    lowered = content.lower()
    wanted: list[_Rule] = []
    for needle, rule in _NEEDLED:
        if needle in lowered and (not wanted or wanted[-1] is not rule):
            wanted.append(rule)
    return wanted


def _apply(rules: Iterable[_Rule], content: str) -> Redacted:
    pieces = _between_markers(content)
    found: set[str] = set()
    for rule in rules:
        following: list[str] = []
        for index, piece in enumerate(pieces):
            if index % 2:
                following.append(piece)
            else:
                _cut(piece, rule, following, found)
        pieces = following
    return Redacted("".join(pieces), tuple(label for label in LABELS if label in found))


def _between_markers(content: str) -> list[str]:
    """Text and markers in turn, beginning and ending with (maybe empty) text."""
    pieces: list[str] = []
    position = 0
    for marker in _MARKER.finditer(content):
        pieces += (content[position : marker.start()], marker.group())
        position = marker.end()
    pieces.append(content[position:])
    return pieces


def _cut(text: str, rule: _Rule, into: list[str], found: set[str]) -> None:
    position = 0
    for start, end, label in rule.find(text):
        into += (text[position:start], f"[REDACTED:{label}]")
        found.add(label)
        position = end
    into.append(text[position:])
