"""cutover: moves a live agent-memory service from its old store to its new one."""

__version__ = "0.1.0"
