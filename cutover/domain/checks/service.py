"""Is the daemon itself in order: its database, its phase, its traffic."""

from cutover.domain.check import Check, verdict
from cutover.domain.evidence import Evidence


def database(e: Evidence) -> Check:
    """The tenant's PostgreSQL answers."""
    why = "PostgreSQL answers" if e.database_reachable else f"PostgreSQL does not answer: {e.database_why}"
    step_ = "" if e.database_reachable else "check DATABASE_URL and the server, then: cutover doctor"
    return Check("database", verdict(e.database_reachable), e.database_reachable, "boolean", "true", why, step_)


def schema(e: Evidence) -> Check:
    """Schema `cutover` is migrated as far as this version knows."""
    good = e.schema_version is not None and e.schema_version == e.schema_expected
    seen = "unknown" if e.schema_version is None else str(e.schema_version)
    why = f"schema cutover is at migration {seen}, this version needs {e.schema_expected}"
    return Check(
        "schema",
        verdict(good),
        e.schema_version,
        "migration",
        f"= {e.schema_expected}",
        why,
        "" if good else "cutover migrate up",
    )


def phase_known(e: Evidence) -> Check:
    """This daemon knows the tenant's phase for certain."""
    good = e.phase is not None
    why = f"the tenant is in {e.phase}" if good else "the phase could not be confirmed with the database"
    return Check("phase", verdict(good), e.phase, "phase", "confirmed", why, "" if good else "cutover doctor")


def traffic(e: Evidence) -> Check:
    """Memory traffic is being served."""
    why = f"memory traffic is refused: {e.refusing}" if e.refusing else "memory traffic is served"
    return Check("traffic", verdict(not e.refusing), not e.refusing, "boolean", "true", why, _traffic_next(e))


def _traffic_next(e: Evidence) -> str:
    return "cutover status; cutover doctor" if e.refusing else ""


def not_draining(e: Evidence) -> Check:
    """The daemon is not on its way down."""
    why = "the daemon is shutting down" if e.draining else "the daemon is staying"
    return Check("draining", verdict(not e.draining), e.draining, "boolean", "false", why, "")
