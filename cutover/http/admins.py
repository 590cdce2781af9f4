"""Who may change things on the ops face: named bearer tokens, kept as digests and compared in constant time."""

import hashlib
import hmac
from collections.abc import Mapping

from cutover.domain.errors import Forbidden, Unauthenticated

_CONFIGURE = "set CUTOVER_ADMIN_TOKEN (or CUTOVER_ADMIN_TOKENS_FILE) and restart the daemon"
_SEND_IT = "send `Authorization: Bearer <token>` with an admin token"


def token_digest(token: str) -> bytes:
    """sha256: what is kept of a token. Tokens are long and random, so a plain digest gives none away."""
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


class Admins:
    """The digests (`token_digest`) of the configured admin tokens by the name of who holds each."""

    def __init__(self, digests: Mapping[str, bytes]) -> None:
        self._digests = dict(digests)

    def who(self, authorization: str | None) -> str:
        """The name behind an `Authorization` header.

        Raises `Forbidden` when no token is configured (then nobody may change anything, with or without one), and
        `Unauthenticated` for a missing or wrong token. Every digest is looked at whichever matches, so the time
        taken says nothing about the tokens.
        """
        if not self._digests:
            raise Forbidden("this daemon has no admin token, so it takes no control calls", next_step=_CONFIGURE)
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise Unauthenticated("missing admin token", next_step=_SEND_IT)
        offered = token_digest(token.strip())
        found = ""
        for name, digest in self._digests.items():
            if hmac.compare_digest(digest, offered):
                found = name
        if not found:
            raise Unauthenticated("invalid admin token", next_step=_SEND_IT)
        return found
