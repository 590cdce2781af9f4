"""Deleting whole namespaces in the ledger: one mark per memory, never the plugin's bulk delete (architecture §3)."""

from uuid import UUID

from cutover.domain.namespace import Scope
from cutover.stores.database import Database


class NamespaceDeletion:
    """The SQL side of `DELETE /v1/namespaces/{name}`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def delete_held(self, epoch: int, name: str, workspace_id: UUID | None, scope: Scope | None) -> bool:
        """A0–A2: delete the namespace's legacy rows and natives, and its definition. False: there was nothing."""
        return bool(
            await self._database.fetchval(
                "select cutover.delete_namespace($1, $2, $3, $4)",
                epoch,
                name,
                workspace_id,
                scope.value if scope else None,
                timeout=30.0,
            )
        )

    async def close_and_forget(self, epoch: int, name: str, seconds: float) -> str:
        """A3, A4: close the namespace to writes and journal the forgetting of all it holds.

        Gives `known`, `unknown`, or `unresolved` when an earlier bulk delete may still land.
        """
        return str(
            await self._database.fetchval(
                "select cutover.close_namespace($1, $2, $3)", epoch, name, seconds, timeout=30.0
            )
        )

    async def undelivered(self, name: str) -> bool:
        """Whether memories of the namespace still wait for the plugin to forget them."""
        return bool(
            await self._database.fetchval(
                "select exists (select from cutover.mark m where $1 = any (m.held_in))", name, timeout=5.0
            )
        )

    async def holds_kv(self, name: str) -> bool:
        """Whether K/V rows have their memories in the namespace."""
        return bool(await self._database.fetchval("select cutover.holds_kv($1)", name))

    async def sending(self, name: str, seconds: float) -> bool:
        """Record that the bulk delete is about to go out; False when another one is under way."""
        return bool(await self._database.fetchval("select cutover.sending_namespace_delete($1, $2)", name, seconds))

    async def ended(self, name: str, *, done: bool) -> None:
        """The bulk delete ended for certain: the namespace is gone, or open again."""
        await self._database.execute("select cutover.namespace_delete_ended($1, $2)", name, done)

    async def is_closed(self, name: str) -> bool:
        """Whether writes into the namespace are refused now."""
        return bool(await self._database.fetchval("select cutover.namespace_closed($1)", name))
