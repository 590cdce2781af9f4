"""What an archive is: parts, a manifest that names every one of them, and the rules by which both are believed.

A part is a range of one table's rows in key order, as PostgreSQL's COPY text compressed with zstd. Text, because any
version of PostgreSQL reads it and a person can, too; the binary form depends on how a type is sent.

The manifest is sealed: its bytes are the canonical ones of what it says, and it holds the hash of all of it but the
seal. So a flipped bit in it is found without any other file, and one in `SHA256SUMS` is told apart from it.
"""

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from typing import Any, Self
from uuid import UUID

FORMAT = 1
MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"
PROGRESS = "progress.jsonl"
SUPPLEMENT = "deleted-since.json"
UNTESTED = "manifest.untested.json"
"""The manifest until the archive was restored on trial: without one under its own name it is no archive."""
MEMORIES, KV, JOURNAL, TOMBSTONES = "memories", "kv", "journal", "tombstones"
TABLES = frozenset({MEMORIES, KV, JOURNAL, TOMBSTONES, "natives", "extras"})

# What a manifest may say. The seal has no key: whoever can write the files can seal anything, and what is in them is
# made into names of files and into SQL.
_FILE = re.compile(r"([a-z]+)-[0-9]{5,9}\.copy\.zst")
_NAME = re.compile(r'[^"\x00-\x1f]{1,63}')
_TYPE = re.compile(r'[A-Za-z0-9_ ."]{1,130}(\([0-9]+(, ?[0-9]+)?\))?( with(out)? time zone)?(\[\])*')
_KEY = re.compile(r"[0-9a-f-]{1,40}")
_CALLED = re.compile(r"([^\s(),:|<>=+*/&~-]+|[<>=+*/&~|:-]+)?\s*\(")
# fmt: off
_HARMLESS = frozenset((
    "all", "and", "any", "array_length", "as", "bit", "btree", "btrim", "case", "char", "char_length",
    "character_length", "check", "clock_timestamp", "coalesce", "else", "gen_random_uuid", "gin", "gist",
    "greatest", "halfvec", "hash", "hnsw", "in", "include", "ivfflat", "jsonb_typeof", "key", "least", "length",
    "lower", "not", "now", "nullif", "nulls", "numeric", "octet_length", "on", "or", "references", "setweight",
    "statement_timestamp", "then", "time", "timestamp", "to_tsvector", "unique", "upper", "using",
    "uuid_generate_v4", "varchar", "varying", "vector", "vector_cosine_ops", "vector_ip_ops", "vector_l2_ops",
    "when", "where", "with", "workspaces",
))
# fmt: on
"""What may stand before a parenthesis: words of SQL, types, and functions that read nothing."""


def unusual(expression: str) -> str:
    """What keeps an expression, constraint or index of a manifest from being made without a person's look: a function
    that v1 does not use, or a comment; empty where nothing does."""
    if "--" in expression or "/*" in expression or "\\" in expression or "$" in expression:
        return "a comment or an escape"
    for found in _CALLED.finditer(expression):
        called = (found[1] or "").rsplit(".", 1)[-1].strip('"').lower()
        if called and called not in _HARMLESS and any(each.isalnum() for each in called):
            return f"{called}()"
    return ""


def is_part_name(name: str, table: str) -> bool:
    """Whether this is the name that a part of the table can have: no path, no other file."""
    found = _FILE.fullmatch(name)
    return found is not None and found[1] == table and table in TABLES


class Damaged(ValueError):
    """A file of an archive is not what it was. The message says how; the caller knows which."""


@dataclass(frozen=True, slots=True)
class Column:
    """One column as PostgreSQL describes it. `default` and `generated` are expressions, or None."""

    name: str
    type: str
    not_null: bool
    default: str | None = None
    generated: bool = False


