"""A deterministic tenant to practise on: every oddity that real v1 tables hold (domain §2), the same at every run.

The same `seed` gives the same rows, ids, times and tokens. Times count back from a fixed day, so that two runs on
different days agree too.
"""

import hashlib
import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg

LAST_DAY = datetime(2026, 4, 1, 12, tzinfo=UTC)
"""No sample row is newer."""
DAYS = 180
EMBEDDING_DIMENSIONS = 1536
_LARGE = 100 * 1024
_WORDS = (  # noqa: SIM905 -- fifty quoted words would be harder to read
    "deploy staging nightly invoice parser retry queue schema migration Friday customer prefers tabs spaces budget "
    "review latency index cache token rotation backup restore incident timeline owner agent summary meeting notes "
    "draft contract vendor Berlin Zürich naïve café Größe Straße 東京 会議 資料 проект заметка مشروع 🐘 🚀 résumé"
).split()
_LABELS = ("general", "general", "general", "facts", "procedures", "preferences")
_SCOPES = ("LOCAL",) * 7 + ("TEAM",) * 2 + ("GLOBAL",)
_MEMORY_COLUMNS = ("id", "workspace_id", "content", "scope", "namespace", "created_at", "updated_at")
Row = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class SampleWorkspace:
    """One workspace of the sample. `token` is its live bearer token in clear."""

    id: UUID
    name: str
    parent_id: UUID | None
    depth: int
    """0 for a root."""
    removed: bool
    token: str
    revoked_token: str | None = None


@dataclass(frozen=True, slots=True)
class SampleTenant:
    """What `seed` wrote."""

    workspaces: tuple[SampleWorkspace, ...]
    memories: int
    with_embedding: int
    """Memories that carry an embedding; 0 where the column does not exist."""
    without_workspace: int
    blank: int
    """Memories whose content is empty or only white space."""
    large: int
    """Memories of 100 KB or more."""

    @property
    def roots(self) -> tuple[SampleWorkspace, ...]:
        return tuple(workspace for workspace in self.workspaces if workspace.parent_id is None)

    @property
    def unplaceable(self) -> int:
        """Memories that no namespace can take: they belong in quarantine."""
        return self.without_workspace + self.blank


async def seed(
    connection: "asyncpg.Connection[asyncpg.Record]", *, memories: int = 5000, workspaces: int = 40, seed: int = 7
) -> SampleTenant:
    """Fill an empty v1 schema, in one transaction. At least 8 workspaces and 100 memories."""
    if workspaces < 8 or memories < 100:
        raise ValueError("a sample tenant has at least 8 workspaces and 100 memories")
    tree = _workspaces(random.Random(seed), workspaces)
    has_embedding = bool(
        await connection.fetchval(
            "SELECT true FROM pg_attribute WHERE attrelid = 'public.agent_memories'::regclass"
            " AND attname = 'embedding' AND NOT attisdropped"
        )
    )
    rows = _memories(random.Random(seed + 1), tree, memories)
    async with connection.transaction():
        await _write_workspaces(connection, random.Random(seed + 2), tree)
        await _copy(connection, "agent_memories", _MEMORY_COLUMNS, rows)
        embedded = await _write_embeddings(connection, random.Random(seed + 3), rows) if has_embedding else 0
        await _write_activity(connection, random.Random(seed + 4), tree, rows)
        await _write_tokens(connection, tree)
        await _write_key_values(connection, random.Random(seed + 5), tree)
    return SampleTenant(
        workspaces=tree,
        memories=len(rows),
        with_embedding=embedded,
        without_workspace=sum(row[1] is None for row in rows),
        blank=sum(row[1] is not None and not row[2].strip() for row in rows),
        large=sum(len(row[2].encode()) >= _LARGE for row in rows),
    )


# -- what there is ------------------------------------------------------------------------------------------------


def _uuid(rng: random.Random) -> UUID:
    return UUID(int=rng.getrandbits(128), version=4)


def _moment(rng: random.Random) -> datetime:
    return LAST_DAY - timedelta(microseconds=rng.randrange(DAYS * 86_400_000_000))


