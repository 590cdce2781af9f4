"""The ops face with several tenants and no default one: together, and each by its name."""

import json
import re
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from cutover.embedded.control import Control
from cutover.embedded.processes import Child, DaemonChild, Processes, daemon_child, plugin_child, until
from cutover.embedded.stack import plugin_database_url
from tests.conftest import MakeDatabase
from tests.served import SETTINGS

NAMES = ("alpha", "beta")
PATIENCE = 30.0


async def several(
    processes: Processes, make_database: MakeDatabase, directory: Path
) -> tuple[DaemonChild, list[Child]]:
    """A daemon with a tenant for each of the names, all in A0, and their plugins."""
    listing, settings, plugins = "", dict(SETTINGS), []
    for name in NAMES:
        url = await make_database()
        plugin, plugin_url = plugin_child(processes, plugin_database_url(url), name=f"plugin-{name}")
        await plugin.start()
        plugins.append(plugin)
        listing += (
            f'[[tenant]]\nname = "{name}"\ndatabase_url = "env:URL_{name.upper()}"\nplugin_url = "{plugin_url}"\n'
        )
        settings[f"URL_{name.upper()}"] = url
    file = directory / "tenants.toml"
    file.write_text(listing)
    daemon = daemon_child(processes, settings={**settings, "CUTOVER_TENANTS_FILE": str(file)})
    await daemon.child.start()
    return daemon, plugins


async def becomes(http: httpx.AsyncClient, path: str, status: int, verdict: str) -> None:
    """Wait until a health path says so."""

    async def condition() -> bool:
        answer = await http.get(path)
        return (answer.status_code, answer.json()["status"]) == (status, verdict)

    await until(condition, f"{path} {status} {verdict}", timeout=PATIENCE, every=0.1)


async def the_console_lists_both_the_worst_first(http: httpx.AsyncClient) -> None:
    """On its page and in its stream, and each tenant has a page and a stream of its own."""
    page = (await http.get("/")).text
    async with http.stream("GET", "/api/events") as stream:
        lines = (line async for line in stream.aiter_lines() if line.startswith("data: "))
        told = json.loads((await anext(lines)).removeprefix("data: "))
        await lines.aclose()
    for listed in (each.partition('<ul class="tenants">')[2] for each in (page, told)):
        assert 0 < listed.index('id="tenant-alpha"') < listed.index("Refusing traffic")
        assert listed.index("Refusing traffic") < listed.index('id="tenant-beta"') < listed.index("Healthy")
    beta = (await http.get("/tenants/beta/")).text
    assert 'data-events="/tenants/beta/api/events"' in beta
    assert 'aria-current="page"><bdi>beta</bdi>' in beta
    assert "Refusing traffic" not in beta
    typed = re.findall(r"<code><span>cutover</span>.*?</code>", beta)
    assert typed
    assert [each for each in typed if "<span>--tenant</span> <span>beta</span>" not in each] == []
    refused = await http.get(f"/tenants/beta/api/v1/sweeps/{uuid4()}")
    assert refused.json()["next"] == "cutover sweep list --tenant beta"


@pytest.mark.timeout(120)
async def test_several_tenants_without_a_default(make_database: MakeDatabase, tmp_path: Path) -> None:
    with Processes(tmp_path / "logs") as processes:
        daemon, plugins = await several(processes, make_database, tmp_path)
        async with httpx.AsyncClient(base_url=daemon.at.ops, timeout=PATIENCE) as http:
            listed = (await http.get("/api/v1/tenants")).json()["tenants"]
            assert [(each["name"], each["default"], each["phase"]) for each in listed] == [
                ("alpha", False, "A0"),
                ("beta", False, "A0"),
            ]
            for path in ("/api/v1/status", "/readyz/A1", "/readyz/checks/plugin", f"{daemon.at.plugin}/v1/health"):
                answer = await http.get(path)
                assert answer.status_code == 404
                assert "/tenants/{name}/" in answer.text
                assert "alpha" not in answer.text
            page = await http.get("/")
            assert page.status_code == 200
            assert all(f'href="/tenants/{name}/"' in page.text for name in NAMES)

            for name, plugin in zip(NAMES, plugins, strict=True):
                await becomes(http, f"/tenants/{name}/readyz/checks/plugin", 200, "pass")
                async with Control(daemon.at.ops, daemon.admin_token, tenant=name) as control:
                    await control.enter("A1", override="a test")
                await becomes(http, "/readyz", 200, "pass" if name == "alpha" else "warn")
                plugin.kill()
                await becomes(http, f"/tenants/{name}/readyz", 503, "fail")
                # One of two: the others stay in the load balancer. Two of two: nobody is served.
                await becomes(http, "/readyz", *((200, "warn") if name == "alpha" else (503, "fail")))
                if name == "alpha":
                    await the_console_lists_both_the_worst_first(http)
            assert set((await http.get("/readyz")).json()["tenants"]) == set(NAMES)
