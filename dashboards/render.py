"""Draw every dashboard with real data: `python -m dashboards.render` writes `docs/images/<uid>.png`.

A tenant lives through a few minutes under a real Prometheus (`recording`), whose answers are drawn as Grafana lays
them out. `--record DIR` keeps what was lived through, `--kept DIR` draws it once more. Needs Debian's packages
prometheus and chromium.

A picture carries a hash of what can be seen of its dashboard, so that a test can tell that it is out of date.
"""

import argparse
import asyncio
import contextlib
import hashlib
import io
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from PIL import Image
from PIL.PngImagePlugin import PngImageFile, PngInfo
from playwright.async_api import Browser, async_playwright
from playwright.async_api import Error as Refused

from dashboards.page import SCALE, WIDTH, Drawn, height, page
from dashboards.recording import Recording, kept, record

DIRECTORY: Final = Path(__file__).parent
IMAGES: Final = DIRECTORY.parent / "docs" / "images"
HASH: Final = "dashboard-sha256"
"""The PNG text chunk with the hash."""
_REFUSALS: Final = 3
_SEEN: Final = {
    "panels": ("type", "title", "gridPos", "targets", "fieldConfig", "options", "transformations"),
    "targets": ("expr", "legendFormat", "refId"),
    "options": ("legend", "rowHeight"),
    "annotations": ("name", "enable", "expr", "iconColor", "titleFormat", "useValueForTime"),
    "variables": ("name", "label", "type"),
}
"""What of a dashboard is drawn. Whatever else changes (a description, a link) leaves its picture as good as it was."""


def boards() -> dict[str, dict[str, Any]]:
    """Every committed dashboard by its uid."""
    return {
        path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(DIRECTORY.glob("cutover-*.json"))
    }


def seen_hash(board: Mapping[str, Any]) -> str:
    """Hex sha256 of what of a dashboard can be seen in its picture."""

    def seen(kind: str, part: Mapping[str, Any]) -> dict[str, Any]:
        return {key: part[key] for key in _SEEN[kind] if key in part}

    panels = [seen("panels", panel) for panel in board["panels"]]
    for panel in panels:
        panel["targets"] = [seen("targets", target) for target in panel.get("targets", [])]
        panel["options"] = seen("options", panel.get("options", {}))
    drawn = {
        "title": board["title"],
        "panels": panels,
        "annotations": [seen("annotations", each) for each in board["annotations"]["list"]],
        "variables": [seen("variables", each) for each in board["templating"]["list"]],
    }
    return hashlib.sha256(json.dumps(drawn, sort_keys=True).encode()).hexdigest()


def hash_in(picture: Path) -> str:
    """The hash that a picture was drawn from; "" where there is none."""
    with Image.open(picture) as image:
        return str(image.text.get(HASH, "")) if isinstance(image, PngImageFile) else ""


async def render(recording: Recording, into: Path, *, only: str = "") -> dict[str, list[Drawn]]:
    """Draw every dashboard (or one) from a recording; gives back what was drawn, by uid. `into` is there."""
    told = {}
    async with recording.replayed() as prometheus, async_playwright() as tools:
        browser = await tools.chromium.launch(executable_path=shutil.which("chromium"))
        try:
            for uid, board in boards().items():
                if only not in ("", uid):
                    continue
                text, told[uid] = await page(board, prometheus, recording.asked(uid), recording.moment(uid))
                _write(await _photographed(browser, text, height(board)), into / f"{uid}.png", seen_hash(board))
        finally:
            await browser.close()
    return told


async def _photographed(browser: Browser, text: str, tall: int) -> bytes:
    context = await browser.new_context(
        viewport={"width": WIDTH, "height": tall}, device_scale_factor=SCALE, java_script_enabled=False
    )
    try:
        shown = await context.new_page()
        await shown.set_content(text)
        for _ in range(_REFUSALS):
            # A busy Chromium now and then refuses one capture and takes the next.
            with contextlib.suppress(Refused):
                return await shown.screenshot()
        return await shown.screenshot()
    finally:
        await context.close()


def _write(taken: bytes, path: Path, digest: str) -> None:
    """The picture, with the hash of what it was drawn from. 256 colours that cover all that occur take a third of the
    room, and a thin line keeps its colour."""
    text = PngInfo()
    text.add_text(HASH, digest)
    with Image.open(io.BytesIO(taken)) as image:
        few = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=2, dither=Image.Dither.NONE)
    few.save(path, pnginfo=text, optimize=True)


def main(arguments: list[str] | None = None) -> int:
    """The command line; prints what was drawn, a panel a line."""
    parser = argparse.ArgumentParser(
        prog="python -m dashboards.render", description=__doc__.split("\n")[0] if __doc__ else ""
    )
    parser.add_argument("--record", type=Path, metavar="DIR", help="keep what was lived through here")
    parser.add_argument("--kept", type=Path, metavar="DIR", help="draw what was kept there")
    parser.add_argument("--into", type=Path, default=IMAGES, metavar="DIR", help="where pictures go")
    parser.add_argument("--only", default="", metavar="UID", help="draw this dashboard alone")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="cutover-pictures-") as scratch:
        recording = kept(options.kept) if options.kept else asyncio.run(record(options.record or Path(scratch)))
        options.into.mkdir(parents=True, exist_ok=True)
        told = asyncio.run(render(recording, options.into, only=options.only))
    for uid, panels in told.items():
        for each in panels:
            sys.stdout.write(f"{uid}\t{each.panel}\t{each.kind}\t{each.found}\t{each.title}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
