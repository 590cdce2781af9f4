"""Is the plugin fit to be written to: what A1 asks for, and what must go on being so."""

from cutover.domain.check import Check, Status
from cutover.domain.duration import spoken
from cutover.domain.evidence import Evidence, VectorEvidence

REQUIRED_CAPABILITIES = frozenset({"fts"})
"""Without full-text search in the plugin, v1's `q` has no counterpart from A3 on."""
CONTRACT_MAJOR = "1"
SCHEMA = "memory_plugin"
_URL = f"set MEMORY_PLUGIN_DATABASE_URL to the plugin's own URL (…?search_path={SCHEMA},public), then: cutover doctor"


def plugin(e: Evidence) -> Check:
    """The plugin's health endpoint says ok, and has for long enough not to be flapping."""
    good = e.plugin_up
    why = "the plugin is healthy" if good else f"the plugin is not healthy: {e.plugin_why or 'no probe yet'}"
    step = "start the plugin or mend MEMORY_PLUGIN_URL, then: cutover doctor"
    return Check.of("plugin", good, good, "boolean", "true", why, step)


def plugin_healthy(e: Evidence) -> Check:
    """It has been healthy for long enough, without a break: no verdict "down" by the probe, no open breaker."""
    seconds = e.plugin_healthy_seconds
    good = seconds is not None and seconds >= e.thresholds.plugin_healthy
    seen = "the plugin is not healthy now" if seconds is None else f"the plugin has been healthy for {spoken(seconds)}"
    # A restart cannot know what was before it: the clock starts anew, and whoever wonders is told.
    watched = f"this daemon has watched it for {spoken(e.plugin_watched_seconds)}, since its start"
    return Check.of(
        "plugin_healthy",
        good,
        None if seconds is None else round(seconds, 1),
        "seconds",
        e.thresholds.shown("plugin_healthy"),
        f"{seen}; {watched}",
        "cutover status --watch (it counts while the plugin stays healthy and this daemon runs)",
    )


def plugin_version(e: Evidence) -> Check:
    """The plugin speaks version 1.x of the contract."""
    version = None if e.plugin_version is None else e.plugin_version[:32]
    good = version is not None and version.partition(".")[0] == CONTRACT_MAJOR
    seen = "no version (never reached)" if version is None else f"version {version}"
    step = "deploy a plugin that speaks contract version 1.x, then: cutover doctor"
    why = f"the plugin reports {seen}"
    return Check.of("plugin_version", good, version, "version", f"{CONTRACT_MAJOR}.x", why, step)


def plugin_capabilities(e: Evidence) -> Check:
    """The plugin can do what reads need from A3 on."""
    missing = sorted(REQUIRED_CAPABILITIES - e.plugin_capabilities)
    why = f"the plugin lacks: {', '.join(missing)}" if missing else "the plugin has every capability that is needed"
    wanted = f"has {', '.join(sorted(REQUIRED_CAPABILITIES))}"
    step = "deploy a plugin with full-text search, then: cutover doctor"
    return Check.of(
        "plugin_capabilities", not missing, sorted(e.plugin_capabilities), "capabilities", wanted, why, step
    )


def pgvector(e: Evidence) -> Check:
    """pgvector is installed where the plugin keeps its vectors, and the plugin's connections find its type."""
    if e.contract_only:
        here = "not known" if e.tenant_vector is None else _vector_words(e.tenant_vector)
        why = f"the plugin's database cannot be looked at; in the tenant's own database: {here}"
        seen = e.tenant_vector.schema if e.tenant_vector is not None else None
        return Check("pgvector", Status.WARN, seen, "schema", "installed, type resolves", why)
    if e.tables is None:
        return _no_tables("pgvector", "schema", "installed, type resolves", e)
    vector = e.tables.vector
    if vector.schema is not None and not vector.resolves:
        step = _URL
    elif vector.available:
        step = "in the plugin's database: create extension vector; then: cutover doctor"
    else:
        step = "install the package of pgvector for this server's version, then: cutover doctor"
    return Check.of(
        "pgvector", vector.resolves, vector.schema, "schema", "installed, type resolves", _vector_words(vector), step
    )


def _vector_words(vector: VectorEvidence) -> str:
    if vector.schema is None:
        return f"pgvector is not installed ({'it can be' if vector.available else 'the server does not have it'})"
    found = "" if vector.resolves else ", where such a connection does not look: the type vector is not found"
    return f"pgvector is in schema {vector.schema}{found}"


