"""Commands in words that people copy: each names its tenant where there are several."""

import re
from shlex import quote

VERBS_OF_A_TENANT = (
    *("status", "doctor", "access", "retire", "backfill", "audit verify"),
    *("phase show", "phase check", "phase certify", "phase approve", "phase certificate", "phase certificates"),
    *("phase scream-test", "phase refreeze", "phase rehearse-rollback", "phase thaw", "phase promote"),
    *("phase rollback", "sweep run", "sweep list", "sweep show"),
    *("divergence list", "divergence show", "divergence accept", "divergence repair"),
    *("quarantine list", "quarantine show", "quarantine retry", "quarantine acknowledge"),
    *("procedure list", "procedure show", "procedure diff"),
    *("archive create", "archive list", "archive restore", "drop show", "drop start", "drop cancel"),
    *("migrate up", "migrate down", "migrate status"),
)
"""Every verb that takes `--tenant`; a test holds it against the verbs themselves."""
_COMMAND = re.compile(rf"\bcutover (?:{'|'.join(VERBS_OF_A_TENANT)})(?![\w-])(?![^;`\n]*--tenant)")


def for_tenant(words: str, tenant: str) -> str:
    """`words` in which every such command that names no tenant names this one."""
    return _COMMAND.sub(lambda found: f"{found[0]} --tenant {quote(tenant)}", words)
