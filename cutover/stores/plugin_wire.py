"""The plugin contract's JSON (domain §3), to and from domain values: pure, strict, no I/O.

What is sent: RFC 3339 in UTC with microseconds and `Z`. What is read: exact types, or `PluginMisspoke`. A field
that the contract does not know is ignored, so that a plugin of a later 1.x is understood.
"""

import json
import math
import re
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar
from uuid import UUID

from cutover.domain.errors import PluginError, PluginFault, PluginMisspoke, PluginRejected
from cutover.domain.memory import Kind, Namespace, PluginCommit, PluginHealth, PluginMemory, Source
from cutover.domain.namespace import NamespaceKind

MAX_MESSAGE = 500
"""Characters of a plugin's error message that are kept."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
_RETRYABLE_4XX = frozenset({408, 425, 429})
T = TypeVar("T")

_NAMESPACE_KINDS = frozenset(NamespaceKind)
_HEALTH_STATUS = frozenset({"ok", "degraded"})


# -- sending ------------------------------------------------------------------------------------------------------


def rfc3339(moment: datetime) -> str:
    """`2026-04-01T12:00:00.123456Z`; `moment` must be aware."""
    if moment.tzinfo is None:
        raise ValueError("a timestamp without a time zone cannot be sent")
    return moment.astimezone(UTC).isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def encode(value: Mapping[str, Any]) -> bytes:
    """JSON as UTF-8. Lone surrogates go as escapes: whether to take them is the plugin's decision."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def encode_commit(commit: PluginCommit) -> bytes:
    """The body of `POST /v1/namespaces/{name}/memories`."""
    body: dict[str, Any] = {
        "id": str(commit.id),
        "content": commit.content,
        "kind": commit.kind.value,
        "source": commit.source.value,
    }
    if commit.expires_at is not None:
        body["expires_at"] = rfc3339(commit.expires_at)
    if commit.propagation is not None:
        body["propagation"] = commit.propagation
    if commit.pin:
        body["pin"] = True
    if commit.embedding is not None:
        body["embedding"] = commit.embedding
    return encode(body)


def encode_search(
    namespaces: Collection[str],
    query: str,
    kinds: Collection[Kind],
    limit: int | None,
    embedding: Collection[float] | None,
) -> bytes:
    """The body of `POST /v1/search`; empty parts are left out."""
    body: dict[str, Any] = {"namespaces": list(namespaces)}
    if query:
        body["query"] = query
    if kinds:
        body["kinds"] = sorted(kind.value for kind in kinds)
    if limit is not None:
        body["limit"] = limit
    if embedding is not None:
        body["embedding"] = list(embedding)
    return encode(body)


# -- reading ------------------------------------------------------------------------------------------------------


def decode_health(raw: bytes) -> PluginHealth:
    """The answer of `GET /v1/health`."""
    body = _object(raw, "health")
    capabilities = body.get("capabilities")
    if capabilities is None:
        capabilities = []
    if not isinstance(capabilities, list) or not all(isinstance(each, str) for each in capabilities):
        raise _misspoke("health", "capabilities is not an array of strings")
    status = _text(body, "status", "health")
    if status not in _HEALTH_STATUS:
        raise _misspoke("health", "status is neither ok nor degraded")
    return PluginHealth(status, _text(body, "version", "health"), frozenset(capabilities))


def decode_namespace(raw: bytes, name: str) -> Namespace:
    """The answer of PUT and PATCH on namespace `name`."""
    body = _object(raw, "namespace")
    if body.get("name") != name:
        raise _misspoke("namespace", "it is about another namespace")
    metadata = body.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        raise _misspoke("namespace", "metadata is not an object")
    kind = _text(body, "kind", "namespace")
    if kind not in _NAMESPACE_KINDS:
        raise _misspoke("namespace", "kind is not one of the contract's")
    return Namespace(
        name=name,
        kind=kind,
        expires_at=_optional(body, "expires_at", "namespace", _moment),
        metadata=metadata,
        created_at=_required(body, "created_at", "namespace", _moment),
    )


