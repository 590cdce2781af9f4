"""Issue 2 §4: three tenants on three databases in different phases, one with a dead plugin that touches no other."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import aiohttp
import pytest

from cutover.embedded.callers import Seat
from cutover.embedded.control import Control
from cutover.embedded.history import History
from cutover.embedded.processes import Child, Processes, daemon_child, plugin_child, until
from cutover.embedded.stack import plugin_database_url
from cutover.embedded.traffic import Traffic
from cutover.embedded.witness import Witness
from tests.acceptance.scene import FAST, add_seats
from tests.conftest import MakeDatabase

pytestmark = pytest.mark.acceptance
PHASES = {"alpha": ("A1",), "beta": ("A1", "A2"), "gamma": ("A1", "A2", "A3")}


@dataclass(frozen=True, slots=True)
class Tenant:
    """One of the three."""

    name: str
    database_url: str
    plugin: Child
    plugin_url: str
    seats: list[Seat]
    history: History
    witness: Witness


async def converged(tenant: Tenant) -> None:
    """Its marks are drained and its history holds."""

    async def drained() -> bool:
        return await tenant.witness.unsettled() == 0

    await until(drained, f"marks of {tenant.name}", timeout=30)
    authority: Literal["legacy", "plugin"] = "plugin" if "A3" in PHASES[tenant.name] else "legacy"
    verdict = await tenant.witness.judge(tenant.history, authority)
    assert verdict.findings == (), verdict.words()
    assert verdict.acknowledged > 0


async def test_three_tenants_in_three_phases_and_a_dead_plugin_of_one(
    make_database: MakeDatabase, tmp_path: Path, session: aiohttp.ClientSession
) -> None:
    async with AsyncExitStack() as stack:
        processes = stack.enter_context(Processes(tmp_path / "logs"))
        tenants = []
        for name in PHASES:
            url = await make_database()
            plugin, plugin_url = plugin_child(processes, plugin_database_url(url), name=f"plugin-{name}")
            await plugin.start()
            witness = await stack.enter_async_context(Witness(url))
            tenants.append(Tenant(name, url, plugin, plugin_url, await add_seats(url), History(), witness))
        listing = tmp_path / "tenants.toml"
        listing.write_text(
            "\n".join(
                f'[[tenant]]\nname = "{each.name}"\ndatabase_url = "env:URL_{each.name.upper()}"\n'
                f'plugin_url = "{each.plugin_url}"\n'
                for each in tenants
            )
        )
        settings = {**FAST, "CUTOVER_TENANTS_FILE": str(listing)}
        settings |= {f"URL_{each.name.upper()}": each.database_url for each in tenants}
        daemon = daemon_child(processes, settings=settings)
        await daemon.child.start()

        controls = {
            each.name: await stack.enter_async_context(Control(daemon.at.ops, daemon.admin_token, tenant=each.name))
            for each in tenants
        }
        for each in tenants:
            for phase in PHASES[each.name]:
                if phase == "A3":
                    await controls[each.name].copy(timeout=30)
                await controls[each.name].enter(phase, override="a test")
            assert await controls[each.name].phase() == PHASES[each.name][-1]

        traffic = {
            each.name: Traffic(
                [daemon.at],
                each.seats,
                each.database_url,
                each.history,
                seed=number,
                workers=3,
                rate=50.0,
                tenant=each.name,
            )
            for number, each in enumerate(tenants)
        }
        await traffic["gamma"].stop_sql()
        running = []
        for made in traffic.values():
            await stack.enter_async_context(made)
            running.append(asyncio.create_task(made.run()))
        dead, alive = tenants[1], [tenants[0], tenants[2]]

        async def everybody() -> bool:
            return all(each.tally.acknowledged_by_daemon >= 30 for each in traffic.values())

        await until(everybody, "traffic of all three", timeout=30)
        dead.plugin.kill()

        async def refused() -> bool:
            return traffic[dead.name].tally.statuses[503] >= 50

        await until(refused, "refusals of the one", timeout=30)
        before = {each.name: traffic[each.name].tally.acknowledged_by_daemon for each in tenants}

        async def others_go_on() -> bool:
            return all(traffic[each.name].tally.acknowledged_by_daemon >= before[each.name] + 30 for each in alive)

        await until(others_go_on, "traffic of the others", timeout=30)
        for each in alive:
            assert traffic[each.name].tally.statuses[503] == 0, "another tenant's plugin is none of their business"
            assert (await controls[each.name].ready())[0] == 200
        assert (await controls[dead.name].ready())[0] == 503

        await dead.plugin.start()
        for made in traffic.values():
            made.stop()
        await asyncio.gather(*running)
        for each in tenants:
            await converged(each)
        ids = [set(await each.witness.plugin()) for each in tenants]
        assert not ids[0] & ids[1]
        assert not ids[0] & ids[2]
        async with session.get(f"{daemon.at.ops}/tenants/nobody/readyz") as response:
            assert response.status == 404