def plugin_schema(e: Evidence) -> Check:
    """The plugin's tables are the ones we know, where its database can be looked at."""
    if e.contract_only:
        why = "the plugin's database cannot be looked at: sweeps go through the contract and are partial"
        return Check("plugin_schema", Status.WARN, None, "boolean", "true", why, "set MEMORY_PLUGIN_DATABASE_URL")
    if e.tables is None:
        return _no_tables("plugin_schema", "boolean", "true", e)
    good = e.tables.schema_known
    why = f"{SCHEMA} has the known tables" if good else f"not the known schema: {e.tables.schema_why}"
    step = f"let the plugin create its schema (search_path={SCHEMA},public), then: cutover doctor"
    return Check.of("plugin_schema", good, good, "boolean", "true", why, step)


def search_path(e: Evidence) -> Check:
    """A connection with the plugin's URL looks in `memory_plugin`, and there before `public`.

    The plugin's own connections cannot be asked for theirs; `plugin_home` looks at where its writes end up.
    """
    wanted = f"{SCHEMA} before public"
    if e.contract_only:
        why = "the plugin's database cannot be looked at, so neither can its search_path"
        return Check("search_path", Status.WARN, None, "schemas", wanted, why)
    if e.tables is None:
        return _no_tables("search_path", "schemas", wanted, e)
    path = e.tables.search_path
    good = SCHEMA in path and "public" not in path[: path.index(SCHEMA)]
    why = f"a connection with MEMORY_PLUGIN_DATABASE_URL looks in: {', '.join(path) or 'no schema at all'}"
    return Check.of("search_path", good, ", ".join(path), "schemas", wanted, why, _URL)


def plugin_home(e: Evidence) -> Check:
    """What the plugin writes arrives in the tables that sweeps read: the canary's namespace is there."""
    if e.contract_only:
        why = "the plugin's database cannot be looked at, so nobody knows where it writes"
        return Check("plugin_home", Status.WARN, None, "boolean", "true", why)
    if e.tables is None:
        return _no_tables("plugin_home", "boolean", "true", e)
    good = e.tables.canary_here is True
    if good:
        why = f"what the plugin was given is in {SCHEMA} of the database that sweeps read"
    elif e.tables.canary_here is None:
        why = f"{SCHEMA} has no namespaces that can be read"
    elif e.canary_ok:
        why = f"the plugin took the canary, but it is not in {SCHEMA} of the database that sweeps read"
    else:
        why = "no canary has been written yet that could show where the plugin writes"
    step = "give the plugin and this daemon the same MEMORY_PLUGIN_DATABASE_URL, then: cutover doctor"
    return Check.of("plugin_home", good, e.tables.canary_here, "boolean", "true", why, step)


def strays(e: Evidence) -> Check:
    """No rows in tables of the plugin's names in schema public: the plugin does not see those."""
    if e.contract_only:
        return Check("strays", Status.WARN, None, "rows", "= 0", "the plugin's database cannot be looked at")
    if e.tables is None:
        return _no_tables("strays", "rows", "= 0", e)
    rows = sum(e.tables.strays.values())
    listed = ", ".join(f"{count} in {table}" for table, count in sorted(e.tables.strays.items()))
    why = (
        f"rows where the plugin does not see them: {listed}"
        if rows
        else "no table in public hides rows from the plugin"
    )
    return Check.of("strays", not rows, rows, "rows", "= 0", why, "move or drop those rows, then: cutover doctor")


def canary(e: Evidence) -> Check:
    """A canary memory was written to the plugin, found and forgotten again (domain §4.5), not long ago."""
    age = e.canary_age_seconds
    late = age is None or age > e.canary_max_age_seconds
    good = e.canary_ok is True and not late
    if e.canary_ok is None:
        why = "no canary was sent yet"
    elif not e.canary_ok:
        why = f"the canary failed: {e.canary_why}"
    elif age is None:
        why = "nobody knows when the last canary was sent"
    elif late:
        why = f"the last canary was sent {spoken(age)} ago"
    else:
        why = f"the canary was written, found and forgotten {spoken(age)} ago"
    threshold = f"true, within {spoken(e.canary_max_age_seconds)}"
    return Check.of("canary", good, e.canary_ok, "boolean", threshold, why, "cutover doctor")


def _no_tables(check_id: str, unit: str, threshold: str, e: Evidence) -> Check:
    """There is a database of the plugin's, and it could not be looked at: never to be taken for one without."""
    why = e.unknown.get("tables", "the plugin's database was not looked at")
    return Check.unknown(check_id, unit, threshold, why, "check MEMORY_PLUGIN_DATABASE_URL, then: cutover doctor")
