-- The v1 schema of a tenant, as workspace-server's own migrations leave it (domain §2).
-- Sections between `begin <choice>` and `end <choice>` are kept or left out by legacy_schema.py.

CREATE EXTENSION IF NOT EXISTS vector SCHEMA public;

CREATE TYPE public.workspace_status AS ENUM (
    'provisioning', 'online', 'offline', 'degraded', 'failed', 'removed', 'paused', 'hibernated'
);

CREATE TABLE public.workspaces (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    name text NOT NULL,
    parent_id uuid,
    status public.workspace_status NOT NULL DEFAULT 'provisioning',
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now()
);

CREATE TABLE public.agent_memories (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid REFERENCES public.workspaces (id),
    content text NOT NULL,
    scope varchar(10) NOT NULL CHECK (scope IN ('LOCAL', 'TEAM', 'GLOBAL')),
    namespace varchar(50) NOT NULL DEFAULT 'general',
    created_at timestamptz DEFAULT now(),
    updated_at timestamptz DEFAULT now(),
    embedding public.vector(1536),
    content_tsv tsvector GENERATED ALWAYS AS (to_tsvector('english', content)) STORED
);

CREATE INDEX idx_agent_memories_workspace ON public.agent_memories (workspace_id);
CREATE INDEX idx_agent_memories_scope ON public.agent_memories (scope);
CREATE INDEX idx_agent_memories_namespace ON public.agent_memories (workspace_id, namespace);
CREATE INDEX idx_agent_memories_fts ON public.agent_memories USING gin (content_tsv);
CREATE INDEX idx_agent_memories_embedding ON public.agent_memories
    USING ivfflat (embedding public.vector_cosine_ops) WITH (lists = 100) WHERE embedding IS NOT NULL;

CREATE TABLE public.activity_logs (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid,
    activity_type text NOT NULL,
    source_id uuid,
    target_id uuid,
    method text,
    summary text,
    request_body jsonb,
    response_body jsonb,
    duration_ms integer,
    status text NOT NULL DEFAULT 'ok',
    error_detail text,
    created_at timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX idx_activity_logs_workspace ON public.activity_logs (workspace_id, created_at DESC);

CREATE TABLE public.workspace_auth_tokens (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id),
    token_hash bytea NOT NULL UNIQUE,
    prefix text NOT NULL DEFAULT '',
    created_at timestamptz NOT NULL DEFAULT now(),
    last_used_at timestamptz,
    revoked_at timestamptz
);

CREATE TABLE public.workspace_memory (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    workspace_id uuid NOT NULL REFERENCES public.workspaces (id),
    key text NOT NULL,
    value jsonb NOT NULL,
    expires_at timestamptz,
    updated_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL DEFAULT 1,
    UNIQUE (workspace_id, key)
);
