"""What the modules of `/api/v1` share: who may change something, and how a body or a query is read.

Reading is open to whoever reaches the listener. Changing takes an admin token, and the actor that is recorded is the
token's name, with the person behind it where the body says so.
"""

from typing import Annotated, ClassVar, Final, TypeVar
from uuid import UUID

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from cutover.domain.errors import InvalidRequest
from cutover.domain.redaction import redact
from cutover.http.admins import Admins
from cutover.http.ops_tenant import OpsTenant
from cutover.http.server import Call, Handler

NO_STORE: Final = {"Cache-Control": "no-store"}


Served = tuple[str, str, Handler[OpsTenant]]
"""A route of `/api/v1`: method, path below it, handler."""


def _uuid(value: object) -> object:
    return UUID(value) if isinstance(value, str) else value


BodyUUID = Annotated[UUID, BeforeValidator(_uuid)]
"""A UUID in a strict body, where JSON has only text for it."""


class ControlBody(BaseModel):
    """Base of the control bodies: strict, and an unknown field is a mistake worth telling the operator about."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    digests: ClassVar[frozenset[str]] = frozenset()
    """Fields whose pattern lets nothing but hex digits in, which look like a secret."""

    actor: str | None = Field(default=None, min_length=1, max_length=100)
    """Who is behind a shared token; the token's own name is recorded as well."""

    @field_validator("*")
    @classmethod
    def _fit_for_the_record(cls, value: object, info: ValidationInfo) -> object:
        """What is put down is shown to everybody who looks, so it must be readable and no secret."""
        if isinstance(value, str) and info.field_name not in cls.digests:
            _readable(value)
            if not value.strip():
                raise ValueError("only white space")
            if redact(value) != value:
                raise ValueError("looks like a secret, and this is kept and shown")
        return value


class Query(BaseModel):
    """Base of the query strings: text is read as what the field is, and an unknown parameter is told: a filter that
    is misspelt would otherwise show everything."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*")
    @classmethod
    def _is_text(cls, value: object) -> object:
        if isinstance(value, str):
            _readable(value)
        return value


def _readable(value: str) -> None:
    if not value.isprintable():
        raise ValueError("control characters are not allowed")


B = TypeVar("B", bound=ControlBody)
Q = TypeVar("Q", bound=Query)


async def authorised(admins: Admins, call: Call[OpsTenant], model: type[B]) -> tuple[str, B]:
    """The actor and the parsed body. The token is looked at first: a stranger's body is not even read."""
    holder = admins.who(call.request.headers.get("Authorization"))
    body = parse_body(model, await call.body() or b"{}")
    return (f"{body.actor} (token of {holder})" if body.actor else holder), body


def parse_body(model: type[B], raw: bytes) -> B:
    """A control body; raises `InvalidRequest` with the field, what is wrong with it, and the fields there are."""
    try:
        return model.model_validate_json(raw)
    except ValidationError as error:
        raise _told(error, model, "the body") from None


def parse_query(model: type[Q], call: Call[OpsTenant]) -> Q:
    """The query string; a parameter that is given several times is a list, as is one with commas."""
    given = {name: ",".join(call.request.query.getall(name)) for name in call.request.query}
    try:
        return model.model_validate(given)
    except ValidationError as error:
        raise _told(error, model, "the query") from None


def path_uuid(call: Call[OpsTenant], name: str) -> UUID:
    """The UUID in a path; raises `InvalidRequest`."""
    try:
        return UUID(call.request.match_info[name])
    except ValueError:
        raise InvalidRequest(f"the path's {name} is not a UUID", next_step="give a whole id, as listed") from None


def split(value: object) -> object:
    """Before a validator of lists: the comma-separated parts of a parameter."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _told(error: ValidationError, model: type[BaseModel], whole: str) -> InvalidRequest:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return InvalidRequest("the body is not valid JSON", next_step="send a JSON object")
    field = ".".join(str(part) for part in first["loc"] if str(part).isidentifier())[:80]
    fields = ", ".join(model.model_fields)
    return InvalidRequest(f"{field or whole}: {first['msg']}", next_step=f"this call takes: {fields}")
