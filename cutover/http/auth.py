"""Workspace tokens on the memories face (architecture §2, domain §2).

A token is looked up by its sha256, must not be revoked, and must be bound to the workspace in the path. Every failure
looks alike, so nobody learns from it whether a workspace exists.

Live tokens are remembered for at most one second: agents send bursts, and a look-up costs as much as a read. So a
revoked token is refused after one second at the latest. Only successes are remembered: a token that was issued just
now works at once, and guessing fills no memory.
"""

import hashlib
import hmac
import re
import time
from collections.abc import Callable
from typing import Protocol
from uuid import UUID

from cutover.domain.errors import InvalidRequest, Unauthenticated
from cutover.stores.legacy import LiveToken

REMEMBERED_SECONDS = 1.0
_CAPACITY = 10_000
_MAX_TOKEN = 4096
_UUID = re.compile(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}")


class TokenLookup(Protocol):
    """Where live tokens are found: `LegacyStore`."""

    async def live_token(self, token_hash: bytes) -> LiveToken | None: ...


def uuid_in(text: str) -> UUID | None:
    """The UUID that `text` spells in its usual form, in either case, or None."""
    return UUID(text) if _UUID.fullmatch(text) else None


class WorkspaceAuth:
    """Decides whether a caller speaks for the workspace in the path.

    `trusted_network` lets everybody in (`CUTOVER_MEMORIES_AUTH=trusted-network`): only for a listener on loopback.
    `clock` gives seconds that never go back.
    """

    def __init__(self, *, trusted_network: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        self._trusted = trusted_network
        self._clock = clock
        self._live: dict[tuple[str, bytes], tuple[LiveToken, float]] = {}

    async def workspace(self, tenant: str, tokens: TokenLookup, path_id: str, authorization: str | None) -> UUID:
        """The workspace that `path_id` names, if the `Authorization` header may speak for it.

        Raises `Unauthenticated`; `InvalidRequest` for a malformed id (trusted network only: elsewhere no token can be
        bound to it); `DatabaseUnavailable` when the token cannot be checked.
        """
        workspace_id = uuid_in(path_id)
        if self._trusted:
            if workspace_id is None:
                raise InvalidRequest("invalid workspace id")
            return workspace_id
        token = _bearer(authorization)
        if not token:
            raise Unauthenticated("missing workspace auth token")
        digest = hashlib.sha256(token).digest()
        found = await self._find(tenant, tokens, digest)
        # Compared whether or not something was found, and never by ==: the time taken says nothing.
        stored, owner = (found.token_hash, found.workspace_id.bytes) if found else (bytes(32), bytes(16))
        genuine = hmac.compare_digest(stored, digest)
        bound = hmac.compare_digest(owner, workspace_id.bytes if workspace_id else b"")
        if found is None or workspace_id is None or not (genuine and bound):
            raise Unauthenticated("invalid workspace auth token")
        return workspace_id

    async def _find(self, tenant: str, tokens: TokenLookup, digest: bytes) -> LiveToken | None:
        key, now = (tenant, digest), self._clock()
        remembered = self._live.get(key)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        found = await tokens.live_token(digest)
        if found is None:
            self._live.pop(key, None)
            return None
        if len(self._live) >= _CAPACITY:
            self._live = {one: entry for one, entry in self._live.items() if now < entry[1]}
            if len(self._live) >= _CAPACITY:
                self._live.clear()
        self._live[key] = (found, now + REMEMBERED_SECONDS)  # from before the look-up: it may have taken long
        return found


def _bearer(authorization: str | None) -> bytes:
    """The token of a bearer `Authorization` header; empty when there is none."""
    scheme, _, token = (authorization or "").partition(" ")
    token = token.strip()
    if scheme.lower() != "bearer" or len(token) > _MAX_TOKEN:
        return b""
    return token.encode("utf-8", "surrogateescape")