@dataclass(frozen=True, slots=True)
class Part:
    """One file. Its rows are those with `after` < key ≤ `last` (`after` None: from the first on). `digest` is over the
    rows, made in the database and without the file; `sha256` over the file; `raw` its length in bytes unpacked."""

    file: str
    table: str
    rows: int
    after: str | None
    last: str
    digest: str
    sha256: str
    size: int
    raw: int

    def as_json(self) -> dict[str, Any]:
        """For the manifest and for the progress file."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class ArchivedTable:
    """One table. `key` orders its rows; `constraints` are (name, definition), `indexes` whole statements."""

    name: str
    relation: str
    key: str
    key_type: str
    columns: tuple[Column, ...]
    constraints: tuple[tuple[str, str], ...] = ()
    indexes: tuple[str, ...] = ()

    @property
    def copied(self) -> tuple[str, ...]:
        """The columns that the parts hold: what is generated is made again."""
        return tuple(column.name for column in self.columns if not column.generated)


@dataclass(frozen=True, slots=True)
class Manifest:
    """All about one archive. `snapshot_at`: every row is as it was then, what was deleted by then has a tombstone.
    `legacy_changes`: how often a way back had written into the frozen table by then."""

    tenant: str
    database: str
    phase: str
    epoch: int
    snapshot_at: str
    server: str
    encoding: str
    made_by: str
    tables: tuple[ArchivedTable, ...]
    parts: tuple[Part, ...]
    legacy_changes: int = 0

    def of(self, table: str) -> tuple[Part, ...]:
        """The parts of a table, in order."""
        return tuple(part for part in self.parts if part.table == table)

    def rows(self, table: str) -> int:
        """How many rows of a table there are."""
        return sum(part.rows for part in self.of(table))

    def digest(self, table: str) -> str:
        """Over all rows of a table: the chain of its parts' digests."""
        return hashlib.sha256("".join(part.digest for part in self.of(table)).encode()).hexdigest()

    def table(self, name: str) -> ArchivedTable:
        """One table by its name in the archive."""
        return next(table for table in self.tables if table.name == name)

    def to_bytes(self) -> bytes:
        """The manifest as it is written."""
        said: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        said["summary"] = {t.name: {"rows": self.rows(t.name), "digest": self.digest(t.name)} for t in self.tables}
        return _canonical({**said, "seal": _seal(said)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `Damaged` for anything that `to_bytes` did not write."""
        try:
            said = json.loads(data)
            if not isinstance(said, dict):
                raise Damaged("it is not a manifest")
            seal = said.pop("seal", None)
            if said.get("format") != FORMAT:
                raise Damaged(f"its format is {said.get('format')!r}, and this version reads {FORMAT}")
            if seal != _seal(said) or _canonical({**said, "seal": seal}) != data:
                raise Damaged("its seal does not fit what it says: it was changed")
            del said["format"], said["summary"]
            tables = tuple(
                ArchivedTable(
                    **{
                        **table,
                        "columns": tuple(Column(**column) for column in table["columns"]),
                        "constraints": tuple((name, definition) for name, definition in table["constraints"]),
                        "indexes": tuple(table["indexes"]),
                    }
                )
                for table in said.pop("tables")
            )
            parts = tuple(Part(**part) for part in said.pop("parts"))
            _check(tables, parts)
            return cls(**said, tables=tables, parts=parts)
        except Damaged:
            raise
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise Damaged("it cannot be read as a manifest") from error


def _check(tables: tuple[ArchivedTable, ...], parts: tuple[Part, ...]) -> None:
    for table in tables:
        fit = (
            table.name in TABLES
            and re.fullmatch("[a-z_]+", table.key)
            and table.key in {column.name for column in table.columns}
            and all(_NAME.fullmatch(column.name) and _TYPE.fullmatch(column.type) for column in table.columns)
            and _TYPE.fullmatch(table.key_type)
            and all(_NAME.fullmatch(name) for name, _ in table.constraints)
        )
        if not fit:
            raise Damaged(f"it describes table {table.name[:40]!r} as no archive does")
    known = {table.name for table in tables}
    if len(known) != len(tables) or len({part.file for part in parts}) != len(parts):
        raise Damaged("it names something twice")
    for part in parts:
        keys = [each for each in (part.after, part.last) if each is not None]
        if part.table not in known or not is_part_name(part.file, part.table):
            raise Damaged(f"it names {part.file[:40]!r} as a part")
        if not all(_KEY.fullmatch(key) for key in keys):
            raise Damaged(f"{part.file} has a range that no archive has")


@dataclass(frozen=True, slots=True)
class Supplement:
    """What became of memories after an archive was made; written beside it when the record of that goes.

    `of`: sha256 of its manifest; `deleted`: ids; `withdrawn`: (seq, id) of deletes that were under
    way once and did not happen.
    """

    of: str
    made_at: str
    deleted: tuple[str, ...]
    withdrawn: tuple[tuple[int, str], ...]

    def to_bytes(self) -> bytes:
        """As it is written, sealed like a manifest."""
        said: dict[str, Any] = {"format": FORMAT, **asdict(self)}
        return _canonical({**said, "seal": _seal(said)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Raises `Damaged` for anything that `to_bytes` did not write."""
        try:
            said = json.loads(data)
            seal = said.pop("seal", None)
            if said.pop("format", None) != FORMAT or seal != _seal({"format": FORMAT, **said}):
                raise Damaged("its seal does not fit what it says: it was changed")
            deleted = tuple(str(UUID(each)) for each in said["deleted"])
            withdrawn = tuple((int(seq), str(UUID(each))) for seq, each in said["withdrawn"])
            return cls(said["of"], said["made_at"], deleted, withdrawn)
        except Damaged:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise Damaged("it cannot be read") from error


def sums(manifest: Manifest, sealed: bytes) -> str:
    """`SHA256SUMS`: what `sha256sum --check` wants."""
    lines = [f"{part.sha256}  {part.file}" for part in manifest.parts]
    return "\n".join([*lines, f"{hashlib.sha256(sealed).hexdigest()}  {MANIFEST}", ""])


def _canonical(said: dict[str, Any]) -> bytes:
    return (json.dumps(said, indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def _seal(said: dict[str, Any]) -> str:
    return hashlib.sha256(_canonical(said)).hexdigest()
