"""Operators of a tenant whose plugin has no reachable database: copy, and verify by a sample."""

import asyncio

from cutover.embedded.postgres import EmbeddedPostgres
from tests.integration.test_cli_daemon import Command
from tests.served import served

QUICK = {
    "MEMORY_PLUGIN_DATABASE_URL": "none", "MEMORY_PLUGIN_TIMEOUT": "1", "CUTOVER_QUARANTINE_SECONDS": "1",
    "CUTOVER_DIGEST_INTERVAL": "1h", "CUTOVER_RECALL_INTERVAL": "0",
}  # fmt: skip


def test_copied_and_verified_by_a_sample(postgres: EmbeddedPostgres) -> None:
    with served(postgres, "A2", settings=QUICK, rows=150) as made:
        command = Command(made)
        assert command("backfill", "--apply", "--yes").returncode == 0
        verified = command("backfill", "--verify", "--verify-sample", "60")
        assert verified.returncode == 0, verified.stderr
        assert "no mismatch, but no proof either" in verified.stderr
        assert "with 95 % confidence at most 4.87% of those in sampled namespaces differ" in verified.stderr

        asyncio.run(made.execute("UPDATE memory_plugin.memory_records SET content = content || ' or not'"
            " WHERE id IN (SELECT id FROM agent_memories)"))  # fmt: skip
        wrong = command("backfill", "--verify", "--verify-sample", "60")
        assert wrong.returncode == 3, wrong.stderr
