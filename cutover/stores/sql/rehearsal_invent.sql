-- What callers might have done in A3, written into the scratch journal as the write path writes it, over {invented} rows
-- that no word speaks of, drawn by id; and, beside it, what must be in legacy after the way back. Deletes, edits, natives
-- that take a row's place, and memories made, edited and deleted since; times that nobody knows, scopes, signs of all sorts.
CREATE TABLE cutover_rehearsal.expected AS
    SELECT a.id, a.workspace_id, a.content, a.scope::text, a.namespace::text AS label, a.created_at, a.updated_at, {fingerprint} AS embedding
    FROM cutover_rehearsal.agent_memories a;
ALTER TABLE cutover_rehearsal.expected ADD PRIMARY KEY (id);
CREATE TABLE cutover_rehearsal.drawn AS
    SELECT a.*, row_number() OVER (ORDER BY a.id) AS n FROM cutover_rehearsal.expected a
    WHERE a.workspace_id IS NOT NULL AND a.content <> ''
      AND NOT EXISTS (SELECT FROM cutover_rehearsal.journal j WHERE j.memory_id = a.id)
      AND EXISTS (SELECT FROM public.workspaces w WHERE w.id = a.workspace_id)
    ORDER BY a.id LIMIT {invented};
-- Edited, some of them twice; the first word of those says something else.
INSERT INTO cutover_rehearsal.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, content, kind, source, created_at, updated_at)
SELECT d.id, nextval('cutover_rehearsal.rev_seq'), 1, 'upsert', 'applied', false, 'rehearsal', d.workspace_id, d.scope, 'first', 'a word before the last', 'fact', 'agent', d.created_at, '2001-02-03 04:05:06.789012+00'
FROM cutover_rehearsal.drawn d WHERE n % 8 = 1;
INSERT INTO cutover_rehearsal.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, content, kind, source, created_at, updated_at)
SELECT d.id, nextval('cutover_rehearsal.rev_seq'), 1, 'upsert', CASE WHEN n % 16 = 1 THEN 'intent' ELSE 'applied' END, false, 'rehearsal', d.workspace_id, d.scope, 'procedures',
       'rehearsed ' || d.content || E' – žluťoučký 🐎 \\ ''"%$1 {{}}', 'fact', 'agent', d.created_at, '2001-02-03 04:05:07.000001+00'
FROM cutover_rehearsal.drawn d WHERE n % 4 = 1;
UPDATE cutover_rehearsal.expected e SET
    content = 'rehearsed ' || e.content || E' – žluťoučký 🐎 \\ ''"%$1 {{}}', label = 'procedures', updated_at = '2001-02-03 04:05:07.000001+00', embedding = NULL
FROM cutover_rehearsal.drawn d WHERE d.id = e.id AND d.n % 4 = 1;
-- Deleted.
INSERT INTO cutover_rehearsal.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label)
SELECT d.id, nextval('cutover_rehearsal.rev_seq'), 1, 'forget', 'applied', false, 'rehearsal', d.workspace_id, d.scope, d.label
FROM cutover_rehearsal.drawn d WHERE n % 4 = 2;
-- A native took its place.
INSERT INTO cutover_rehearsal.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, content, kind, source, created_at, updated_at)
SELECT d.id, nextval('cutover_rehearsal.rev_seq'), 1, 'upsert', 'applied', true, 'rehearsal', d.workspace_id, 'a summary of it', 'summary', 'agent', now(), now()
FROM cutover_rehearsal.drawn d WHERE n % 4 = 3;
DELETE FROM cutover_rehearsal.expected e USING cutover_rehearsal.drawn d WHERE d.id = e.id AND d.n % 4 IN (2, 3);
-- An edit that was withdrawn says nothing.
INSERT INTO cutover_rehearsal.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, content, kind, source, created_at, updated_at)
SELECT d.id, nextval('cutover_rehearsal.rev_seq'), 1, 'upsert', 'withdrawn', false, 'rehearsal', d.workspace_id, d.scope, 'general', 'withdrawn', 'fact', 'agent', d.created_at, now()
FROM cutover_rehearsal.drawn d WHERE n % 4 = 0;
-- Made in A3, in every scope; every third of them deleted again.
CREATE TABLE cutover_rehearsal.made AS
    SELECT gen_random_uuid() AS id, d.workspace_id, (ARRAY['LOCAL', 'TEAM', 'GLOBAL'])[d.n % 3 + 1] AS scope, d.n,
           CASE d.n % 3 WHEN 2 THEN '[_MEMORY made in A3] ' ELSE 'made in A3: ' END || d.n || E' – Ωμέγα\t"' AS content,
           timestamptz '2002-03-04 05:06:07.000008+00' + d.n * interval '1 microsecond' AS created_at
    FROM cutover_rehearsal.drawn d WHERE d.n % 2 = 0;
INSERT INTO cutover_rehearsal.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label, content, kind, source, pin, propagation, created_at, updated_at)
SELECT m.id, nextval('cutover_rehearsal.rev_seq'), 1, 'upsert', 'applied', false, 'rehearsal', m.workspace_id, m.scope, 'general', m.content, 'fact', 'user', true, '{{"mine": null}}', m.created_at, m.created_at
FROM cutover_rehearsal.made m;
INSERT INTO cutover_rehearsal.journal (memory_id, rev, epoch, op, state, native, namespace, workspace_id, scope, label)
SELECT m.id, nextval('cutover_rehearsal.rev_seq'), 1, 'forget', 'applied', false, 'rehearsal', m.workspace_id, m.scope, 'general'
FROM cutover_rehearsal.made m WHERE m.n % 6 = 0;
INSERT INTO cutover_rehearsal.expected (id, workspace_id, content, scope, label, created_at, updated_at)
SELECT m.id, m.workspace_id, m.content, m.scope, 'general', m.created_at, m.created_at FROM cutover_rehearsal.made m WHERE m.n % 6 <> 0;
ANALYZE cutover_rehearsal.journal;
