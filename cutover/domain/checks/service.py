"""Is the daemon itself in order: its database, its phase, its traffic, and what it was told to ask for."""

from cutover.domain.check import Check, Status
from cutover.domain.evidence import Evidence


def database(e: Evidence) -> Check:
    """The tenant's PostgreSQL answers."""
    good = e.database_reachable
    why = "PostgreSQL answers" if good else f"PostgreSQL does not answer: {e.database_why}"
    return Check.of("database", good, good, "boolean", "true", why, "cutover doctor")


def schema(e: Evidence) -> Check:
    """Schema `cutover` is migrated as far as this version knows."""
    good = e.schema_version is not None and e.schema_version == e.schema_expected
    seen = "unknown" if e.schema_version is None else str(e.schema_version)
    why = f"schema cutover is at migration {seen}, this version needs {e.schema_expected}"
    return Check.of("schema", good, e.schema_version, "migration", f"= {e.schema_expected}", why, "cutover migrate up")


def phase_known(e: Evidence) -> Check:
    """This daemon knows the tenant's phase for certain."""
    good = e.phase is not None
    why = f"the tenant is in {e.phase}" if good else "the phase could not be confirmed with the database"
    return Check.of("phase", good, e.phase, "phase", "confirmed", why, "cutover doctor")


def traffic(e: Evidence) -> Check:
    """Memory traffic is being served."""
    good = not e.refusing
    why = "memory traffic is served" if good else f"memory traffic is refused: {e.refusing}"
    return Check.of("traffic", good, good, "boolean", "true", why, "cutover status; cutover doctor")


def not_draining(e: Evidence) -> Check:
    """The daemon is not on its way down."""
    why = "the daemon is shutting down" if e.draining else "the daemon is staying"
    return Check.of("draining", not e.draining, e.draining, "boolean", "false", why, "")


def thresholds(e: Evidence) -> Check:
    """No threshold asks for less than its default. Loosening one is allowed, and closes nothing; it is never hidden."""
    loosened = [each.words for each in e.thresholds.loosened()]
    why = "; ".join(loosened) if loosened else "no threshold asks for less than its default"
    status = Status.WARN if loosened else Status.PASS
    step = "unset the CUTOVER_GATE_ variables of those thresholds and restart the daemon" if loosened else ""
    return Check("thresholds", status, len(loosened), "loosened", "= 0", why, step)
