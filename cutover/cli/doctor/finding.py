"""What one check came to."""

from collections.abc import Iterable
from dataclasses import dataclass

SIGNS = {"fail": "red", "warn": "yellow", "skip": "cyan", "pass": "green"}
"""Every status, the worst first, with its colour. `skip`: it cannot be known from here, and `found` says why."""
EVERYBODY = "*"
"""The tenant of what is about this machine or all tenants."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One check: what was found, and what to type where that is not well. Neither ever holds a secret."""

    tenant: str
    check: str
    status: str
    found: str
    remedy: str = ""


def finding(tenant: str, check: str, well: bool, found: str, remedy: str, *, otherwise: str = "fail") -> Finding:
    """A finding that passes when `well`, and else is `otherwise` with its remedy."""
    return Finding(tenant, check, "pass" if well else otherwise, found, "" if well else remedy)


def broken(tenant: str, check: str, error: Exception) -> Finding:
    """A look that ended with something it did not expect. Its words may hold anything, so only its class is told."""
    words = f"the look broke off: {type(error).__name__}"
    return Finding(tenant, check, "fail", words, "look at that by hand, and report it with: cutover doctor -o json")


def by_severity(found: Iterable[Finding]) -> list[Finding]:
    """The worst first; among equals, in the order in which they were looked at."""
    return sorted(found, key=lambda one: list(SIGNS).index(one.status))
