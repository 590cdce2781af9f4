"""The demo's second half: the flip, lossless back and forth again, the soak, the archive and the drop."""

import asyncpg

from cutover.embedded.demo_ground import SETTLE_SECONDS, DemoFailed, Ground
from cutover.embedded.history import Verdict

_TRAFFIC = 120
_INSERT = """
INSERT INTO agent_memories (workspace_id, content, scope)
SELECT id, 'past the daemon', 'LOCAL' FROM workspaces LIMIT 1
"""


class Cutover:
    """From the end of the copy to the end of the table, one method per chapter."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground

    async def story(self) -> Verdict:
        """All of it; gives the last verdict."""
        await self._agree_before_cutover()
        await self._rehearse()
        await self._flip()
        await self._frozen()
        await self._back()
        await self._flip()
        await self._archive()
        return await self._drop()

    # -- chapters ---------------------------------------------------------------------------------------------------

    async def _agree_before_cutover(self) -> None:
        """With the callers held for a moment both stores must agree with the history, row by row."""
        ground = self._ground
        await ground.traffic.pause()
        await ground.drained()
        verdict = await ground.judge("legacy")
        ground.say(f"A2: both stores hold what was acknowledged: {verdict.words()}")
        await ground.verify("A2")
        # Nobody writes past the daemon any more: the gate of A3 asks for that.
        await ground.traffic.stop_sql()
        ground.traffic.go_on()

    async def _rehearse(self) -> None:
        """The way back is tried on a copy before it can be needed."""
        told = await self._ground.stack.control.rehearse()
        if not told.get("ok"):
            raise DemoFailed(f"the rehearsal of the way back failed: {told.get('why')}")
        self._ground.say(f"the way back was rehearsed on a copy: {told['rows']} rows, {told['seconds']:.1f} s")

    async def _flip(self) -> None:
        """A3 under traffic: the plugin alone."""
        ground = self._ground
        control = ground.stack.control
        if answered := await control.acknowledge_quarantined("rows of the sample that have no place in v2"):
            ground.say(f"{answered} memories that cannot be placed were acknowledged one by one")
        await control.digest_sweep(full=True, timeout=SETTLE_SECONDS)
        await ground.enter("A3")
        await ground.acknowledge(_TRAFFIC, "traffic in A3")
        await ground.traffic.pause()
        await ground.drained()
        verdict = await ground.judge("plugin")
        ground.say(f"A3: the plugin holds what was acknowledged: {verdict.words()}")
        await ground.verify("A3")
        ground.traffic.go_on()

    async def _frozen(self) -> None:
        """Whoever writes to the table past the daemon is told so."""
        connection = await asyncpg.connect(
            self._ground.stack.database_url, server_settings={"application_name": "forgotten-cron-job"}
        )
        try:
            await connection.execute(_INSERT)
        except asyncpg.PostgresError as error:
            self._ground.say(f"direct SQL by forgotten-cron-job was refused: {str(error).splitlines()[0]}")
        else:
            raise DemoFailed("direct SQL wrote to the frozen table")
        finally:
            await connection.close()

    async def _back(self) -> None:
        """A3 → A2: what was written since the cutover is in legacy, and what was not touched is as it was."""
        ground = self._ground
        await ground.traffic.pause()
        await ground.drained()
        before = await ground.witness.rows()
        ground.traffic.go_on()
        await ground.acknowledge(_TRAFFIC, "more traffic in A3")
        await ground.enter("A2")
        await ground.acknowledge(_TRAFFIC, "traffic back in A2")
        await ground.traffic.pause()
        await ground.drained()
        verdict = await ground.judge("legacy")
        touched = ground.history.touched()
        after = await ground.witness.rows()
        changed = [each for each, row in before.items() if each not in touched and after.get(each) != row]
        if changed:
            raise DemoFailed(f"{len(changed)} rows that nobody touched came back changed, for example {changed[0]}")
        untouched = len(before.keys() - touched)
        ground.say(f"back in A2 without loss: {verdict.words()}; {untouched} untouched rows are as they were")
        await ground.verify("A2")
        ground.traffic.go_on()

    async def _archive(self) -> None:
        """The soak runs meanwhile; the archive is restored into a scratch schema before it counts."""
        told = await self._ground.stack.control.archive(timeout=SETTLE_SECONDS)
        if told.get("state") != "finished":
            raise DemoFailed(f"the archive: {told}")
        rows = sum(table["rows"] for table in told["tables"].values())
        self._ground.say(f"archive: {rows} rows in {told['parts']} files, restored for a test: equal digests")

    async def _drop(self) -> Verdict:
        """A4: renamed, held, dropped; and everything goes on."""
        ground = self._ground
        await ground.enter("A4")
        await ground.acknowledge(_TRAFFIC, "traffic during the hold")

        async def gone() -> bool:
            return bool((await ground.stack.control.drop())["state"] == "dropped")

        await ground.eventually(gone, "the drop", SETTLE_SECONDS)
        ground.say("agent_memories was held, and is gone")
        await ground.acknowledge(_TRAFFIC, "traffic after the drop")
        await ground.traffic.pause()
        await ground.drained()
        verdict = await ground.judge("plugin")
        ground.say(f"A4: the plugin holds what was acknowledged: {verdict.words()}")
        await ground.verify("A4")
        return verdict
