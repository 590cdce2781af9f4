"""What the gate of A1 wants to know about databases: pgvector, search_path, and where the plugin's rows are."""

from cutover.domain.evidence import TablesEvidence, VectorEvidence
from cutover.stores.database import Database
from cutover.stores.plugin_database import PluginDatabase
from cutover.stores.sql import query


async def look_at_vector(database: Database) -> tuple[VectorEvidence, tuple[str, ...]]:
    """pgvector in one database, and the search path of a connection there; raises the errors of `Database`."""
    row = await database.fetchrow(query("vector_look"))
    assert row is not None  # noqa: S101 - a select without from always gives a row
    return VectorEvidence(row["schema"], row["available"], row["resolves"]), tuple(row["search_path"])


async def look_at_tables(plugin: PluginDatabase, canary_namespace: str) -> TablesEvidence:
    """The plugin's database from a connection with its URL; raises the errors of `Database`."""
    vector, path = await look_at_vector(plugin.database)
    schema = await plugin.schema()
    here: bool | None = None
    if schema.known:
        here = await plugin.database.fetchval(query("plugin_database_namespace"), canary_namespace)
    return TablesEvidence(schema.known, schema.why, await plugin.strays(), path, vector, here)
