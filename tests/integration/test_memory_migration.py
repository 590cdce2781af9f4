"""The control plane's tables (architecture §8): exactly these columns, what each text holds, no vector anywhere.

Migrations up and down are `test_migrations.py`, append-only is `test_append_only.py`, secrets `test_no_secrets.py`.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from cutover.stores import migrate
from cutover.stores.database import Database
from tests.conftest import MakeDatabase

COLUMNS = """
access_watch: id smallint, epoch bigint, relation oid, stats_reset timestamptz?, base_scans bigint, base_own bigint,
  last_scans bigint, counted bigint, lost bigint, set_aside bigint, last_own bigint, quiet_since timestamptz, since
  timestamptz, looked_at timestamptz, why text
approval: seq bigint, certificate bytea, approver text, at timestamptz
backfill_cursor: scope text, generation integer, last_id uuid?, done boolean, scanned bigint, marked bigint, copied
  bigint, total bigint, started_at timestamptz, updated_at timestamptz, last_key text?
bypass_write: seq bigint, at timestamptz, writer text, operation text
bypass_writer: writer text, operation text, writes bigint, first_seen timestamptz, last_seen timestamptz
canary: memory_id uuid, fault text, namespace text, content text, planted_at timestamptz, planted_by uuid
capture_gap: id smallint, seen_at timestamptz, missing text[]
certificate: hash bytea, target text, from_phase text, epoch bigint, override text?, loosened text[], requested_by
  text, issued_at timestamptz, expires_at timestamptz, body text
daemon: id uuid, host text, pid integer, version text, config_hash text, settings jsonb, faces jsonb, started_at
  timestamptz, last_seen timestamptz
delivery_log: xid xid8, memory_id uuid, origin text, writer text, at timestamptz
divergence: memory_id uuid, class text, state text, source text, namespace text?, namespace_kind text, workspace_id
  uuid?, writer text, first_run uuid, last_run uuid, first_seen timestamptz, last_seen timestamptz, looked_at
  timestamptz, snapshot text, confirmed_at timestamptz?, onset_after timestamptz?, onset_before timestamptz,
  expected_hash bytea?, plugin_hash bytea?, expected_length integer?, plugin_length integer?, accepted_by text?,
  accepted_at timestamptz?, why text?, repair_by text?, repair_at timestamptz?, closed_at timestamptz?, closed_by
  text?
drop_event: seq bigint, at timestamptz, event text, relation text, hold_until timestamptz?, actor text, detail text
drop_hold: event_seq bigint, seconds double precision, held double precision, looked_at timestamptz
extra: memory_id uuid, source text, pin boolean, propagation jsonb?, embedding real[]?
foreign_reader: reader text, scans bigint, sightings bigint, first_seen timestamptz, last_seen timestamptz
freeze: id smallint, number bigint, mode text, until timestamptz?, since timestamptz, actor text, reason text,
  table_oid oid, code bytea
freeze_counted: slot smallint, attempts bigint
freeze_log: number bigint, mode text, since timestamptz, until timestamptz?, actor text, reason text, ended_at
  timestamptz?, ended_by text?
freeze_pass: seq bigint, number bigint, origin text, operation text, writer text, at timestamptz
freeze_refusal: number bigint, writer text, attempts bigint, first_seen timestamptz, last_seen timestamptz
idempotency: memory_id uuid, fingerprint bytea, created_at timestamptz
journal: seq bigint, memory_id uuid, rev bigint, epoch bigint, op text, state text, native boolean, namespace text,
  workspace_id uuid?, scope text?, label text, content text?, kind text?, source text?, expires_at timestamptz?, pin
  boolean, propagation jsonb?, embedding real[]?, created_at timestamptz?, updated_at timestamptz?, writer text,
  begun_at timestamptz, settled_at timestamptz?, replaced jsonb?, in_legacy boolean, adopted boolean
kv: memory_id uuid, workspace_id uuid, key text
kv_capture: id smallint, captured boolean, untidy boolean, changed_at timestamptz
kv_waiting: memory_id uuid
mark: memory_id uuid, rev bigint, held_in text[], due_at timestamptz, lease_id bigint?, lease_owner uuid?, sent_at
  timestamptz?, ambiguous boolean, attempts integer, last_error text?, origin text, writer text, marked_at
  timestamptz
