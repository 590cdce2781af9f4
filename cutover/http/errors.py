"""From any exception to one `Problem`, and from a problem to the shape that a face's callers know."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web
from aiohttp.web_protocol import RequestPayloadError

from cutover.domain.errors import CutoverError, GateClosed, OperatorError, PluginRejected, Refused

CONTRACT_CODES = frozenset({"bad_request", "not_found", "forbidden", "internal", "unavailable"})
"""The only codes that the contract knows (domain §3)."""

_HTTP_MESSAGES = {
    404: "no such route",
    405: "this route does not take that method",
    413: "the body is larger than this face takes",
    417: "only `Expect: 100-continue` is understood",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """What went wrong with a request, safe to show. `code` is one of the contract's five."""

    status: int
    code: str
    message: str
    next_step: str = ""
    details: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    close: bool = False
    """Whether the connection cannot be used any further."""
    checks: tuple[Mapping[str, object], ...] = ()
    """The checks that close a gate."""


Shape = Callable[[Problem], dict[str, Any]]


def contract_shape(problem: Problem) -> dict[str, Any]:
    """The plugin face: `{code, message, details?}` (domain §3)."""
    message = f"{problem.message}; {problem.next_step}" if problem.next_step else problem.message
    body: dict[str, Any] = {"code": problem.code, "message": message}
    if problem.details is not None:
        body["details"] = problem.details
    return body


def v1_shape(problem: Problem) -> dict[str, Any]:
    """The memories face: `{"error": "…"}` (domain §2)."""
    return {"error": problem.message}


def ops_shape(problem: Problem) -> dict[str, Any]:
    """The ops face: what is wrong and, where that is known, what to do next."""
    return {
        "error": problem.message,
        **({"next": problem.next_step} if problem.next_step else {}),
        **({"checks": list(problem.checks)} if problem.checks else {}),
    }


def code_for(status: int) -> str:
    """The contract's code for an HTTP status that has none of its own."""
    if status == 404:
        return "not_found"
    if status in (401, 403):
        return "forbidden"
    if status == 503:
        return "unavailable"
    return "bad_request" if status < 500 else "internal"


def problem_of(error: Exception) -> Problem | None:
    """The problem an exception stands for, or None for one that nobody expected."""
    if isinstance(error, CutoverError):
        return _of_ours(error)
    if isinstance(error, web.HTTPException):
        return _of_http(error)
    if isinstance(error, RequestPayloadError):
        return Problem(400, "bad_request", "the body could not be read as HTTP", close=True)
    return None


def _of_ours(error: CutoverError) -> Problem:
    headers: dict[str, str] = {}
    if error.status == 503:
        after = error.retry_after if isinstance(error, Refused) else 1.0
        headers["Retry-After"] = str(max(1, math.ceil(after)))
    # An operator's command that cannot be carried out now is a conflict, not a fault of the daemon's.
    status = 409 if isinstance(error, OperatorError) and error.status == 500 else error.status
    known = error.code in CONTRACT_CODES and status == error.status
    return Problem(
        status,
        error.code if known else code_for(status),
        error.message,
        error.next_step,
        error.details if isinstance(error, PluginRejected) else None,
        headers,
        close=status in (408, 413),
        checks=error.checks if isinstance(error, GateClosed) else (),
    )


def _of_http(error: web.HTTPException) -> Problem:
    allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
    message = _HTTP_MESSAGES.get(error.status, error.reason)
    return Problem(error.status, code_for(error.status), message, headers=allow, close=error.status in (408, 413))
