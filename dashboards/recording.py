"""What the pictures show: a few minutes of a tenant under traffic, kept as Prometheus' own data, and for each dashboard
the moment that it is looked at.

The story is an incident: dual writes, a plugin that dies and comes back, a writer nobody knew of, a backfill that is
held back for a while, rows that somebody changed and deleted in the plugin's own tables, their repair, the cutover.
"""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

import asyncpg
import yaml

from cutover.embedded.control import Control, ControlError
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres
from cutover.embedded.processes import PEOPLE, until
from cutover.embedded.prometheus import Prometheus
from dashboards.interpolate import Asked
from dashboards.scene import SCRAPE_SECONDS, Scene, Story, scene

RULES: Final = Path(__file__).parent.parent / "alerts"
_PATIENCE: Final = 120.0
_SOON: Final = "5s"
_CHANGE: Final = """
    UPDATE memory_plugin.memory_records SET content = 'not what was written'
     WHERE id IN (SELECT id FROM memory_plugin.memory_records ORDER BY id LIMIT 3)"""
_DELETE: Final = """
    DELETE FROM memory_plugin.memory_records
     WHERE id IN (SELECT id FROM memory_plugin.memory_records ORDER BY id DESC LIMIT 5)"""


@dataclass(frozen=True, slots=True)
class Recording:
    """Where Prometheus' data is, when it begins, and until when each dashboard looks (Unix seconds); "" is the end."""

    directory: Path
    began: float
    moments: dict[str, float] = field(default_factory=dict)

    def moment(self, uid: str) -> float:
        """Until when a dashboard looks."""
        return self.moments.get(uid, self.moments[""])

    def asked(self, uid: str, *, points: int = 300) -> Asked:
        """What a dashboard's queries are asked for: everything from the beginning to its moment."""
        return Asked(round(self.moment(uid) - self.began), SCRAPE_SECONDS, points)

    @contextlib.asynccontextmanager
    async def replayed(self) -> AsyncIterator[Prometheus]:
        """Prometheus on the data, scraping nothing."""
        async with Prometheus(self.directory / "prometheus", []) as prometheus:
            yield prometheus

    def keep(self) -> None:
        """Write the moments beside the data, for `kept`."""
        told = {**asdict(self), "directory": str(self.directory)}
        (self.directory / "recording.json").write_text(json.dumps(told), encoding="utf-8")


def kept(directory: Path) -> Recording:
    """A recording that was made before."""
    told = json.loads((directory / "recording.json").read_text(encoding="utf-8"))
    return Recording(directory, told["began"], told["moments"])


async def record(directory: Path) -> Recording:
    """Live through the story; about three minutes. `directory` takes logs and Prometheus' data."""
    moments = {}
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres:
        async with scene(postgres, directory, memories=5_000, rate=30.0, rules=hasty(directory)) as live:
            story, control = Story(live), live.stack.control
            await asyncio.sleep(6)
            await story.shadow()
            await asyncio.sleep(15)
            await story.plugin_dies(6)
            await asyncio.sleep(10)
            await story.stranger_writes()
            await story.recall()
            moments["cutover-backfill"] = await _backfill(story, control)
            await _prepare_cutover(control)
            moments["cutover-overview"] = await _harm_and_repair(live, story, control)
            moments["cutover-divergence"] = time.time()
            await live.traffic.stop_sql()
            await control.enter("A3", override="a picture", timeout=_PATIENCE)
            await story.seen("cutover_phase_index == 3")
            await asyncio.sleep(12)
            moments[""] = time.time()
        made = Recording(directory, live.began, moments)
    made.keep()
    return made


def hasty(directory: Path) -> list[Path]:
    """The rules of `alerts/`, with alerts that fire after seconds: the incident lasts for seconds, too."""
    made = []
    for source in sorted(RULES.glob("*.yml")):
        told = yaml.safe_load(source.read_text(encoding="utf-8"))
        for rule in (rule for group in told["groups"] for rule in group["rules"]):
            rule.update({key: _SOON for key in ("for", "keep_firing_for") if key in rule})
        for group in told["groups"]:
            group.pop("interval", None)
        made.append(directory / source.name)
        made[-1].write_text(yaml.safe_dump(told), encoding="utf-8")
    return made


async def _backfill(story: Story, control: Control) -> float:
    """A2, and a copy that its operator holds back for a while; gives the moment at which most of it is done."""
    await control.enter("A2", timeout=_PATIENCE)
    await control.start_backfill(rate=130.0)
    await story.seen("sum(cutover_backfill_rows_total) > 1200")
    await control.control_backfill("pause")
    await asyncio.sleep(7)
    await control.control_backfill("resume")
    await story.seen("sum(cutover_backfill_rows_total) > 3600")
    moment = time.time()
    await control.backfilled(timeout=_PATIENCE)
    return moment


async def _prepare_cutover(control: Control) -> None:
    """What the gate of A3 asks for, and a certificate that lacks an approval."""
    await control.acknowledge_quarantined("known, a picture")
    await control.rehearse(timeout=_PATIENCE)
    asked = {"target": "A3", "override": "a picture"}
    status, told = await control.call("POST", "/api/v1/phase/certify", asked, token=PEOPLE["edsger"])
    if status >= 300:
        raise ControlError(f"no certificate: {told}", status)
    approval = {"certificate": told["hash"], "name": "ada"}
    await control.call("POST", "/api/v1/phase/approve", approval, token=PEOPLE["ada"])


async def _harm_and_repair(live: Scene, story: Story, control: Control) -> float:
    """Rows change and vanish in the plugin's tables; sweeps tell, an operator repairs. Gives a moment in between."""
    connection = await asyncpg.connect(live.stack.database_url)
    try:
        await connection.execute(_CHANGE)
        await connection.execute(_DELETE)
    finally:
        await connection.close()
    await control.digest_sweep(full=True, timeout=_PATIENCE)
    await story.seen('sum(cutover_drift_rows{cause="unexplained"}) > 0')
    await story.seen("sum(cutover_divergent_rows) > 0")
    await asyncio.sleep(8)
    moment = time.time()

    async def repaired() -> bool:
        await control.call("POST", "/api/v1/divergence/repair", {"all": True})
        await asyncio.sleep(2)
        await control.digest_sweep(full=True, timeout=_PATIENCE)
        return bool(await live.prometheus.query("sum(cutover_divergent_rows) == 0"))

    await until(repaired, "everything repaired", timeout=_PATIENCE, every=1.0)
    await story.seen('sum(cutover_drift_rows{cause="unexplained"}) == 0')
    await asyncio.sleep(8)
    return moment