def _workspaces(rng: random.Random, count: int) -> tuple[SampleWorkspace, ...]:
    """A chain four levels deep, then roots with children; the last child is removed, the first has a revoked token."""
    parents: list[int | None] = [None, 0, 1, 2]
    roots = [0]
    while len(parents) < count:
        if len(roots) < max(2, count // 8):
            roots.append(len(parents))
            parents.append(None)
        else:
            parents.append(rng.choice(roots))
    ids = [_uuid(rng) for _ in parents]
    depths: list[int] = []
    for parent in parents:
        depths.append(0 if parent is None else depths[parent] + 1)
    return tuple(
        SampleWorkspace(
            id=ids[number],
            name=f"agent {number} {rng.choice(_WORDS)}",
            parent_id=None if parent is None else ids[parent],
            depth=depths[number],
            removed=number == count - 1,
            token=f"demo-{number}",
            revoked_token="demo-revoked" if number == 0 else None,
        )
        for number, parent in enumerate(parents)
    )


def _text(rng: random.Random, number: int) -> str:
    return f"note {number}: " + " ".join(rng.choices(_WORDS, k=rng.randint(4, 40)))


def _memories(rng: random.Random, tree: tuple[SampleWorkspace, ...], count: int) -> list[Row]:
    """`count` rows in the order of `_MEMORY_COLUMNS`: mostly ordinary, one of each oddity at fixed places."""
    rows: list[Row] = []
    # A few workspaces hold most of the memories: one far above the contract's 100 rows per search.
    weights = [1 / (position + 1) for position in range(len(tree))]
    for number in range(count):
        workspace = rng.choices(tree, weights)[0]
        # The MCP path stores the workspace's id as the label.
        label = str(workspace.id) if rng.random() < 0.2 else rng.choice(_LABELS)
        created = _moment(rng)
        updated: datetime | None = created
        if rng.random() < 0.1:
            updated = min(LAST_DAY, created + timedelta(seconds=rng.random() * 86_400))
        owner: UUID | None = workspace.id
        content = _text(rng, number)
        match number % 500:
            case 11:
                owner = None
            case 23:
                content = ""
            case 29:
                content = " \n\t "
            case 31:
                created, updated = None, None  # type: ignore[assignment]
            case 37:
                updated = None
            case 41:
                content = (content + "\n") * (_LARGE // len(content) + 1)
            case 43:
                content = f"{content}\n[_MEMORY id=x scope=GLOBAL]: {content}\\ \"quoted\" \u2028 'single' %s $1"
            case _:
                pass
        rows.append((_uuid(rng), owner, content, rng.choice(_SCOPES), label, created, updated))
    return rows


# -- writing it ---------------------------------------------------------------------------------------------------


async def _copy(
    connection: "asyncpg.Connection[asyncpg.Record]", table: str, columns: tuple[str, ...], rows: list[Row]
) -> None:
    await connection.copy_records_to_table(table, schema_name="public", columns=columns, records=rows)


async def _write_workspaces(
    connection: "asyncpg.Connection[asyncpg.Record]", rng: random.Random, tree: tuple[SampleWorkspace, ...]
) -> None:
    # Not COPY: `status` is text in older deployments and an enum in newer ones, and only SQL literals fit both.
    await connection.execute(
        "CREATE TEMPORARY TABLE sample_workspace (id uuid, name text, parent_id uuid, removed bool, at timestamptz)"
        " ON COMMIT DROP"
    )
    rows = [(each.id, each.name, each.parent_id, each.removed, _moment(rng)) for each in tree]
    await connection.copy_records_to_table("sample_workspace", records=rows)
    for removed, status in ((False, "online"), (True, "removed")):
        await connection.execute(
            "INSERT INTO public.workspaces (id, name, parent_id, status, created_at)"
            f" SELECT id, name, parent_id, '{status}', at FROM sample_workspace WHERE removed = {removed}"
        )


async def _write_embeddings(
    connection: "asyncpg.Connection[asyncpg.Record]", rng: random.Random, rows: list[Row]
) -> int:
    """An embedding for every twentieth memory."""
    await connection.execute("CREATE TEMPORARY TABLE sample_embedding (id uuid, embedding text) ON COMMIT DROP")
    chosen = rows[::20]
    vectors = [
        (row[0], f"[{','.join(f'{rng.uniform(-1, 1):.4f}' for _ in range(EMBEDDING_DIMENSIONS))}]") for row in chosen
    ]
    await connection.copy_records_to_table("sample_embedding", records=vectors)
    await connection.execute(
        "UPDATE public.agent_memories m SET embedding = s.embedding::public.vector"
        " FROM sample_embedding s WHERE s.id = m.id"
    )
    return len(chosen)


async def _write_activity(
    connection: "asyncpg.Connection[asyncpg.Record]",
    rng: random.Random,
    tree: tuple[SampleWorkspace, ...],
    memories: list[Row],
) -> None:
    """What agents did, and one `memory_write_global` row per GLOBAL memory, as v1 writes it."""
    rows: list[Row] = []
    for number in range(len(tree) * 5):
        workspace = rng.choice(tree)
        request = json.dumps({"task": _text(rng, number)})
        answer = json.dumps({"ok": True, "number": number})
        at = _moment(rng)
        rows.append((_uuid(rng), workspace.id, "a2a_send", "message/send", _text(rng, number), request, answer, at))
    for memory_id, owner, content, scope, label, created, _ in memories:
        if scope == "GLOBAL" and owner is not None:
            digest = hashlib.sha256(content.encode()).hexdigest()
            request = json.dumps({"memory_id": str(memory_id), "namespace": label, "content_sha256": digest})
            at = created or LAST_DAY
            rows.append((_uuid(rng), owner, "memory_write_global", None, "GLOBAL memory written", request, None, at))
    columns = (
        "id",
        "workspace_id",
        "activity_type",
        "method",
        "summary",
        "request_body",
        "response_body",
        "created_at",
    )
    await _copy(connection, "activity_logs", columns, rows)


async def _write_tokens(connection: "asyncpg.Connection[asyncpg.Record]", tree: tuple[SampleWorkspace, ...]) -> None:
    rows: list[Row] = []
    for workspace in tree:
        for token, revoked in ((workspace.token, None), (workspace.revoked_token, LAST_DAY)):
            if token is not None:
                rows.append((workspace.id, hashlib.sha256(token.encode()).digest(), token[:8], LAST_DAY, revoked))
    columns = ("workspace_id", "token_hash", "prefix", "created_at", "revoked_at")
    await _copy(connection, "workspace_auth_tokens", columns, rows)


async def _write_key_values(
    connection: "asyncpg.Connection[asyncpg.Record]", rng: random.Random, tree: tuple[SampleWorkspace, ...]
) -> None:
    rows: list[Row] = []
    for workspace in tree:
        for key in rng.sample(_WORDS, k=3):
            expires = LAST_DAY + timedelta(days=rng.randint(-30, 300)) if rng.random() < 0.3 else None
            value = json.dumps({"note": _text(rng, 0), "n": rng.randint(0, 99)})
            rows.append((_uuid(rng), workspace.id, key, value, expires, _moment(rng), rng.randint(1, 9)))
    columns = ("id", "workspace_id", "key", "value", "expires_at", "updated_at", "version")
    await _copy(connection, "workspace_memory", columns, rows)
