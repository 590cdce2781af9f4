"""Is the plugin fit to be written to: what A1 asks for, and what must go on being so."""

from cutover.domain.check import Check, Status, verdict
from cutover.domain.evidence import Evidence

REQUIRED_CAPABILITIES = frozenset({"fts"})
"""Without full-text search in the plugin, v1's `q` has no counterpart from A3 on."""
CONTRACT_MAJOR = "1"


def plugin(e: Evidence) -> Check:
    """The plugin's health endpoint says ok, and has for long enough not to be flapping."""
    why = "the plugin is healthy" if e.plugin_up else f"the plugin is not healthy: {e.plugin_why or 'no probe yet'}"
    step_ = "" if e.plugin_up else "start the plugin or mend MEMORY_PLUGIN_URL, then: cutover doctor"
    return Check("plugin", verdict(e.plugin_up), e.plugin_up, "boolean", "true", why, step_)


def plugin_version(e: Evidence) -> Check:
    """The plugin speaks version 1.x of the contract."""
    good = e.plugin_version is not None and e.plugin_version.partition(".")[0] == CONTRACT_MAJOR
    seen = "no version (never reached)" if e.plugin_version is None else f"version {e.plugin_version[:32]}"
    return Check(
        "plugin_version",
        verdict(good),
        None if e.plugin_version is None else e.plugin_version[:32],
        "version",
        f"{CONTRACT_MAJOR}.x",
        f"the plugin reports {seen}",
        "" if good else "deploy a plugin that speaks contract version 1.x",
    )


def plugin_capabilities(e: Evidence) -> Check:
    """The plugin can do what reads need from A3 on."""
    missing = sorted(REQUIRED_CAPABILITIES - e.plugin_capabilities)
    why = f"the plugin lacks: {', '.join(missing)}" if missing else "the plugin has every capability that is needed"
    return Check(
        "plugin_capabilities",
        verdict(not missing),
        sorted(e.plugin_capabilities),
        "capabilities",
        f"has {', '.join(sorted(REQUIRED_CAPABILITIES))}",
        why,
        "deploy a plugin with full-text search" if missing else "",
    )


def plugin_schema(e: Evidence) -> Check:
    """The plugin's tables are the ones we know, where its database can be looked at."""
    if not e.plugin_database_reachable:
        why = "the plugin's database cannot be looked at: sweeps go through the contract and are partial"
        return Check("plugin_schema", Status.WARN, None, "schema", "known", why, "set MEMORY_PLUGIN_DATABASE_URL")
    good = e.plugin_schema_known is True
    why = "memory_plugin has the known tables" if good else "schema memory_plugin is missing or not the known one"
    return Check(
        "plugin_schema",
        verdict(good),
        e.plugin_schema_known,
        "boolean",
        "true",
        why,
        "" if good else "let the plugin create its schema (search_path=memory_plugin,public), then: cutover doctor",
    )


def strays(e: Evidence) -> Check:
    """No rows in tables of the plugin's names in schema public: the plugin does not see those."""
    if not e.plugin_database_reachable:
        return Check("strays", Status.WARN, None, "rows", "= 0", "the plugin's database cannot be looked at", "")
    good = e.stray_rows == 0
    seen = "an unknown number of" if e.stray_rows is None else str(e.stray_rows)
    why = f"{seen} rows in public.memory_namespaces and public.memory_records, where the plugin does not see them"
    next_step = "" if good else "move or drop those rows, then: cutover doctor"
    return Check("strays", verdict(good), e.stray_rows, "rows", "= 0", why, next_step)


def canary(e: Evidence) -> Check:
    """A canary memory was written to the plugin, found and forgotten again (domain §4.5)."""
    good = e.canary_ok is True
    why = (
        "the canary was written, found and forgotten"
        if good
        else "no canary was sent yet"
        if e.canary_ok is None
        else f"the canary failed: {e.canary_why}"
    )
    return Check("canary", verdict(good), e.canary_ok, "boolean", "true", why, "" if good else "cutover doctor")