memory_procedure: name text, title text, version_id bigint?, package text?, changed_at timestamptz
memory_procedure_event: seq bigint, name text, what text, version_id bigint, previous_id bigint?, package text, at
  timestamptz
memory_procedure_version: id bigint, name text, number integer, content_hash bytea, body text, package text, at
  timestamptz
migration: version integer, name text, checksum text, applied_at timestamptz
namespace: name text, kind text, expires_at timestamptz?, metadata jsonb?, created_at timestamptz, closed_until
  timestamptz?, delete_may_land_until timestamptz?
native: memory_id uuid, namespace text, content text, kind text, source text, expires_at timestamptz?, pin boolean,
  propagation jsonb?, created_at timestamptz, content_tsv tsvector?
own_transaction: pid integer, xid xid8
phase_event: seq bigint, epoch bigint, from_phase text?, to_phase text, actor text, reason text, at timestamptz,
  certificate bytea?, override text?, loosened text[], approvers text[]?, previous_hash bytea, hash bytea
phase_state: id smallint, phase text, epoch bigint, generation integer, strays_pending boolean, entered_at
  timestamptz, legacy_changes bigint
purge_again: workspace_id uuid, writer text
quarantine: memory_id uuid, workspace_id uuid?, reason text, detail text, rev bigint, first_seen timestamptz,
  last_seen timestamptz, acknowledged_by text?, acknowledged_at timestamptz?, why text?
rehearsal: run_id uuid, ok boolean, phase text, began_at timestamptz, ended_at timestamptz, seconds double
  precision, held_seconds double precision, rows bigint, whole boolean, words bigint, invented bigint, mismatches
  bigint, why text
soak: id smallint, epoch bigint, green_seconds double precision, credited_to timestamptz?, count_since timestamptz?,
  count_until timestamptz?, digest_since timestamptz?, digest_until timestamptz?, full_since timestamptz?,
  full_until timestamptz?, resets integer, last_reset_at timestamptz?, last_reset_why text, updated_at timestamptz
soak_event: seq bigint, epoch bigint, event text, green_seconds double precision, why text, run_id uuid?, at
  timestamptz
soak_feed: seq bigint, run_id uuid, epoch bigint, kind text, outcome jsonb, ended_at timestamptz
sweep_bucket: run_id uuid, bucket integer, looked_at timestamptz, expected_rows bigint, plugin_rows bigint,
  differing bigint
task_checkpoint: seq bigint, run_id uuid, at timestamptz, data jsonb, kind checkpoint_kind
task_run: id uuid, kind text, state text, requested_by text, parameters jsonb, outcome jsonb?, started_at
  timestamptz, finished_at timestamptz?, procedure_version bigint?, epoch bigint?
tombstone: memory_id uuid, rev bigint, held_in text[], deleted_at timestamptz
verify_finding: memory_id uuid, class text, state text, source text, namespace text?, namespace_kind text,
  workspace_id uuid?, writer text, first_run uuid, last_run uuid, first_seen timestamptz, last_seen timestamptz,
  looked_at timestamptz, snapshot text, confirmed_at timestamptz?, onset_after timestamptz?, onset_before
  timestamptz, expected_hash bytea?, plugin_hash bytea?, expected_length integer?, plugin_length integer?,
  accepted_by text?, accepted_at timestamptz?, why text?, repair_by text?, repair_at timestamptz?, closed_at
  timestamptz?, closed_by text?
write_tally: epoch bigint, writes bigint, errors bigint, updated_at timestamptz
"""
_COLUMNS = """
SELECT c.relname, a.attname, format_type(a.atttypid, a.atttypmod) AS type, NOT a.attnotnull AS nullable
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'cutover'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY c.relname, a.attnum
"""
# Text that is neither looked at by a constraint, nor held to a list or a pattern, nor spoken for by its comment.
_UNSPOKEN = """
SELECT c.relname || '.' || a.attname AS name
FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
WHERE c.relnamespace = 'cutover'::regnamespace AND c.relkind = 'r' AND a.attnum > 0 AND NOT a.attisdropped
  AND a.atttypid = ANY (ARRAY['text', 'text[]', 'varchar', 'json', 'jsonb', 'bytea', 'name']::regtype[])
  AND coalesce(col_description(c.oid, a.attnum), '') !~* '\\m(no secret|content[,:])'
  AND NOT EXISTS (
      SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.contype = 'c' AND a.attnum = ANY (k.conkey)
      AND pg_get_constraintdef(k.oid) ~ format('looks_secret\\(%1$s\\)|\\(%1$s = ANY \\(ARRAY\\[', a.attname))
