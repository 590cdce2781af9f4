"""A step that takes long: it outlives its client, is seen while it goes on, and nobody waits in line for another."""

from collections.abc import Iterator
from typing import Any

import aiohttp
import asyncpg
import pytest

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import until
from tests.served import Served, served

LOCK = "SELECT pg_advisory_xact_lock_shared(cutover.phase_lock_key())"


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    with served(postgres, "A1") as made:
        yield made


async def test_a_step_outlives_its_client_is_shown_and_refuses_a_second_at_once(running: Served) -> None:
    headers = {"Authorization": f"Bearer {running.daemon.admin_token}"}
    url = f"{running.daemon.at.ops}/api/v1/phase"
    body = {"reason": "a test", "target": "A0"}
    blocker = await asyncpg.connect(running.database_url)
    async with aiohttp.ClientSession(headers=headers) as session:

        async def told() -> dict[str, Any]:
            async with session.get(url) as response:
                return dict(await response.json())

        held = blocker.transaction()
        await held.start()
        await blocker.execute(LOCK)
        with pytest.raises(TimeoutError):  # the client gives up
            await session.post(f"{url}/rollback", json=body, timeout=aiohttp.ClientTimeout(total=0.5))
        changing = (await told())["changing"]
        assert changing["to"] == "A0"
        assert changing["doing"].startswith("try ")
        for path in ("rollback", "promote"):
            second = {**body, "target": "A0" if path == "rollback" else "A2"}
            async with session.post(f"{url}/{path}", json=second) as response:
                refusal = await response.json()
                assert response.status == 409, refusal
            assert refusal["error"].startswith("a change of phase is under way: to A0, try "), refusal
            assert "cutover phase show" in refusal["next"]
        await held.rollback()

        async def there() -> bool:
            now = await told()
            return (now["phase"], now["changing"]) == ("A0", None)

        await until(there, "the step to end without its client", timeout=20, every=0.05)
    await blocker.close()
