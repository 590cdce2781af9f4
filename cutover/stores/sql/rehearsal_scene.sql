-- A scratch schema for one rehearsal of the way back: everything that the replay names, under another name. The rows
-- that the journal speaks of come along in any case, the others up to {rows}. {embedding}: legacy's column, or none.
DROP SCHEMA IF EXISTS cutover_rehearsal CASCADE;
CREATE SCHEMA cutover_rehearsal;
COMMENT ON SCHEMA cutover_rehearsal IS 'A rehearsal of cutover''s way back; may be dropped at any time.';
CREATE TABLE cutover_rehearsal.agent_memories (LIKE public.agent_memories INCLUDING DEFAULTS INCLUDING GENERATED INCLUDING CONSTRAINTS);
ALTER TABLE cutover_rehearsal.agent_memories ADD PRIMARY KEY (id);
CREATE TABLE cutover_rehearsal.journal (LIKE cutover.journal INCLUDING ALL);
CREATE TABLE cutover_rehearsal.extra (LIKE cutover.extra INCLUDING ALL);
CREATE TABLE cutover_rehearsal.native (LIKE cutover.native INCLUDING ALL);
CREATE TABLE cutover_rehearsal.tombstone (LIKE cutover.tombstone INCLUDING ALL);
CREATE TABLE cutover_rehearsal.quarantine (LIKE cutover.quarantine INCLUDING ALL);
CREATE TABLE cutover_rehearsal.mark (LIKE cutover.mark INCLUDING ALL);
CREATE TABLE cutover_rehearsal.own_transaction (LIKE cutover.own_transaction INCLUDING ALL);
CREATE TABLE cutover_rehearsal.phase_state (LIKE cutover.phase_state INCLUDING ALL);
CREATE SEQUENCE cutover_rehearsal.rev_seq;
CREATE SEQUENCE cutover_rehearsal.lease_seq;
-- Locks of its own: nobody waits for a rehearsal.
CREATE FUNCTION cutover_rehearsal.phase_lock_key() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'select 7304916220481577301';
CREATE FUNCTION cutover_rehearsal.tree_lock_key() RETURNS bigint LANGUAGE sql IMMUTABLE AS 'select 7304916220481577302';
INSERT INTO cutover_rehearsal.phase_state (phase, epoch) VALUES ('A3', 1);
INSERT INTO cutover_rehearsal.journal OVERRIDING SYSTEM VALUE
SELECT (jsonb_populate_record(NULL::cutover_rehearsal.journal, to_jsonb(j) || '{{"in_legacy": false}}')).*
FROM cutover.journal j WHERE j.state IN ('intent', 'applied') AND NOT coalesce((to_jsonb(j) ->> 'adopted')::boolean, false)
ORDER BY j.seq LIMIT {words};
SELECT setval(pg_get_serial_sequence('cutover_rehearsal.journal', 'seq'), greatest(1, max(seq))) FROM cutover_rehearsal.journal;
INSERT INTO cutover_rehearsal.agent_memories (id, workspace_id, content, scope, namespace, created_at, updated_at{embedding})
SELECT id, workspace_id, content, scope, namespace, created_at, updated_at{embedding} FROM (
    SELECT * FROM public.agent_memories a WHERE a.id IN (SELECT j.memory_id FROM cutover_rehearsal.journal j)
    UNION
    (SELECT * FROM public.agent_memories a ORDER BY a.id LIMIT {rows})) a;
INSERT INTO cutover_rehearsal.extra SELECT e.* FROM cutover.extra e JOIN cutover_rehearsal.agent_memories a ON a.id = e.memory_id;
ANALYZE cutover_rehearsal.agent_memories;
