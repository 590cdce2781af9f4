"""Pictures of the committed dashboards, drawn from a real Prometheus that scraped a real daemon for a few seconds."""

import asyncio
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from cutover.embedded.prometheus import Prometheus
from dashboards.page import SCALE, WIDTH, Drawn, height, place
from dashboards.recording import Recording, kept
from dashboards.render import boards, hash_in, main, render, seen_hash
from tests.served import served

pytestmark = [pytest.mark.prometheus, pytest.mark.browser]
Pictures = tuple[Path, dict[str, list[Drawn]]]
BOARDS = boards()
each_dashboard = pytest.mark.parametrize("uid", sorted(BOARDS))
_SCRAPES = 8


async def _scraped(directory: Path, target: str) -> Recording:
    async with Prometheus(directory / "prometheus", [target], every=0.5) as prometheus:
        await prometheus.until_scraped()
        began = time.time()

        async def often_enough() -> bool:
            return bool(await prometheus.query(f"count_over_time(up[1m]) >= {_SCRAPES}"))

        await until(often_enough, f"{_SCRAPES} scrapes", timeout=40.0)
        made = Recording(directory, began, {"": time.time()})
    made.keep()
    return kept(directory)


@pytest.fixture(scope="module")
def pictures(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Pictures:
    """Where the pictures are, and what was drawn."""
    directory = tmp_path_factory.mktemp("pictures")
    with served(postgres, "A1", settings={"CUTOVER_SWEEP_INTERVAL": "2"}, rows=50) as tenant:
        recording = asyncio.run(_scraped(directory, tenant.daemon.at.ops.removeprefix("http://")))
    return directory, asyncio.run(render(recording, directory))


def panels(uid: str) -> list[dict[str, Any]]:
    return list(BOARDS[uid]["panels"])


@each_dashboard
def test_every_panel_was_drawn_and_most_with_data(uid: str, pictures: Pictures) -> None:
    drawn = pictures[1][uid]
    assert [(each.panel, each.title, each.kind) for each in drawn] == [
        (each["id"], each["title"], each["type"]) for each in panels(uid)
    ]
    # What is known from the first digest or recall sweep on only, which nobody has to have made here.
    later = ("cutover_recall_", "cutover_sweep_canary_caught")
    empty = {each.panel for each in drawn if not each.found}
    assert empty <= {each["id"] for each in panels(uid) if any(name in str(each["targets"]) for name in later)}


@each_dashboard
def test_a_picture_has_its_size_and_its_hash(uid: str, pictures: Pictures) -> None:
    path = pictures[0] / f"{uid}.png"
    assert hash_in(path) == seen_hash(BOARDS[uid])
    with Image.open(path) as image:
        assert image.size == (round(WIDTH * SCALE), round(height(BOARDS[uid]) * SCALE))


@each_dashboard
def test_no_panel_is_blank(uid: str, pictures: Pictures) -> None:
    with Image.open(pictures[0] / f"{uid}.png") as image:
        for panel in panels(uid):
            left, top, width, tall = (edge * SCALE for edge in place(panel["gridPos"]))
            below_title = image.crop((round(left) + 4, round(top) + 40, round(left + width) - 4, round(top + tall) - 4))
            assert len(below_title.getcolors() or []) > 8, panel["title"]


def test_the_command_draws_one_dashboard_and_tells_each_panel(
    pictures: Pictures, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    uid = "cutover-backfill"
    assert main(["--kept", str(pictures[0]), "--into", str(tmp_path), "--only", uid]) == 0
    told = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert [(line[0], line[4]) for line in told] == [(uid, each["title"]) for each in panels(uid)]
    assert {path.name: hash_in(path) for path in tmp_path.iterdir()} == {f"{uid}.png": seen_hash(BOARDS[uid])}
