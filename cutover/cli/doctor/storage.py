"""The plugin's own tables, on a connection with the plugin's URL: what would it find there, and what may we do?"""

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from cutover.cli.doctor.finding import Finding, finding

if TYPE_CHECKING:
    from cutover.stores.database import Database
    from cutover.stores.inspection import ServerLook
    from cutover.tenant_settings import TenantSettings

SECONDS = 4.0
_HOME = "memory_plugin"


async def look(tenant: "TenantSettings") -> AsyncIterator[Finding]:
    """Findings about the search path, and with a URL of its own about all else there. Raises what `Database` does."""
    from cutover.stores.database import Database
    from cutover.stores.inspection import look_at_server
    from cutover.stores.plugin_database import plugin_database_url
    from cutover.tenant_settings import masked_url

    name, url = tenant.name, plugin_database_url(tenant.database_url, tenant.plugin_database_url)
    if url is None:
        words = "MEMORY_PLUGIN_DATABASE_URL=none: the plugin's database is out of reach, sweeps go through the contract"
        for check in ("search path", "pgvector", "plugin tables", "strays in public"):
            yield Finding(name, check, "skip", words)
        return
    database = await Database.connect(
        url,
        application_name="cutover-doctor",
        max_size=2,
        timeout=SECONDS,
        settings={"statement_timeout": f"{SECONDS:g}s"},
    )
    try:
        yield await _search_path(name, masked_url(url), database, derived=not tenant.plugin_database_url)
        if tenant.plugin_database_url:  # else the database is the tenant's, where all this is looked at anyway
            yield await _rights(name, database)
            server = await look_at_server(database, timeout=SECONDS)
            for one in (*catalogue(name, server), *await strays(name, database, server)):
                yield one
    finally:
        await database.close(timeout=1.0)


async def _search_path(tenant: str, shown: str, database: "Database", *, derived: bool) -> Finding:
    from cutover.stores.gate_look import look_at_vector
    from cutover.stores.inspection import home_state

    check = "search path"
    state = await home_state(database)
    if state != "usable":
        words = f"schema {_HOME} {'is not there yet' if state == 'absent' else 'may not be used by this role'}"
        other = "plugin tables" if state == "absent" else "rights" if derived else "plugin rights"
        return Finding(tenant, check, "skip", f"{words}: see the check {other}")
    vector, path = await look_at_vector(database)
    order = ", ".join(path) or "nothing"
    places = [_HOME, "public", *([vector.schema] if vector.schema not in (None, "public") else [])]
    url = _looking_in(shown, places)
    remedy = f"MEMORY_PLUGIN_DATABASE_URL='{url}' in the environment of the plugin and of cutover serve"
    remedy += ", with your password in place of ***" if "***" in url else ""
    source = "the URL that is derived from DATABASE_URL" if derived else "MEMORY_PLUGIN_DATABASE_URL"
    if _HOME not in path or ("public" in path and path.index("public") < path.index(_HOME)):
        words = f"with {source} a connection looks in {order}: it does not find the plugin's tables in {_HOME} first"
        return Finding(tenant, check, "fail", words, remedy)
    if vector.schema is not None and not vector.resolves:
        words = f"with {source} a connection looks in {order}, and pgvector is in {vector.schema}: no type vector there"
        return Finding(tenant, check, "fail", words, remedy)
    return finding(tenant, check, True, order, "")


def _looking_in(url: str, places: list[str]) -> str:
    """The same URL with that search path."""
    base, _, options = url.partition("?")
    kept = [each for each in options.split("&") if each and not each.startswith("search_path=")]
    return f"{base}?{'&'.join([*kept, 'search_path=' + ','.join(places)])}"


async def _rights(tenant: str, database: "Database") -> Finding:
    from cutover.stores.inspection import missing_plugin_rights

    lacking = await missing_plugin_rights(database)
    reads = [one for one in lacking if one.needed_to == "read"]
    words = "; ".join(one.words for one in lacking)
    loss = "" if reads else ": the backfill goes through the contract, and creation times are not kept"
    return finding(
        tenant,
        "plugin rights",
        not lacking,
        f"may not {words}{loss}" if lacking else "may read and write the plugin's tables",
        "; ".join(dict.fromkeys(one.remedy for one in lacking)),
        otherwise="fail" if reads else "warn",
    )


def catalogue(tenant: str, look: "ServerLook") -> list[Finding]:
    """What the plugin needs in its database: the type `vector`, and its tables. `look`: at that database."""
    there = look.has_plugin_tables
    remedy = "start the plugin once, so that it creates them; or set MEMORY_PLUGIN_DATABASE_URL (none: contract only)"
    words = f"in schema {_HOME}" if there else "not in this database"
    return [_pgvector(tenant, look), finding(tenant, "plugin tables", there, words, remedy, otherwise="warn")]


def _pgvector(tenant: str, look: "ServerLook") -> Finding:
    if look.pgvector_schema is not None:
        return finding(tenant, "pgvector", True, f"{look.pgvector_version} in schema {look.pgvector_schema}", "")
    if look.pgvector_available:
        words, remedy = "available but not created", "create extension vector"
    else:
        major = look.version_num // 10_000
        words = "not installed on the server"
        remedy = f"on the server: apt-get install postgresql-{major}-pgvector; then: create extension vector"
    return Finding(tenant, "pgvector", "fail", f"{words}: a plugin that needs it will not start", remedy)


async def strays(tenant: str, database: "Database", look: "ServerLook") -> list[Finding]:
    """Rows that a plugin with a wrong search path left in `public`."""
    from cutover.stores.inspection import count_strays

    rows = await count_strays(database, look, timeout=SECONDS - 1)
    shown = "an unknown number of rows" if rows is None else f"{rows} rows"
    tables = [f"public.memory_{each}" for each in look.stray_tables]
    away = "set lock_timeout = '2s'; " + "; ".join(
        f"alter table {each} rename to {each.removeprefix('public.')}_stray" for each in tables
    )
    return [
        finding(
            tenant,
            "strays in public",
            rows == 0,
            f"{shown} in {' and '.join(tables) or 'public.memory_*'}, where the plugin does not look"
            if rows != 0
            else "none",
            f"if a plugin writes there, mend its search_path first; then: {away}",
            otherwise="warn" if rows is None else "fail",
        )
    ]
