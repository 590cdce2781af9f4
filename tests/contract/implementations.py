"""Every implementation of the plugin contract that the suite runs against.

An implementation is started once per test process and shared by its tests, which keep apart by namespaces of their
own. To add one, give `IMPLEMENTATIONS` a context manager that takes the test process's PostgreSQL and yields a
`Running`.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from uuid import uuid4

from cutover.embedded.postgres import EmbeddedPostgres
from tests.served import served


@dataclass(frozen=True, slots=True)
class Running:
    """A running implementation. `new_namespace(kind)` gives a name that was never used and that it will accept."""

    url: str
    new_namespace: Callable[[str], str]
    puts_namespaces: bool = False
    """Whether a commit into a namespace that was never put creates it, where the contract lets it fail."""


_WORKSPACES = 2000
"""More than the suite asks for in one process."""

Start = Callable[[EmbeddedPostgres], AbstractContextManager[Running]]


def free_name(kind: str) -> str:
    """A fresh name of `kind`, for implementations that take any."""
    return f"{kind}:{uuid4()}"


@contextmanager
def plugin_process(database_url: str, listen: str = "127.0.0.1:0") -> Iterator[tuple[subprocess.Popen[str], str]]:
    """The reference plugin as a child process, and its address. Ended with SIGTERM, and by force after 10 s."""
    command = [sys.executable, "-W", "error", "-m", "cutover.embedded.reference_plugin"]
    command += ["--database-url", database_url, "--listen", listen]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            line = child.stdout.readline()
            assert line, f"the plugin ended with {child.wait(10)} before it was ready"
            yield child, json.loads(line)["listening"]
        finally:
            child.terminate()
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()


@contextmanager
def _reference_plugin(postgres: EmbeddedPostgres) -> Iterator[Running]:
    name = f"contract_{uuid4().hex}"
    url = asyncio.run(postgres.create_database(name)) + "&search_path=memory_plugin,public"
    try:
        with plugin_process(url) as (_, address):
            yield Running(address, free_name)
    finally:
        asyncio.run(postgres.drop_database(name))


@contextmanager
def _given_by_url(_: EmbeddedPostgres) -> Iterator[Running]:
    yield Running(os.environ["CUTOVER_TEST_PLUGIN_URL"].rstrip("/"), free_name)


def _plugin_face(phase: str) -> Start:
    """The daemon's plugin face in a phase: nobody should be able to tell it from a plugin."""

    @contextmanager
    def start(postgres: EmbeddedPostgres) -> Iterator[Running]:
        with served(postgres, phase) as tenant:
            # The face derives rights from the tree, so each name is of a workspace that there is.
            roots = iter(asyncio.run(tenant.workspaces(_WORKSPACES)))

            def new_namespace(kind: str) -> str:
                return free_name(kind) if kind == "custom" else f"{kind}:{next(roots)}"

            yield Running(tenant.daemon.at.plugin, new_namespace, puts_namespaces=True)

    return start


IMPLEMENTATIONS: dict[str, Start] = {
    "reference-plugin": _reference_plugin,
    "plugin-face-a1": _plugin_face("A1"),
    "plugin-face-a3": _plugin_face("A3"),
}
if "CUTOVER_TEST_PLUGIN_URL" in os.environ:
    IMPLEMENTATIONS["given-by-url"] = _given_by_url
