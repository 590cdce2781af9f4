"""A lease is counted from before it was asked for: whoever hears of it late does not send under it."""

import asyncio

from cutover.domain.phase import Phase
from cutover.embedded.fault_proxy import Forward, ProxiedAnswer, ProxiedRequest, on
from cutover.embedded.processes import until
from tests.integration.lock_scene import foreign_transaction, until_waiting
from tests.integration.protocol_scene import scene
from tests.integration.read_scene import CHILD

_EXPIRED = """
SELECT bool_or(clock_timestamp() - a.query_start > make_interval(secs => $1)) FROM pg_stat_activity a
WHERE datname = current_database() AND wait_event_type = 'Lock' AND position('claim_marks' IN query) > 0
"""


async def test_the_reconciler_does_not_send_under_a_lease_that_expired_on_its_way(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "before")
        await s.quiet()
        leases: list[bool] = []

        async def look(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
            mark = await s.database.fetchrow(
                "SELECT due_at > clock_timestamp() AS live FROM cutover.mark WHERE memory_id = $1", made.id
            )
            leases.append(mark is not None and mark["live"])
            return await forward(request)

        s.proxy.rule(on("POST", r"/memories$", "after"), look)
        async with foreign_transaction(database) as stranger:
            # The claim is granted when its statement begins, and heard of when the tree can be read again. The edit
            # reads the tree too: so the lock is asked for before the edit ends, and had before its mark can be claimed.
            async with foreign_transaction(database) as writer:
                await writer.execute("UPDATE agent_memories SET content = 'after' WHERE id = $1", made.id)
                locking = asyncio.create_task(stranger.execute("LOCK TABLE workspaces IN ACCESS EXCLUSIVE MODE"))
                await until_waiting(s.database, "LOCK TABLE workspaces")
                await writer.execute("COMMIT")
            await locking
            await until_waiting(s.database, "claim_marks")
            quiet = s.tenant._reconciler._quiet

            async def expired() -> bool:
                return bool(await s.database.fetchval(_EXPIRED, quiet))

            await until(expired, "the lease to expire", timeout=quiet + 5)
            await stranger.execute("ROLLBACK")
        await s.quiet()
        # A second request would be one under the lease that was over: by then the memory is anybody's to claim.
        assert leases == [True]
        assert await s.content(made.id) == "after"
