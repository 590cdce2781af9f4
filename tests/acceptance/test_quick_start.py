"""docs/quick-start.md, word by word: its blocks are run in a shell, in their order, and the tenant must end in A1.

A comment above each block says what is done with it (the page explains them where the first one is). Not run is what
takes the network or a workspace-server. Besides the values, only this differs from an operator's shell: the faces have
free ports, and the gate of A1 wants 2 s of a healthy plugin instead of ten minutes, so `sleep` is shorter too.
"""

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import asyncpg
import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import Processes, free_port, plugin_child
from cutover.embedded.sample import sample_database
from cutover.embedded.stack import plugin_database_url

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "quick-start.md").read_text()
BLOCKS: list[tuple[str, str]] = re.findall(r"^<!-- ([^>]+) -->\n```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
FACES = {"9200": "CUTOVER_PLUGIN_LISTEN", "9201": "CUTOVER_MEMORIES_LISTEN", "9202": "CUTOVER_OPS_LISTEN"}
OWNER = "tenant_owner"
TABLES = ("agent_memories", "workspaces", "workspace_auth_tokens", "activity_logs", "workspace_memory")
# A table that was given to the daemon's role, as doctor proposes where a superuser owns it, must not go with the role.
MEANWHILE = """
cutover phase show -o json > ~/run.json
psql "host=$DB_HOST dbname=$DB_NAME user=postgres" -c 'ALTER TABLE workspace_memory OWNER TO cutover'
"""


def blocks(mark: str) -> list[str]:
    return [body for found, body in BLOCKS if found == mark]


def test_every_block_says_what_is_done_with_it() -> None:
    assert len(BLOCKS) == PAGE.count("```sh\n")
    for mark, _ in BLOCKS:
        assert mark in ("values", "run", "afterwards") or re.fullmatch(r"not run: \w.{10,}", mark), mark
    assert len(blocks("values")) == 1
    assert len(blocks("run")) >= 7
    assert "promote A1" in blocks("run")[-1]


@pytest.mark.prometheus
def test_prometheus_takes_the_pages_configuration_with_our_rules(tmp_path: Path) -> None:
    (given,) = re.findall(r"^ *```yaml\n(.*?)^ *```$", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "rules").symlink_to(ROOT / "alerts")
    (tmp_path / "prometheus.yml").write_text(textwrap.dedent(given))
    done = subprocess.run(
        ["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("rules found") == 2


async def tenant(postgres: EmbeddedPostgres) -> str:
    """v1's schema and a sample in it, owned by a plain role as with a real tenant; its URL for that role."""
    url = (await sample_database(postgres, "tenant", memories=300)).url
    admin = await asyncpg.connect(url)
    try:
        await admin.execute(f"CREATE ROLE {OWNER} LOGIN; GRANT CREATE ON DATABASE tenant TO {OWNER}")
        for table in TABLES:
            await admin.execute(f"ALTER TABLE {table} OWNER TO {OWNER}")
    finally:
        await admin.close()
    return url.replace("//postgres@", f"//{OWNER}@")


def shell(directory: Path, postgres: EmbeddedPostgres, plugin_url: str) -> tuple[str, dict[str, str]]:
    """The script's head, with a value for each name of the page's first block, and the environment it runs in."""
    programs = directory / "bin"
    programs.mkdir()
    command = programs / "cutover"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m cutover "$@"\n')
    command.chmod(0o755)
    values = {
        "DB_HOST": postgres.url().partition("host=")[2],
        "DB_PORT": "5432",
        "DB_NAME": "tenant",
        "DB_ADMIN": "postgres",
        "PLUGIN": plugin_url,
        "TENANT": "acme",
        "ME": "ada",
    }
    assert set(values) == set(re.findall(r"([A-Z_]+)=", blocks("values")[0]))
    head = [f"export {name}='{value}'" for name, value in values.items()]
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}:{postgres.programs}",
        "PYTHONPATH": str(ROOT),
        "HOME": str(directory),
        "CUTOVER_GATE_PLUGIN_HEALTHY": "2s",
        **{listen: f"127.0.0.1:{free_port()}" for listen in FACES.values()},
    }
    return "\n".join(["set -e -o pipefail", "sleep() { command sleep 0.5; }", *head, ""]), environment


def script(environment: dict[str, str]) -> str:
    """The blocks, with where the faces are in this test."""
    parts = []
    for mark in ("run", "afterwards"):
        parts += [f"echo '--- {mark} {number}'\n{body}" for number, body in enumerate(blocks(mark))]
        parts.append(MEANWHILE if mark == "run" else "")
    text = "".join(parts)
    for port, listen in FACES.items():
        text = text.replace(f"127.0.0.1:{port}", environment[listen])
    return text


@pytest.mark.timeout(240)
def test_the_quick_start_ends_in_a1_and_can_be_taken_back(tmp_path: Path, own_postgres: EmbeddedPostgres) -> None:
    url = asyncio.run(tenant(own_postgres))
    with Processes(tmp_path) as processes:
        plugin, plugin_url = plugin_child(processes, plugin_database_url(url))
        asyncio.run(plugin.start())
        head, environment = shell(tmp_path, own_postgres, plugin_url)
        run = subprocess.Popen(
            ["bash", "-c", head + script(environment)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            said, _ = run.communicate(timeout=180)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(run.pid, signal.SIGKILL)
    assert run.returncode == 0, said[-4000:]
    reached = json.loads((tmp_path / "run.json").read_text())
    assert (reached["tenant"], reached["phase"]) == ("acme", "A1"), said[-4000:]
    assert " 0 failing" in said
    assert "unexplained            0" in said
    assert re.search(r"^phase +A0$", said.split("--- afterwards 0")[1], re.MULTILINE)
    assert asyncio.run(left(own_postgres.url("tenant"))) == [], "the page's last block removes everything"


async def left(url: str) -> list[str]:
    """What of the daemon's is still in the database, and what of the tenant's is not."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT 'schema ' || nspname AS what FROM pg_namespace WHERE nspname LIKE 'cutover%'"
            " UNION ALL SELECT 'role ' || rolname FROM pg_roles WHERE rolname = 'cutover'"
            " UNION ALL SELECT 'trigger ' || tgname FROM pg_trigger WHERE tgname LIKE 'cutover%'"
        )
        gone = [
            each for each in TABLES if await connection.fetchval("SELECT to_regclass($1)", f"public.{each}") is None
        ]
    finally:
        await connection.close()
    return [*(row["what"] for row in rows), *(f"no table {each}" for each in gone)]
