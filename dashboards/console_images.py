"""Take pictures of the console: `python -m dashboards.console_images` writes `docs/images/console-*.png`.

A real daemon with the sample tenant and callers: once in the middle of a backfill and well, once after somebody deleted
rows behind the triggers' back. Needs Debian's package chromium.
"""

import argparse
import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Literal

import asyncpg
from playwright.async_api import Browser, Page, async_playwright

from cutover.embedded.history import History
from cutover.embedded.postgres import DISPOSABLE, EmbeddedPostgres
from cutover.embedded.processes import PEOPLE, until
from cutover.embedded.sample import sample_database
from cutover.embedded.stack import Stack, running_stack
from cutover.embedded.traffic import Mix, Traffic

IMAGES: Final = Path(__file__).parent.parent / "docs" / "images"
NAMES: Final = ("console-light", "console-dark", "console-phone")
ARGUMENTS: Final = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
SETTINGS: Final = {
    "CUTOVER_TENANT": "acme",
    "CUTOVER_LOG_FORMAT": "json",
    "CUTOVER_SWEEP_INTERVAL": "2",
    "CUTOVER_DIGEST_INTERVAL": "4",
    "CUTOVER_RECALL_INTERVAL": "6",
    "CUTOVER_QUARANTINE_SECONDS": "2",
    "MEMORY_PLUGIN_TIMEOUT": "1",
}
MEMORIES: Final = 5_000
PATIENCE: Final = 120.0
_REASONS: Final = {
    "A1": "shadow writes may begin: the plugin has been well for two days",
    "A2": "a clean week in A1, so the old rows can be copied",
}
# What nobody should do: the rows vanish from legacy and no trigger sees it.
_BEHIND_THE_BACK: Final = """
    ALTER TABLE agent_memories DISABLE TRIGGER USER;
    DELETE FROM agent_memories WHERE id IN (
        SELECT m.id FROM agent_memories m JOIN memory_plugin.memory_records r ON r.id = m.id
        WHERE NOT EXISTS (SELECT FROM cutover.mark k WHERE k.memory_id = m.id) LIMIT 3);
    ALTER TABLE agent_memories ENABLE ALWAYS TRIGGER cutover_capture_row;
    ALTER TABLE agent_memories ENABLE ALWAYS TRIGGER cutover_capture_truncate;
"""


async def main(into: Path) -> None:
    """Live through it, and take the pictures."""
    with EmbeddedPostgres.temporary(settings=DISPOSABLE) as postgres:
        sample = await sample_database(postgres, "acme", memories=MEMORIES)
        async with running_stack(postgres, sample.url, settings=SETTINGS) as stack, _chromium() as browser:
            # No foreign writers: what they did behind the daemon would be what the pictures are about.
            mix = Mix(sql_insert=0, sql_update=0, sql_delete=0, sql_bulk=0)
            async with Traffic([stack.daemon.at], sample.seats, sample.url, History(), mix=mix) as traffic:
                working = asyncio.create_task(traffic.run(seconds=600))
                await _into_the_backfill(stack)
                await _picture(browser, stack, into, "console-light", "light", (1280, 1180))
                await _lose_rows(stack)
                await _picture(browser, stack, into, "console-dark", "dark", (1280, 1180))
                await _picture(browser, stack, into, "console-phone", "light", (390, 844))
                traffic.stop()
                await working


@asynccontextmanager
async def _chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        yield browser
        await browser.close()


async def _into_the_backfill(stack: Stack) -> None:
    """A1, A2, a third of the old rows copied, and every kind of sweep behind it."""
    control = stack.control

    async def promoted(phase: str) -> bool:
        body = {"reason": _REASONS[phase], "target": phase}
        status, _ = await control.call("POST", "/api/v1/phase/promote", body, token=PEOPLE["edsger"])
        return status == 200

    for phase in _REASONS:
        await until(lambda phase=phase: promoted(phase), f"phase {phase}", timeout=PATIENCE, every=0.5)  # type: ignore[misc]
    await control.digest_sweep(full=True, timeout=PATIENCE)
    await control.start_backfill(rate=150)

    async def copied() -> bool:
        found = await control.backfill()
        return bool(found["scanned"] > MEMORIES / 3)

    await until(copied, "a third copied", timeout=PATIENCE, every=0.2)


async def _lose_rows(stack: Stack) -> None:
    connection = await asyncpg.connect(stack.database_url)
    try:
        await connection.execute(_BEHIND_THE_BACK)
    finally:
        await connection.close()

    async def seen() -> bool:
        drift: dict[str, Any] = (await stack.control.status())["drift"]
        return bool(drift["unexplained"])

    await until(seen, "the loss seen by a sweep", timeout=PATIENCE, every=0.2)


async def _picture(
    browser: Browser, stack: Stack, into: Path, name: str, scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    viewport = {"width": size[0], "height": size[1]}
    context = await browser.new_context(viewport=viewport, color_scheme=scheme, device_scale_factor=1.5)  # type: ignore[arg-type]
    page: Page = await context.new_page()
    await page.goto(stack.daemon.at.ops)
    await page.wait_for_selector("#link.live", timeout=PATIENCE * 1000)
    await page.screenshot(path=into / f"{name}.png")
    await context.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=IMAGES, metavar="DIR")
    chosen: Path = parser.parse_args().into
    chosen.mkdir(parents=True, exist_ok=True)
    asyncio.run(main(chosen))
