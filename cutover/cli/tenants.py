"""The tenants of the settings, for verbs that work on the stores themselves and not through the daemon."""

from cutover.cli.failure import USAGE, CommandFailed
from cutover.cli.ops_url import environment
from cutover.settings import load
from cutover.tenant_settings import TenantSettings


def chosen(name: str | None) -> tuple[TenantSettings, ...]:
    """The named tenant alone, or all. Raises `BadSetting`, or `CommandFailed` for a name that is not configured."""
    tenants = load(environment()).tenants
    if name is None:
        return tenants
    found = tuple(tenant for tenant in tenants if tenant.name == name)
    if not found:
        names = ", ".join(tenant.name for tenant in tenants)
        raise CommandFailed(f"there is no tenant {name!r}", f"the settings list: {names}", "give one of these", USAGE)
    return found
