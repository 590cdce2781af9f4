"""Whoever captures the same K/V row at the same moment as somebody else is not refused for it."""

import asyncio

from cutover.domain.phase import Phase
from tests.integration.kv_scene import kv_scene
from tests.integration.read_scene import CHILD

_ROUNDS = 3000
# Each round its own transaction, over the same new keys in both sessions: whoever is ahead waits for the other's lock
# on the entry, so they stay side by side, and in some rounds both find the key unknown.
_TOUCH = f"""
DO $$
BEGIN
    FOR number IN 1..{_ROUNDS} LOOP
        PERFORM cutover.kv_touch('{CHILD}', 'key ' || number, true, 'test');
        COMMIT;
    END LOOP;
END $$
"""


async def test_two_that_capture_one_row_at_once_are_both_served(database: str) -> None:
    async with kv_scene(database) as s:
        await s.enter(Phase.A2)
        await s.database.execute(
            "INSERT INTO workspace_memory (workspace_id, key, value)"
            f" SELECT $1, 'key ' || number, '1'::jsonb FROM generate_series(1, {_ROUNDS}) number",
            CHILD,
            timeout=60,
        )
        await s.database.execute("DELETE FROM cutover.kv")
        await asyncio.gather(*(s.database.execute(_TOUCH, timeout=60) for _ in range(2)))
        assert await s.count("cutover.kv") == _ROUNDS
