"""The v1 schema in the shapes that real deployments have (domain §2)."""

import re
from functools import cache
from importlib import resources

_SECTION = re.compile(r"^ *-- begin (\w+)\n(.*?)^ *-- end \1\n", re.DOTALL | re.MULTILINE)


@cache
def legacy_schema(*, embedding: bool = True, status_enum: bool = True) -> str:
    """SQL that creates the v1 tables and indexes in schema `public`; not idempotent.

    `embedding`: pgvector was present when the deployment was migrated, so `agent_memories.embedding` exists.
    `status_enum`: `workspaces.status` is the newer enum; otherwise plain text.
    """
    kept = {
        name
        for name, wanted in (("embedding", embedding), ("status_enum", status_enum), ("status_text", not status_enum))
        if wanted
    }
    text = resources.files(__package__).joinpath("legacy_schema.sql").read_text(encoding="utf-8")
    return _SECTION.sub(lambda found: found[2] if found[1] in kept else "", text)
