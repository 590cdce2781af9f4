"""Every setting, validated once at start (architecture §2, §9; quality §4).

A variable comes from the environment, else from `.env`, else from the TOML file that `CUTOVER_CONFIG` names (same
names, in either case). A wrong value stops the start with one line: the variable, what is wrong, an example. The
value itself is shown only where it cannot be a secret. Components never see this object: the daemon hands each the
values it uses.
"""

import difflib
import hashlib
import json
import os
import re
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import BeforeValidator, Field, PrivateAttr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from cutover.domain.errors import BadSetting
from cutover.http.listen import parse_hosts, parse_listen
from cutover.tenant_settings import (
    DATABASE_URL_EXAMPLE,
    PLUGIN_URL_EXAMPLE,
    TenantSettings,
    check_database_url,
    check_http_url,
    check_plugin_database_url,
    check_plugin_url,
    check_tenant_name,
    is_loopback,
    masked_url,
    names_private_place,
    read_secret,
    read_tenants_file,
    read_toml,
)

_DURATION = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h)?")
_UNIT_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, None: 1.0}
_MIN_TOKEN = 16
_PERSON = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,62}")
_SHA256 = re.compile(r"[0-9A-Fa-f]{64}")

# Read by the command line, the tests and the benchmarks, not by the daemon.
_OTHER_VARIABLES = frozenset({"CUTOVER_CONFIG", "CUTOVER_OPS_URL", "CUTOVER_TEST_PLUGIN_URL"})
# What a certificate is not bound to.
_EACH_ITS_OWN = frozenset(
    {
        "CUTOVER_PLUGIN_LISTEN",
        "CUTOVER_MEMORIES_LISTEN",
        "CUTOVER_OPS_LISTEN",
        "CUTOVER_OPS_HOSTS",
        "CUTOVER_LOG_LEVEL",
        "CUTOVER_LOG_FORMAT",
    }
)
# What an orchestrator injects for a service that is called `cutover`; a warning about it would be noise.
_SERVICE_LINK = re.compile(r"CUTOVER(_[A-Z0-9]+)*_(SERVICE_(HOST|PORT.*)|PORT(_.*)?)")


def _seconds(value: object) -> object:
    """Seconds from `2`, `2s`, `1500ms`, `5m`, `1h`."""
    if not isinstance(value, str):
        return value
    found = _DURATION.fullmatch(value.strip())
    if found is None:
        raise ValueError("is not a duration (a number of seconds, or with ms, s, m, h)")
    return float(found[1]) * _UNIT_SECONDS[found[2]]


def _bytes(value: object) -> object:
    """Bytes from `1048576`, `512KiB`, `4MiB`."""
    if not isinstance(value, str):
        return value
    found = re.fullmatch(r"([0-9]+)\s*(KiB|MiB)?", value.strip())
    if found is None:
        raise ValueError("is not a size (bytes, or with KiB, MiB)")
    return int(found[1]) * {"KiB": 1024, "MiB": 1024 * 1024, None: 1}[found[2]]


def _listener(value: object) -> object:
    """`host:port`, `[v6]:port`, `unix:/path`, several with commas, or `off`; port 0 lets the system choose."""
    text = str(value).strip()
    try:
        parse_listen(text)
    except ValueError:
        raise ValueError("is not host:port, [v6]:port, unix:/path (absolute, 107 bytes at most) or off") from None
    return text


