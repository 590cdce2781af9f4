"""What goes over the wire on every face: JSON answers, request ids, trace contexts."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from aiohttp import web
from multidict import CIMultiDict
from pydantic_core import to_json

from cutover.domain.errors import InvalidRequest

JSON = "application/json"
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:\-]{1,128}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def json_response(status: int, payload: Any, headers: Mapping[str, str] | None = None) -> web.Response:
    """An answer whose body is `payload` as JSON; UUIDs and datetimes in it are written as the faces promise."""
    fields = CIMultiDict({"Content-Type": JSON})
    if headers:
        fields.update(headers)
    return web.Response(status=status, body=to_json(payload), headers=fields)


def rfc3339(moment: datetime) -> str:
    """`2026-04-01T12:00:00.123456Z`: the only form that the platform's Go clients take (domain §2)."""
    text = moment.astimezone(UTC).isoformat()
    return text.removesuffix("+00:00") + "Z"


def request_id(offered: str | None) -> str:
    """The caller's `X-Request-Id` when it is short and harmless, else a fresh one."""
    if offered is not None and _REQUEST_ID.fullmatch(offered):
        return offered
    return os.urandom(12).hex()


def idempotency_key(offered: str | None) -> str | None:
    """The header `Idempotency-Key`: 1 to 255 visible ASCII characters; anything else is a 400, never dropped."""
    if offered is not None and _IDEMPOTENCY_KEY.fullmatch(offered) is None:
        raise InvalidRequest("Idempotency-Key must be 1 to 255 visible ASCII characters")
    return offered


def traceparent(offered: str | None) -> str | None:
    """The caller's W3C trace context when it is well formed, else None (it is not guessed or repaired)."""
    if offered is not None and len(offered) == 55 and _TRACEPARENT.fullmatch(offered):
        return offered
    return None


def trace_id(parent: str | None) -> str | None:
    """The trace's id out of a valid `traceparent`."""
    return None if parent is None else parent[3:35]