ORDER BY 1
"""
_SILENT_TABLES = """
SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'cutover'::regnamespace AND c.relkind IN ('r', 'p', 'v', 'm')
  AND obj_description(c.oid) IS NULL
"""
_VECTORS = """
SELECT c.relname || '.' || a.attname AS name FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
JOIN pg_type t ON t.oid = a.atttypid
WHERE c.relnamespace = 'cutover'::regnamespace AND a.attnum > 0
  AND (t.typname IN ('vector', 'halfvec', 'sparsevec') OR t.typname ~ '^_?(vector|halfvec|sparsevec)$')
UNION ALL SELECT c.relname FROM pg_class c
WHERE c.relnamespace = 'cutover'::regnamespace AND c.relname ~ 'embedding'
"""


@asynccontextmanager
async def migrated(url: str) -> AsyncIterator[Database]:
    database = await Database.connect(url)
    try:
        await migrate.up(database)
        yield database
    finally:
        await database.close()


def told() -> dict[str, list[str]]:
    """Table to its columns, as `name type`, with a question mark where it may be null."""
    tables: dict[str, list[str]] = {}
    for line in COLUMNS.strip().replace("\n  ", " ").splitlines():
        name, _, columns = line.partition(": ")
        tables[name] = columns.split(", ")
    return tables


@pytest.fixture
def database(plain_database: str) -> str:
    """Everything here runs on PostgreSQL 16 and 15, unless it says otherwise."""
    return plain_database


async def test_the_control_plane_has_exactly_these_columns(database: str) -> None:
    async with migrated(database) as db:
        found: dict[str, list[str]] = {}
        for row in await db.fetch(_COLUMNS):
            kind = row["type"].replace("timestamp with time zone", "timestamptz").replace("cutover.", "")
            found.setdefault(row["relname"], []).append(f"{row['attname']} {kind}{'?' if row['nullable'] else ''}")
        assert found == told()


async def test_every_text_is_kept_from_secrets_or_says_why_it_needs_not_be(database: str) -> None:
    async with migrated(database) as db:
        assert [row["name"] for row in await db.fetch(_UNSPOKEN)] == []
        # The lint sees what it is for.
        await db.execute("CREATE TABLE cutover.odd (a text, b jsonb, c text CHECK (c IN ('x', 'y')), d integer)")
        await db.execute("COMMENT ON COLUMN cutover.odd.b IS 'Whatever.'")
        assert [row["name"] for row in await db.fetch(_UNSPOKEN)] == ["odd.a", "odd.b"]


async def test_every_table_and_view_says_what_it_is(database: str) -> None:
    async with migrated(database) as db:
        assert [row["relname"] for row in await db.fetch(_SILENT_TABLES)] == []
        await db.execute("CREATE TABLE cutover.odd ()")
        assert [row["relname"] for row in await db.fetch(_SILENT_TABLES)] == ["odd"]


async def test_no_table_of_embeddings_and_no_vector_is_made(make_database: MakeDatabase) -> None:
    """`memory_procedure_embedding` waits for a decided vector space; with pgvector in the database, too."""
    async with migrated(await make_database(embedding=True)) as db:
        assert await db.fetchval("SELECT count(*) FROM pg_extension WHERE extname = 'vector'") == 1
        assert [row["name"] for row in await db.fetch(_VECTORS)] == []
        await db.execute("CREATE TABLE cutover.odd (v vector(3))")
        assert [row["name"] for row in await db.fetch(_VECTORS)] == ["odd.v"]


async def test_the_kinds_of_a_checkpoint(database: str) -> None:
    async with migrated(database) as db:
        kinds = await db.fetchval("SELECT enum_range(NULL::cutover.checkpoint_kind)::text[]")
        assert kinds == ["progress", "control", "step", "done"]