def _command(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        words = tuple(shlex.split(value))
    except ValueError:
        raise ValueError("has a quote that is not closed") from None
    if not words:
        raise ValueError("is empty")
    return words


def _token(value: object) -> object:
    if isinstance(value, str) and len(value) < _MIN_TOKEN:
        raise ValueError(f"is shorter than {_MIN_TOKEN} characters, so it can be guessed")
    return value


def _names(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(name for name in (part.strip() for part in value.split(",")) if name)


def _directory_exists(value: object) -> object:
    if isinstance(value, str) and not Path(value).parent.is_dir():
        raise ValueError("names a file in a directory that does not exist")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(allow_inf_nan=False)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Size = Annotated[int, BeforeValidator(_bytes)]
Listener = Annotated[str, BeforeValidator(_listener)]


def _variable(name: str, default: Any = ..., *, example: str, secret: bool = False, **bounds: Any) -> Any:
    """One setting: its variable, default, an example for its error line, and whether its value may be shown."""
    return Field(default, validation_alias=name, examples=[example], json_schema_extra={"secret": secret}, **bounds)


class Settings(BaseSettings):
    """All settings of the daemon. Durations are seconds, sizes bytes, ratios 0..1."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=False)

    # -- tenants (architecture §9)
    database_url: Annotated[str, BeforeValidator(check_database_url)] | None = _variable(
        "DATABASE_URL", None, example=DATABASE_URL_EXAMPLE, secret=True
    )
    plugin_url: Annotated[str, BeforeValidator(check_plugin_url)] | None = _variable(
        "MEMORY_PLUGIN_URL", None, example=PLUGIN_URL_EXAMPLE, secret=True
    )
    plugin_database_url: Annotated[str, BeforeValidator(check_plugin_database_url)] | None = _variable(
        "MEMORY_PLUGIN_DATABASE_URL", None, example="none", secret=True
    )
    tenant: Annotated[str, BeforeValidator(check_tenant_name)] = _variable("CUTOVER_TENANT", "default", example="acme")
    tenants_file: Path | None = _variable("CUTOVER_TENANTS_FILE", None, example="/etc/cutover/tenants.toml")

    # -- faces
    plugin_listen: Listener = _variable("CUTOVER_PLUGIN_LISTEN", "127.0.0.1:9200", example="127.0.0.1:9200")
    memories_listen: Listener = _variable("CUTOVER_MEMORIES_LISTEN", "127.0.0.1:9201", example="127.0.0.1:9201")
    ops_listen: Listener = _variable("CUTOVER_OPS_LISTEN", "127.0.0.1:9202", example="unix:/run/cutover/ops.sock")
    ops_hosts: Annotated[tuple[str, ...], BeforeValidator(parse_hosts)] = _variable(
        "CUTOVER_OPS_HOSTS", (), example="cutover.example.com,.svc.cluster.local"
    )
    memories_auth: Literal["tokens", "trusted-network"] = _variable("CUTOVER_MEMORIES_AUTH", "tokens", example="tokens")
    upstream_url: Annotated[str, BeforeValidator(check_http_url)] | None = _variable(
        "CUTOVER_UPSTREAM_URL", None, example="http://127.0.0.1:8080", secret=True
    )
    admin_token: Annotated[str, BeforeValidator(_token)] | None = _variable(
        "CUTOVER_ADMIN_TOKEN", None, example="file:/run/secrets/cutover-admin-token", secret=True
    )
    admin_tokens_file: Path | None = _variable("CUTOVER_ADMIN_TOKENS_FILE", None, example="/etc/cutover/tokens.toml")
    body_limit: Size = _variable("CUTOVER_BODY_LIMIT", 4 * 1024 * 1024, example="4MiB", ge=1024, le=64 * 1024 * 1024)
    header_deadline: Seconds = _variable("CUTOVER_HEADER_DEADLINE", 5.0, example="5s", gt=0, le=120)
    body_deadline: Seconds = _variable("CUTOVER_BODY_DEADLINE", 10.0, example="10s", gt=0, le=600)
    idle_deadline: Seconds = _variable("CUTOVER_IDLE_DEADLINE", 120.0, example="2m", ge=1, le=3600)
    """How long a connection may be kept without a request."""
    answer_deadline: Seconds = _variable("CUTOVER_ANSWER_DEADLINE", 1.8, example="1.8s", gt=0, le=60)
    """The plugin face answers within this: its caller gives up at 2 s (domain §2)."""

    # -- the plugin
    plugin_timeout: Seconds = _variable("MEMORY_PLUGIN_TIMEOUT", 2.0, example="2s", gt=0, le=60)
    plugin_command: Annotated[tuple[str, ...], BeforeValidator(_command)] | None = _variable(
        "CUTOVER_PLUGIN_COMMAND", None, example="memory-plugin-postgres", secret=True
    )
    plugin_disable: bool = _variable("MEMORY_PLUGIN_DISABLE", False, example="1")
    """Starts no child even where a command is given."""
    boot_gate: Seconds = _variable("CUTOVER_BOOT_GATE_SECONDS", 30.0, example="30", gt=0, le=600)
    probe_interval: Seconds = _variable("CUTOVER_PROBE_INTERVAL", 0.5, example="500ms", ge=0.05, le=60)
    probe_timeout: Seconds = _variable("CUTOVER_PROBE_TIMEOUT", 1.0, example="1s", gt=0, le=30)
    probe_failures: int = _variable("CUTOVER_PROBE_FAILURES", 2, example="2", ge=1, le=100)
    """Consecutive failed probes that make the plugin count as down."""
    probe_successes: int = _variable("CUTOVER_PROBE_SUCCESSES", 2, example="2", ge=1, le=100)
    """Consecutive good probes that make it count as up again."""
    breaker_failures: int = _variable("CUTOVER_BREAKER_FAILURES", 5, example="5", ge=1, le=1000)
    breaker_ratio: Number = _variable("CUTOVER_BREAKER_RATIO", 0.5, example="0.5", gt=0, le=1)
    breaker_window: Seconds = _variable("CUTOVER_BREAKER_WINDOW", 10.0, example="10s", gt=0, le=600)
    breaker_open: Seconds = _variable("CUTOVER_BREAKER_OPEN", 1.0, example="1s", gt=0, le=600)
    """The longest pause of an open breaker before it sends a canary."""

    # -- writes (architecture §3)
    refuse: Literal["all", "writes"] = _variable("CUTOVER_REFUSE", "all", example="all")
    quarantine_seconds: Seconds = _variable("CUTOVER_QUARANTINE_SECONDS", 10.0, example="10", ge=0.1, le=600)
    """T_z: how long after an ambiguous answer nothing is sent for that memory."""
    delivery_deadline: Seconds = _variable("CUTOVER_DELIVERY_DEADLINE", 1.2, example="1.2s", gt=0, le=30)
    max_backlog_marks: int = _variable("CUTOVER_MAX_BACKLOG_MARKS", 10_000, example="10000", ge=1)
    max_in_flight: int = _variable("CUTOVER_MAX_IN_FLIGHT", 256, example="256", ge=1, le=4096)
    reconciler_concurrency: int = _variable("CUTOVER_RECONCILER_CONCURRENCY", 16, example="16", ge=1, le=256)
    phase_lease: Seconds = _variable("CUTOVER_PHASE_LEASE", 5.0, example="5s", ge=0.5, le=60)
    """A daemon that has not confirmed the phase for this long refuses writes (architecture §6)."""
    pool_size: int = _variable("CUTOVER_POOL_SIZE", 10, example="10", ge=4, le=200)
    known_writers: Annotated[tuple[str, ...], BeforeValidator(_names)] = _variable(
        "CUTOVER_KNOWN_WRITERS", ("workspace-server", "psql"), example="workspace-server,psql"
    )
    """Application names that `cutover_bypass_writes_total` tells apart; all others count as `other`."""

    # -- reads, sweeps, backfill
    shadow_read_ratio: Number = _variable("CUTOVER_SHADOW_READ_RATIO", 0.05, example="0.05", ge=0, le=1)
    sweep_interval: Seconds = _variable("CUTOVER_SWEEP_INTERVAL", 60.0, example="60s", ge=1, le=86_400)
    digest_interval: Seconds = _variable("CUTOVER_DIGEST_INTERVAL", 600.0, example="10m", ge=1, le=86_400)
    """Between incremental digest sweeps."""
    digest_full_interval: Seconds = _variable("CUTOVER_DIGEST_FULL_INTERVAL", 86_400.0, example="24h", ge=1, le=604_800)
    sweep_chunk_seconds: Seconds = _variable("CUTOVER_SWEEP_CHUNK_SECONDS", 0.25, example="250ms", ge=0.01, le=10)
    """What one statement of a sweep should take; its size follows from that."""
    sweep_load: Number = _variable("CUTOVER_SWEEP_LOAD", 0.5, example="0.5", ge=0.01, le=1)
    """Of the time of a scheduled sweep, the share that may be spent in the databases; it rests in the other."""
    sweep_max_active: int = _variable("CUTOVER_SWEEP_MAX_ACTIVE", 16, example="16", ge=1, le=10_000)
    """With more sessions of others at work in the database a sweep waits."""
    recall_interval: Seconds = _variable("CUTOVER_RECALL_INTERVAL", 900.0, example="15m", ge=0, le=86_400)
    """0: on demand only."""
    backfill_via: Literal["auto", "contract", "database"] = _variable("CUTOVER_BACKFILL_VIA", "auto", example="auto")
    """How rows are copied: by SQL where the plugin's tables allow it (auto), or always one of the two ways."""
    backfill_chunk_seconds: Seconds = _variable(
        "CUTOVER_BACKFILL_CHUNK_SECONDS", 0.15, example="150ms", ge=0.01, le=0.5
    )
    """What one chunk of `database` should take at most: a live edit of one of its rows waits for so long."""
    backfill_chunk: int = _variable("CUTOVER_BACKFILL_CHUNK", 500, example="500", ge=1, le=10_000)
    backfill_rate: Number = _variable("CUTOVER_BACKFILL_RATE", 0.0, example="1000", ge=0)
    """Rows per second; 0 leaves the pace to the throttle."""
    backfill_queue: int = _variable("CUTOVER_BACKFILL_QUEUE", 2000, example="2000", ge=1)
    """The backfill's marks that may wait for delivery before it makes more."""
    backfill_pause_file: Annotated[Path, BeforeValidator(_directory_exists)] | None = _variable(
        "CUTOVER_BACKFILL_PAUSE_FILE", None, example="/run/cutover/backfill.pause"
    )

    # -- K/V (decision 0014)
    kv: Literal["on", "off"] = _variable("CUTOVER_KV", "off", example="on")
    """Whether rows of workspace_memory become plugin memories too. With several daemons, the last to start decides."""

    # -- gates (architecture §6): what is below its default is shown as loosened wherever the gate is
    gate_plugin_healthy: Seconds = _variable("CUTOVER_GATE_PLUGIN_HEALTHY", 600.0, example="10m", ge=0, le=604_800)
    gate_shadow_clean: Seconds = _variable("CUTOVER_GATE_SHADOW_CLEAN", 86_400.0, example="24h", ge=0, le=2_592_000)
    gate_write_errors: Number = _variable("CUTOVER_GATE_WRITE_ERRORS", 0.001, example="0.001", ge=0, le=1)
    gate_recall_overlap: Number = _variable("CUTOVER_GATE_RECALL_OVERLAP", 0.999, example="0.999", ge=0, le=1)
    gate_bypass_window: Seconds = _variable("CUTOVER_GATE_BYPASS_WINDOW", 86_400.0, example="24h", ge=0, le=2_592_000)
    gate_rehearsal_age: Seconds = _variable(
        "CUTOVER_GATE_REHEARSAL_AGE", 604_800.0, example="168h", ge=1, le=31_536_000
    )
    gate_soak: Seconds = _variable("CUTOVER_GATE_SOAK", 2_592_000.0, example="720h", ge=0, le=31_536_000)
    gate_foreign_window: Seconds = _variable(
        "CUTOVER_GATE_FOREIGN_WINDOW", 604_800.0, example="168h", ge=0, le=31_536_000
    )
    certificate_validity: Seconds = _variable("CUTOVER_CERTIFICATE_VALIDITY", 3_600.0, example="1h", ge=1, le=604_800)
    drop_hold: Seconds = _variable("CUTOVER_DROP_HOLD", 86_400.0, example="24h", ge=0, le=2_592_000)
    """How long the renamed agent_memories is kept in A4 before it is dropped."""
    archive_directory: Path | None = _variable("CUTOVER_ARCHIVE_DIRECTORY", None, example="/var/lib/cutover/archives")

    # -- the process
    log_level: Literal["debug", "info", "warning", "error"] = _variable("CUTOVER_LOG_LEVEL", "info", example="info")
    log_format: Literal["auto", "json", "console"] = _variable("CUTOVER_LOG_FORMAT", "auto", example="json")
    drain_seconds: Seconds = _variable("CUTOVER_DRAIN_SECONDS", 10.0, example="10s", ge=0, le=600)

    _tenants: tuple[TenantSettings, ...] = PrivateAttr(default=())
    _admins: dict[str, bytes] = PrivateAttr(default_factory=dict)
    _warnings: tuple[str, ...] = PrivateAttr(default=())

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what `load` gathered: so a test's environment is the whole environment."""
        return (init_settings,)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        """Rules over more than one variable. The first word of each message is the variable it is about."""
        if self.memories_auth == "trusted-network" and not is_loopback(self.memories_listen):
            raise ValueError(
                "CUTOVER_MEMORIES_AUTH is trusted-network, but CUTOVER_MEMORIES_LISTEN "
                f"is {self.memories_listen}, which is neither loopback nor a unix socket"
            )
        if self.delivery_deadline >= self.answer_deadline:
            raise ValueError("CUTOVER_DELIVERY_DEADLINE must be below CUTOVER_ANSWER_DEADLINE: callers give up first")
        if self.quarantine_seconds < self.plugin_timeout:
            raise ValueError(
                "CUTOVER_QUARANTINE_SECONDS must be at least MEMORY_PLUGIN_TIMEOUT: a late request may still be applied"
            )
        if self.plugin_listen == self.memories_listen == self.ops_listen == "off":
            raise ValueError("CUTOVER_OPS_LISTEN is off, as are the other faces: nothing would listen")
        return self

    @property
    def tenants(self) -> tuple[TenantSettings, ...]:
        """All tenants; at most one is the default."""
        return self._tenants

    @property
    def admins(self) -> Mapping[str, bytes]:
        """sha256 of each bearer token by the name of who holds it; empty: control routes refuse every call."""
        return self._admins

    @property
    def warnings(self) -> tuple[str, ...]:
        """What works but should not stay so; the daemon logs each at start."""
        return self._warnings

    def redacted(self) -> dict[str, Any]:
        """Every variable and tenant for printing: passwords and tokens masked."""
        shown: dict[str, Any] = {}
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if value is None:
                continue
            secret = _is_secret(field.json_schema_extra)
            shown[str(field.validation_alias)] = _masked(value) if secret else _plain(value)
        shown["tenants"] = [tenant.redacted() for tenant in self.tenants]
        shown["admins"] = sorted(self.admins)
        return shown

    def compared(self, tenant: str) -> dict[str, str]:
        """What `config_hash(tenant)` is made of, by variable, to tell daemons' settings apart (decision 0031).

        Of a variable that may hold a secret, a fingerprint of its masked form: 12 hex digits.
        """
        told: dict[str, str] = {}
        shown = self.redacted()
        for field in type(self).model_fields.values():
            name = str(field.validation_alias)
            if name in shown and name not in _EACH_ITS_OWN:
                told[name] = _fingerprint(shown[name]) if _is_secret(field.json_schema_extra) else _told(shown[name])
        for each in self.tenants if self.tenants_file is not None else ():
            if each.name == tenant:
                told |= {f"tenant.{key}": _fingerprint(value) for key, value in each.redacted().items()}
        told["admins"] = _told(sorted(self.admins))
        return told

    def config_hash(self, tenant: str | None = None) -> str:
        """Hex sha256 over `redacted()`: certificates are bound to it; a rotated password does not change it.

        Left out is what daemons of one tenant may have each their own of: where they listen and how they log. With
        `tenant`, so are the other tenants.
        """
        shown = {name: value for name, value in self.redacted().items() if name not in _EACH_ITS_OWN}
        shown["tenants"] = [each for each in shown["tenants"] if tenant in (None, each["name"])]
        return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def load(environ: Mapping[str, str] | None = None, *, directory: Path | None = None) -> Settings:
    """Read and check all settings; raises `BadSetting` with one line for the first wrong one.

    `environ` defaults to the process's, `directory` (where `.env` is looked for) to the current one.
    """
    environ = os.environ if environ is None else environ
    variables = {str(field.validation_alias): field for field in Settings.model_fields.values()}
    given, warnings = _gather(environ, directory or Path.cwd(), variables)
    for name, field in variables.items():
        if name in given and _is_secret(field.json_schema_extra):
            given[name] = read_secret(given[name], environ, variable=name, example=_example(field))
    try:
        settings = Settings(**given)
    except ValidationError as error:
        raise _one_line(error, variables, given) from None
    settings._tenants = _tenants(settings, environ)  # noqa: SLF001 - set once, here, before anyone sees it
    settings._admins = _admins(settings, environ)  # noqa: SLF001
    settings._warnings = (*warnings, *_cautions(settings))  # noqa: SLF001
    return settings


def secret_files(environ: Mapping[str, str], *, directory: Path | None = None) -> dict[Path, str]:
    """The files that secrets are read from, each with what it holds; they need not exist. Raises `BadSetting` where
    even the names cannot be read. What a file of its own refers to with `file:` is among them."""
    secret = {str(f.validation_alias) for f in Settings.model_fields.values() if _is_secret(f.json_schema_extra)}
    known = [str(field.validation_alias) for field in Settings.model_fields.values()]
    given, _ = _gather(environ, directory or Path.cwd(), known)
    found: dict[Path, str] = {}
    dotenv = (directory or Path.cwd()) / ".env"
    for path, names in ((dotenv, dotenv_values(dotenv) if dotenv.is_file() else {}), *_config(environ)):
        if held := sorted(name for name, value in names.items() if name.upper() in secret and _literal(value)):
            found[path] = ", ".join(held)
    for name in sorted(secret & given.keys()):
        if (text := str(given[name])).startswith("file:/"):
            found[Path(text.removeprefix("file:"))] = name
    for variable in ("CUTOVER_ADMIN_TOKENS_FILE", "CUTOVER_TENANTS_FILE"):
        if listed := given.get(variable):
            if variable == "CUTOVER_ADMIN_TOKENS_FILE":
                found[Path(listed)] = f"who may change the phase ({variable})"
            for text in _strings(read_toml(str(listed), variable, "/etc/cutover/file.toml")):
                if text.strip().startswith("file:/"):
                    found[Path(text.strip().removeprefix("file:"))] = f"a secret of {variable}"
    return found


def _config(environ: Mapping[str, str]) -> list[tuple[Path, Mapping[str, Any]]]:
    path = environ.get("CUTOVER_CONFIG")
    return [(Path(path), read_toml(path, "CUTOVER_CONFIG", "/etc/cutover/cutover.toml"))] if path else []


def _literal(value: object) -> bool:
    """Whether it is given as such and would give something away: a reference does not, nor a URL without password."""
    text = str(value or "").strip()
    return bool(text) and not text.startswith(("env:", "file:")) and ("://" not in text or masked_url(text) != text)


def _strings(value: object) -> Iterable[str]:
    """Every string of a TOML value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for each in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(each)


def _gather(environ: Mapping[str, str], directory: Path, known: Iterable[str]) -> tuple[dict[str, Any], list[str]]:
    """Every variable from its first source, and warnings about names that look like ours but are not."""
    names = set(known)
    given: dict[str, Any] = {}
    if path := environ.get("CUTOVER_CONFIG"):
        for key, value in read_toml(path, "CUTOVER_CONFIG", "/etc/cutover/cutover.toml").items():
            if key.upper() not in names:
                hint = _suggest(key.upper(), names)
                raise BadSetting(f"CUTOVER_CONFIG: {path} sets {key}, which is no setting{hint}")
            given[key.upper()] = value if not isinstance(value, bool) else str(value).lower()
    dotenv = directory / ".env"
    from_file = {k: v for k, v in dotenv_values(dotenv).items() if v is not None} if dotenv.is_file() else {}
    warnings = []
    for source in (from_file, environ):
        for key, value in source.items():
            if key in names:
                if value.strip():  # an empty variable is how compose files say "not set"
                    given[key] = value.strip()
            elif key.startswith("CUTOVER_") and key not in _OTHER_VARIABLES and not _SERVICE_LINK.fullmatch(key):
                warnings.append(f"{key} is set, but it is no setting{_suggest(key, names)}")
    return given, warnings


def _suggest(name: str, names: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, sorted(names), n=1, cutoff=0.75)
    return f"; did you mean {close[0]}?" if close else ""


def _one_line(error: ValidationError, variables: Mapping[str, Any], given: Mapping[str, Any]) -> BadSetting:
    """The first problem in one line: `NAME problem; for example NAME=example`."""
    first = error.errors(include_url=False)[0]
    name = str(first["loc"][0]) if first["loc"] else ""
    problem = _problem(dict(first))
    if name not in variables:  # a rule over several variables names its own
        name, _, problem = problem.partition(" ")
    field = variables[name]
    if first["loc"] and not _is_secret(field.json_schema_extra):
        problem = f"{str(given.get(name, ''))[:60]!r} {problem}"
    return BadSetting(f"{name} {problem}; for example {name}={_example(field)}")


def _problem(error: dict[str, Any]) -> str:
    context = error.get("ctx") or {}
    kind = error["type"]
    if kind == "value_error":
        return str(context["error"])
    fixed = {
        "int_parsing": "is not a whole number",
        "int_from_float": "is not a whole number",
        "int_type": "is not a whole number",
        "float_parsing": "is not a number",
        "float_type": "is not a number",
        "bool_parsing": "is neither yes nor no",
        "bool_type": "is neither yes nor no",
        "literal_error": f"is not one of {context.get('expected')}",
        "greater_than": f"is not above {context.get('gt')}",
        "greater_than_equal": f"is below {context.get('ge')}",
        "less_than_equal": f"is above {context.get('le')}",
        "finite_number": "is not a finite number",
    }
    return fixed.get(kind, "has the wrong form")


def _tenants(settings: Settings, environ: Mapping[str, str]) -> tuple[TenantSettings, ...]:
    if settings.tenants_file is not None:
        return read_tenants_file(settings.tenants_file, environ)
    for name, value, example in (
        ("DATABASE_URL", settings.database_url, DATABASE_URL_EXAMPLE),
        ("MEMORY_PLUGIN_URL", settings.plugin_url, PLUGIN_URL_EXAMPLE),
    ):
        if value is None:
            raise BadSetting(f"{name} is not set; for example {name}={example}")
    return (
        TenantSettings(
            name=settings.tenant,
            database_url=str(settings.database_url),
            plugin_url=str(settings.plugin_url),
            plugin_database_url=settings.plugin_database_url,
            plugin_command=None if settings.plugin_disable else settings.plugin_command,
            default=True,
        ),
    )


def _admins(settings: Settings, environ: Mapping[str, str]) -> dict[str, bytes]:
    """`CUTOVER_ADMIN_TOKEN` as `admin`, and one per person from the file's table `[tokens]`."""
    digests = {} if settings.admin_token is None else {"admin": _sha256(settings.admin_token)}
    if settings.admin_tokens_file is None:
        return digests
    variable, example = "CUTOVER_ADMIN_TOKENS_FILE", f'[tokens] ada = "sha256:{"0" * 8}…" (64 hex digits)'
    table = read_toml(str(settings.admin_tokens_file), variable, "/etc/cutover/tokens.toml").get("tokens")
    if not isinstance(table, dict) or not table:
        raise BadSetting(f"{variable} has no table [tokens]; for example {example}")
    for person, given in table.items():
        if _PERSON.fullmatch(person) is None:
            raise BadSetting(
                f"{variable}: {person[:60]!r} is no name of 1 to 63 letters, digits, . _ @ -; for example {example}"
            )
        if person == "admin":
            raise BadSetting(f"{variable}: admin is the name of CUTOVER_ADMIN_TOKEN; for example {example}")
        digest = _digest(given, environ, f"{variable}: {person}", example)
        if digest in digests.values():
            raise BadSetting(f"{variable}: {person} has the same token as somebody else; for example {example}")
        digests[person] = digest
    return digests


def _digest(given: object, environ: Mapping[str, str], variable: str, example: str) -> bytes:
    """The sha256 of a token: given as such, or of the token that a reference leads to."""
    text = str(given).strip()
    written = text.removeprefix("sha256:")
    if _SHA256.fullmatch(written):
        return bytes.fromhex(written)
    if written != text:
        raise BadSetting(f"{variable} is no sha256: 64 hex digits must follow sha256:; for example {example}")
    token = read_secret(text, environ, variable=variable, example="file:/run/secrets/ada", literal=False)
    if len(token) < _MIN_TOKEN:
        raise BadSetting(f"{variable} has a token shorter than {_MIN_TOKEN} characters; for example {example}")
    return _sha256(token)


def _sha256(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _cautions(settings: Settings) -> list[str]:
    found = [
        f"tenant {tenant.name}: the plugin's address is not on a private network as far as its name tells, "
        "and the contract has no authentication: anyone who reaches it reads and writes every memory"
        for tenant in settings.tenants
        if not names_private_place(tenant.plugin_url)
    ]
    if settings.memories_auth == "trusted-network":
        found.append("CUTOVER_MEMORIES_AUTH=trusted-network: whoever reaches the memories face acts as any workspace")
    if not is_loopback(settings.plugin_listen):
        found.append(f"CUTOVER_PLUGIN_LISTEN={settings.plugin_listen}: this face has no authentication by contract")
    if settings.tenants_file is not None and settings.database_url is not None:
        found.append("DATABASE_URL is not used: CUTOVER_TENANTS_FILE lists every tenant")
    return found


def _example(field: Any) -> str:
    return str(field.examples[0])


def _is_secret(extra: object) -> bool:
    return isinstance(extra, dict) and bool(extra.get("secret"))


def _masked(value: object) -> str:
    text = str(value)
    return masked_url(text) if "://" in text and not isinstance(value, tuple) else "***"


def _told(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(str, value))
    return f"{value:g}" if isinstance(value, float) else str(value)


def _fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()[:12]


def _plain(value: object) -> object:
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


__all__ = ["Settings", "TenantSettings", "load"]
