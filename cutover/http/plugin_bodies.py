"""The request bodies of the plugin contract (domain §3), parsed strictly: exact types, or a 400 that names the field.

Unknown fields are ignored. A null field counts as absent, but clears in a PATCH. No message ever quotes the input.
"""

import math
import re
from datetime import UTC, datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from cutover.domain.errors import InvalidRequest
from cutover.domain.memory import EMBEDDING_DIMENSIONS, Kind, Source
from cutover.domain.namespace import MAX_NAMESPACE_LENGTH, NamespaceKind, is_valid_name

MAX_LIMIT = 100
MAX_FLOAT4 = 3.4028234e38
"""The largest number that pgvector's four-byte floats hold."""
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
NAME_RULE = f"must match ^[a-z]+:[A-Za-z0-9_:.\\-]+$ and have at most {MAX_NAMESPACE_LENGTH} characters"


def _moment(value: object) -> object:
    """RFC 3339 text as a moment in UTC; pydantic by itself would take numbers and more of ISO 8601."""
    if not isinstance(value, str) or _RFC3339.fullmatch(value) is None:
        raise ValueError("must be an RFC 3339 timestamp")
    try:
        return datetime.fromisoformat(value.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ValueError("must be an RFC 3339 timestamp") from None


def _uuid(value: object) -> object:
    """The 36-character form only; pydantic by itself would take braces, URNs and bare digits."""
    if not isinstance(value, str) or len(value) != 36:
        raise ValueError("must be a UUID")
    try:
        return UUID(value)
    except ValueError:
        raise ValueError("must be a UUID") from None


def _storable(value: str) -> str:
    if "\0" in value:
        raise ValueError("must not hold NUL characters")
    return value


def _name(value: str) -> str:
    if not is_valid_name(value):
        raise ValueError(NAME_RULE)
    return value


def _content(value: str) -> str:
    if not value or value.isspace():
        raise ValueError("must not be empty")
    return _storable(value)


def _opaque(value: Any) -> Any:
    """JSON that PostgreSQL can hold: no NUL in any string, no number that JSON has no word for."""
    open_ = [value]
    while open_:
        each = open_.pop()
        if isinstance(each, str):
            _storable(each)
        elif isinstance(each, float):
            if not math.isfinite(each):
                raise ValueError("must hold finite numbers only")
        elif isinstance(each, dict):
            open_.extend(each)
            open_.extend(each.values())
        elif isinstance(each, list):
            open_.extend(each)
    return value


def _embedding(value: list[float]) -> list[float]:
    if len(value) != EMBEDDING_DIMENSIONS:
        raise ValueError(f"must be an array of {EMBEDDING_DIMENSIONS} numbers")
    if not all(-MAX_FLOAT4 <= each <= MAX_FLOAT4 for each in value):  # false for NaN, too
        raise ValueError("must hold finite numbers that fit four bytes")
    return value


Moment = Annotated[datetime, BeforeValidator(_moment)]
Uuid = Annotated[UUID, BeforeValidator(_uuid)]
Text = Annotated[str, AfterValidator(_storable)]
Name = Annotated[str, AfterValidator(_name)]
Content = Annotated[str, AfterValidator(_content)]
Opaque = Annotated[Any, AfterValidator(_opaque)]
Metadata = Annotated[dict[str, Any], AfterValidator(_opaque)]
Embedding = Annotated[list[float], AfterValidator(_embedding)]


class Body(BaseModel):
    """Base of all bodies."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class CommitBody(Body):
    """`POST /v1/namespaces/{name}/memories`."""

    id: Uuid | None = None
    content: Content
    kind: Kind
    source: Source
    expires_at: Moment | None = None
    propagation: Opaque = None
    pin: bool | None = None
    embedding: Embedding | None = None


class SearchBody(Body):
    """`POST /v1/search`."""

    namespaces: list[Name] = Field(min_length=1)
    query: Text | None = None
    kinds: list[Kind] | None = None
    limit: int | None = Field(default=None, ge=0, le=MAX_LIMIT)
    embedding: Embedding | None = None


class ForgetBody(Body):
    """`DELETE /v1/memories/{id}`."""

    requested_by_namespace: Name


class PutNamespaceBody(Body):
    """`PUT /v1/namespaces/{name}`."""

    kind: NamespaceKind
    expires_at: Moment | None = None
    metadata: Metadata | None = None


class PatchNamespaceBody(Body):
    """`PATCH /v1/namespaces/{name}`; `model_fields_set` says what was sent."""

    expires_at: Moment | None = None
    metadata: Metadata | None = None


B = TypeVar("B", bound=Body)


def parse(model: type[B], raw: bytes) -> B:
    """The body as `model`, or `InvalidRequest` that names the first field that is wrong."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidRequest(_what_is_wrong(error)) from None


def _what_is_wrong(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return "the body is not valid JSON"
    if not first["loc"]:
        return "the body must be a JSON object"
    field = ".".join(str(part) for part in first["loc"] if isinstance(part, int) or part.isidentifier())
    return f"{field}: {first['msg'].removeprefix('Value error, ')}"


def namespace_name(value: str) -> str:
    """A namespace's name out of the path; raises `InvalidRequest`."""
    if not is_valid_name(value):
        raise InvalidRequest(f"the namespace {NAME_RULE}")
    return value


def memory_id(value: str) -> UUID:
    """A memory's id out of the path; raises `InvalidRequest`."""
    try:
        parsed = _uuid(value)
    except ValueError:
        raise InvalidRequest("the memory id must be a UUID") from None
    assert isinstance(parsed, UUID)  # noqa: S101 - what `_uuid` gives back
    return parsed
