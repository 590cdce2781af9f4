-- The built-in plugin's storage (domain §3). Applied in one transaction under an advisory lock, so the last object
-- being there means that all are. Idempotent all the same.
CREATE SCHEMA IF NOT EXISTS memory_plugin;
CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;

CREATE TABLE IF NOT EXISTS memory_plugin.memory_namespaces (
    name text PRIMARY KEY,
    kind text NOT NULL CHECK (kind IN ('workspace', 'team', 'org', 'custom')),
    expires_at timestamptz,
    metadata jsonb,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- `vector` is unqualified on purpose: it lives where the search_path of the connection finds it.
CREATE TABLE IF NOT EXISTS memory_plugin.memory_records (
    id uuid PRIMARY KEY,
    namespace text NOT NULL CONSTRAINT memory_records_namespace_fkey
        REFERENCES memory_plugin.memory_namespaces (name) ON DELETE CASCADE,
    content text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('fact', 'summary', 'checkpoint')),
    source text NOT NULL CHECK (source IN ('agent', 'runtime', 'user')),
    expires_at timestamptz,
    propagation jsonb,
    pin boolean NOT NULL DEFAULT false,
    embedding vector(1536),
    content_tsv tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- Embeddings are compared exactly, inside the asked namespaces: an approximate index would make the reference's
-- answers depend on the order of insertion.
CREATE INDEX IF NOT EXISTS memory_records_content_tsv ON memory_plugin.memory_records USING gin (content_tsv);
CREATE INDEX IF NOT EXISTS memory_records_listing ON memory_plugin.memory_records (namespace, created_at DESC);
