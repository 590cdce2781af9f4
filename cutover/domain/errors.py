"""The one error tree. Every error says what happened, why, and what to do next.

CutoverError
├── InvalidRequest            the caller's input is wrong                      400
│   ├── NotHeldByLegacy       legacy has no place for it in A0                 400
│   ├── Unauthenticated       no or wrong token                                401
│   ├── Forbidden             not allowed for this workspace                   403
│   ├── NotFound              no such memory, namespace, workspace, tenant     404
│   ├── Conflict              id of another workspace, or request still runs   409
│   └── KeyReused             an Idempotency-Key came back with another body   422
├── Refused                   we could, but must not, serve this now           503
├── StoreError
│   ├── DatabaseUnavailable   PostgreSQL cannot be reached or was cut off      503
│   │   └── StatementTimeout  a statement took longer than it may         503
│   ├── DatabaseFault         PostgreSQL answered with an error of ours        500
│   ├── StaleEpoch            the phase changed while the request was on its way
│   ├── LockTimeout           a lock was not to be had in time                 503
│   └── PluginError
│       ├── PluginUnreachable the request never left: definite                 503
│       ├── PluginTimeout     no answer in time: the outcome is unknown        503
│       ├── PluginRejected    4xx: this request will never be taken            4xx
│       ├── PluginFault       5xx: an answer, so definite; may be retried      503
│       └── PluginMisspoke    an answer that breaks the contract               503
└── OperatorError             a command or a setting is wrong                  exit 1/2
    ├── BadSetting            one variable, its problem, an example            exit 2
    ├── IllegalStep           a phase change that is not allowed               exit 3
    │   ├── GateClosed        the checks that fail, each with its remedy       exit 3
    │   └── CertificateVoid   no good certificate for the step, and why        exit 3
    └── BootRefused           the plugin was not healthy in time               exit 4

The face that an error leaves through chooses its shape (`{"error"}`, `{"code","message"}`, JSON-RPC); `status` and
`code` here are the contract's (domain §3) and v1's (domain §2).
"""

from collections.abc import Mapping


class CutoverError(Exception):
    """Base of all. `message` is safe to show: it never holds content, SQL, or a secret."""

    status: int = 500
    code: str = "internal"
    next_step: str = ""

    def __init__(self, message: str, *, next_step: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        if next_step is not None:
            self.next_step = next_step


class InvalidRequest(CutoverError):
    """The caller's input is wrong; nothing was written."""

    status = 400
    code = "bad_request"


class NotHeldByLegacy(InvalidRequest):
    """In A0 there is only legacy, and it has no place for this (architecture §2)."""


class Unauthenticated(InvalidRequest):
    """`missing workspace auth token` or `invalid workspace auth token` (domain §2)."""

    status = 401
    code = "forbidden"


class Forbidden(InvalidRequest):
    """The workspace may not do this."""

    status = 403
    code = "forbidden"


class NotFound(InvalidRequest):
    """No such memory, namespace, workspace or tenant, as far as this caller may know."""

    status = 404
    code = "not_found"


class Conflict(InvalidRequest):
    """The id belongs to another workspace, or the same idempotent request is still running."""

    status = 409
    code = "bad_request"


class KeyReused(InvalidRequest):
    """An `Idempotency-Key` came back with another body."""

    status = 422
    code = "bad_request"


class Refused(CutoverError):
    """Memory traffic is refused; nothing was written to either store.

    `reason` is one of the bounded words that the metric `cutover_refused_total` counts:
    plugin_unhealthy, breaker_open, backlog, overload, phase_unconfirmed, draining, database, held, namespace_closed,
    busy, unresolved.
    """

    status = 503
    code = "unavailable"

    def __init__(self, reason: str, message: str, *, retry_after: float = 1.0, next_step: str | None = None) -> None:
        super().__init__(message, next_step=next_step)
        self.reason = reason
        self.retry_after = retry_after
        """Seconds, for the `Retry-After` header."""


class StoreError(CutoverError):
    """A store could not do what it was asked."""


class DatabaseUnavailable(StoreError):
    """PostgreSQL cannot be reached, or the connection was cut while a statement ran (outcome unknown)."""

    status = 503
    code = "unavailable"


class StatementTimeout(DatabaseUnavailable):
    """PostgreSQL cut a statement off because it took longer than `statement_timeout` allows; it did nothing."""


class DatabaseFault(StoreError):
    """PostgreSQL refused a statement for a reason no caller can mend. `sqlstate` says which."""

    def __init__(self, message: str, *, sqlstate: str = "", next_step: str | None = None) -> None:
        super().__init__(message, next_step=next_step)
        self.sqlstate = sqlstate


class StaleEpoch(StoreError):
    """The write was fenced: the tenant's phase changed. Reload the phase and try once more."""

    status = 503
    code = "unavailable"


class LockTimeout(StoreError):
    """Somebody else holds the lock for longer than we may wait."""

    status = 503
    code = "unavailable"


class PluginError(StoreError):
    """The plugin did not do it. `ambiguous` says whether it may still do it later."""

    status = 503
    code = "unavailable"
    ambiguous: bool = False


class PluginUnreachable(PluginError):
    """The request never reached the plugin: nothing can have happened."""


class PluginTimeout(PluginError):
    """No (whole) answer came: the plugin may have applied the request, or may yet."""

    ambiguous = True


class PluginRejected(PluginError):
    """A 4xx. `http_status`, `plugin_code` and `details` are the plugin's own words."""

    def __init__(self, http_status: int, plugin_code: str, message: str, details: object = None) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.status = http_status
        self.code = plugin_code
        self.plugin_code = plugin_code
        self.details = details


class PluginFault(PluginError):
    """A 5xx: the plugin answered, so it is done with the request; another try may succeed."""

    def __init__(self, http_status: int, plugin_code: str, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.plugin_code = plugin_code
        # A gateway's time-out says nothing about what the plugin behind it still does.
        self.ambiguous = http_status in (502, 504)


class PluginMisspoke(PluginError):
    """A success status with a body that breaks the contract: what was applied is unknown."""

    ambiguous = True


class OperatorError(CutoverError):
    """A command or a setting is wrong. `exit_code` is what the CLI ends with."""

    exit_code: int = 1


class BadSetting(OperatorError):
    """One variable is wrong; the message names it, the problem, and an example."""

    exit_code = 2


class IllegalStep(OperatorError):
    """A phase change that the rules do not allow."""

    exit_code = 3
    status = 409
    code = "bad_request"


class GateClosed(IllegalStep):
    """A phase may not be entered. `checks`: those that fail, each with its id, reason and remedy."""

    def __init__(
        self, message: str, checks: tuple[Mapping[str, object], ...] = (), *, next_step: str | None = None
    ) -> None:
        super().__init__(message, next_step=next_step)
        self.checks = checks


class CertificateVoid(IllegalStep):
    """The certificate that a step needs is missing, void, or not approved."""

    next_step = "cutover phase certificates"


class BootRefused(OperatorError):
    """The plugin was not healthy within the boot gate."""

    exit_code = 4