def check_committed(raw: bytes, commit: PluginCommit) -> None:
    """That the answer of a commit is about the memory that was sent: an id of the plugin's own would be a duplicate
    that nobody finds again (domain §4.2)."""
    body = _object(raw, "commit")
    if _required(body, "id", "commit", _uuid) != commit.id:
        raise _misspoke("commit", "it took another id than the one sent")
    if body.get("namespace") != commit.namespace:
        raise _misspoke("commit", "it names another namespace than the one sent")


def decode_memories(raw: bytes, namespaces: Collection[str]) -> list[PluginMemory]:
    """The answer of a search in `namespaces`, in the plugin's order. `memories` may be null."""
    memories = _object(raw, "search").get("memories", ...)
    if memories is None:
        return []
    if not isinstance(memories, list):
        raise _misspoke("search", "memories is not an array")
    return [_memory(each, namespaces) for each in memories]


def _memory(value: Any, namespaces: Collection[str]) -> PluginMemory:
    if not isinstance(value, dict):
        raise _misspoke("search", "a memory is not an object")
    namespace = _text(value, "namespace", "search")
    if namespace not in namespaces:
        # Also what keeps a confused plugin from showing one workspace another's memories.
        raise _misspoke("search", "a memory is of a namespace that was not asked for")
    pin = value.get("pin")
    if pin is not None and not isinstance(pin, bool):
        raise _misspoke("search", "pin is not a boolean")
    return PluginMemory(
        id=_required(value, "id", "search", _uuid),
        namespace=namespace,
        content=_text(value, "content", "search"),
        kind=_required(value, "kind", "search", Kind),
        source=_required(value, "source", "search", Source),
        created_at=_required(value, "created_at", "search", _moment),
        expires_at=_optional(value, "expires_at", "search", _moment),
        propagation=value.get("propagation"),
        pin=pin is True,
        score=_optional(value, "score", "search", _number),
    )


def decode_error(status: int, raw: bytes) -> PluginError:
    """Our error for an answer of `status` that is neither 2xx nor a redirect.

    408, 425 and 429 say "not now", not "never": they are faults to be retried, although they are 4xx.
    """
    try:
        body = json.loads(raw)
    except (ValueError, RecursionError):
        body = None
    said: dict[str, Any] = body if isinstance(body, dict) else {}
    code, message = said.get("code"), said.get("message")
    if not isinstance(code, str) or not code:
        code = "internal" if status >= 500 else "bad_request"
    if not isinstance(message, str) or not message:
        message = f"the plugin answered {status}"
    if 400 <= status < 500 and status not in _RETRYABLE_4XX:
        return PluginRejected(status, code, message[:MAX_MESSAGE], said.get("details"))
    return PluginFault(status, code, message[:MAX_MESSAGE])


def _no_constant(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _object(raw: bytes, what: str) -> dict[str, Any]:
    try:
        body = json.loads(raw, parse_constant=_no_constant)
    except (ValueError, RecursionError):
        raise _misspoke(what, "it is not JSON") from None
    if not isinstance(body, dict):
        raise _misspoke(what, "it is not a JSON object")
    return body


def _misspoke(what: str, problem: str) -> PluginMisspoke:
    return PluginMisspoke(
        f"the plugin's {what} answer breaks the contract: {problem}",
        next_step="check that MEMORY_PLUGIN_URL points at a memory plugin of contract 1.x",
    )


def _text(body: Mapping[str, Any], field: str, what: str) -> str:
    value = body.get(field)
    if not isinstance(value, str):
        raise _misspoke(what, f"{field} is not a string")
    return value


def _required(body: Mapping[str, Any], field: str, what: str, read: Callable[[Any], T]) -> T:
    try:
        return read(body.get(field))
    except (ValueError, TypeError):
        raise _misspoke(what, f"{field} is missing or malformed") from None


def _optional(body: Mapping[str, Any], field: str, what: str, read: Callable[[Any], T]) -> T | None:
    return None if body.get(field) is None else _required(body, field, what, read)


def _uuid(value: Any) -> UUID:
    if not isinstance(value, str) or len(value) != 36:
        raise ValueError("not a UUID")
    return UUID(value)


def _moment(value: Any) -> datetime:
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise ValueError("not an RFC 3339 timestamp")
    return datetime.fromisoformat(value.upper()).astimezone(UTC)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)
