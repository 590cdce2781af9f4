"""What a tenant is made of, from `DATABASE_URL` and its like or from the tenants file (architecture §9).

```toml
[[tenant]]
name = "acme"
database_url = "env:ACME_DATABASE_URL"      # or file:/run/secrets/acme; never a password in this file
plugin_url = "http://127.0.0.1:9100"
plugin_database_url = "none"                # left out: derived from database_url; none: contract only
plugin_command = "memory-plugin-postgres"   # optional: the daemon starts this tenant's plugin itself
default = true                              # optional: answers the paths without /tenants/{name}
kv = "on"                                   # optional: this tenant's CUTOVER_KV
```
"""

import ipaddress
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from cutover.domain.errors import BadSetting
from cutover.http.listen import UnixAddress, parse_listen

DATABASE_URL_EXAMPLE = "postgres://cutover@127.0.0.1:5432/tenant"
PLUGIN_URL_EXAMPLE = "http://127.0.0.1:9100"
_FILE = "CUTOVER_TENANTS_FILE"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_KEYS = {"name", "database_url", "plugin_url", "plugin_database_url", "plugin_command", "default", "kv"}
_PRIVATE_SUFFIXES = (".localhost", ".local", ".internal", ".svc", ".cluster.local", ".lan", ".home.arpa")


@dataclass(frozen=True, slots=True)
class TenantSettings:
    """One tenant. `plugin_database_url`: None means "derive it from `database_url`", `none` contract only."""

    name: str
    database_url: str
    plugin_url: str
    plugin_database_url: str | None = None
    plugin_command: tuple[str, ...] | None = None
    default: bool = False
    kv: bool | None = None
    """None: as `CUTOVER_KV` says."""
    database_from: str = "env:DATABASE_URL"
    """Where `database_url` was read from: `env:NAME`, `file:/path`, or the URL as it stands in the tenants file."""

    def database_in_shell(self) -> str:
        """The URL of the database as a word for a shell, without the secret in it."""
        kind, _, where = self.database_from.partition(":")
        if kind == "env":
            return f'"${where}"'
        return f'"$(cat {shlex.quote(where)})"' if kind == "file" else shlex.quote(masked_url(self.database_from))

    def redacted(self) -> dict[str, Any]:
        """For printing and for the configuration's hash: no password, no command line."""
        database = self.plugin_database_url
        return {
            "name": self.name,
            "database_url": masked_url(self.database_url),
            "plugin_url": masked_url(self.plugin_url),
            "plugin_database_url": masked_url(database) if database and database != "none" else database or "derived",
            "plugin_command": None if self.plugin_command is None else Path(self.plugin_command[0]).name,
            "default": self.default,
            **({} if self.kv is None else {"kv": "on" if self.kv else "off"}),
        }

    def __repr__(self) -> str:
        """Without the password that a URL may hold: a value in a log line must not give it away."""
        return f"TenantSettings(name={self.name!r}, default={self.default})"


def check_database_url(value: object) -> object:
    """A PostgreSQL URL; the error never repeats it."""
    if isinstance(value, str):
        scheme, _, rest = value.partition("://")
        if scheme not in ("postgres", "postgresql") or not rest:
            raise ValueError("is not a PostgreSQL URL (postgres://user@host:port/database)")
        if not (urlsplit(value).path.strip("/") or _query(value).get("dbname")):
            raise ValueError("names no database")
        _check_port(value)
    return value


def check_plugin_database_url(value: object) -> object:
    """A PostgreSQL URL, or the word `none` for a plugin whose database is out of reach."""
    return value if value == "none" else check_database_url(value)


def check_http_url(value: object) -> object:
    """`http://` or `https://` with a host, and no query."""
    if isinstance(value, str):
        parts = urlsplit(value)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError("is not an http:// or https:// URL with a host")
        if parts.query or parts.fragment:
            raise ValueError("has a query or fragment, which a base address cannot have")
        _check_port(value)
    return value


def check_plugin_url(value: object) -> object:
    """As `check_http_url`, or `unix:/path`, or `http+unix://%2Fpath`."""
    if isinstance(value, str) and value.startswith("http+unix://"):
        if not urlsplit(value).netloc.lower().startswith("%2f"):
            raise ValueError("needs an absolute path, with %2F for each slash, after http+unix://")
        return value
    if isinstance(value, str) and value.startswith("unix:"):
        if not value.removeprefix("unix:").startswith("/"):
            raise ValueError("needs an absolute path after unix:")
        return value
    return check_http_url(value)


def check_tenant_name(value: object) -> object:
    """It becomes a path segment and a metric label, so it is short and plain."""
    if not isinstance(value, str) or not _NAME.fullmatch(value):
        raise ValueError("is not a name of 1 to 63 lower-case letters, digits, - or _")
    return value


def _check_port(url: str) -> None:
    try:
        _ = urlsplit(url).port
    except ValueError:
        raise ValueError("has a port that is no number up to 65535") from None


def _query(url: str) -> dict[str, str]:
    return dict(parse_qsl(urlsplit(url).query))


def masked_url(url: str) -> str:
    """The URL without user part and with its query's values of any secret-like key masked."""
    parts = urlsplit(url)
    if not parts.netloc and not parts.query:
        return url
    user, at, place = parts.netloc.rpartition("@")
    name, colon, _ = user.partition(":")
    query = re.sub(r"(?i)((?:pass|token|secret|key)[^=&]*=)[^&]*", r"\1***", parts.query)
    return urlunsplit(parts._replace(netloc=f"{name}{':***' if colon else ''}{at}{place}", query=query))


def is_loopback(listen: str) -> bool:
    """Whether only this machine reaches every address of a listener: sockets, loopback addresses, `off`."""
    return all(isinstance(address, UnixAddress) or _is_loopback_host(address.host) for address in parse_listen(listen))


def _is_loopback_host(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def names_private_place(url: str) -> bool:
    """Whether a plugin's address is private as far as can be told without asking a name server.

    Unix sockets, loopback and private addresses, single-label names (a compose or cluster service) and the
    suffixes that are never public.
    """
    if url.startswith(("unix:", "http+unix:")):
        return True
    host = (urlsplit(url).hostname or "").rstrip(".")
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return "." not in host or host.endswith(_PRIVATE_SUFFIXES)
    return address.is_private or address.is_loopback or address.is_link_local


def read_toml(path: str, variable: str, example: str) -> dict[str, Any]:
    """A TOML file; raises `BadSetting` that names the variable and, for bad TOML, the line."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        why = error.strerror or "no file"
        raise BadSetting(f"{variable}: {path} cannot be read ({why}); for example {variable}={example}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        where = re.search(r"\(at .*\)", str(error))
        raise BadSetting(
            f"{variable}: {path} is not TOML {where[0] if where else ''}; for example {variable}={example}"
        ) from None


def read_secret(value: object, environ: Mapping[str, str], *, variable: str, example: str, literal: bool = True) -> str:
    """The secret behind `env:NAME` or `file:/path`; a plain value only where `literal` allows it."""
    text = str(value)
    kind, _, where = text.partition(":")
    if kind == "env":
        found = environ.get(where, "").strip()
        if not found:
            raise BadSetting(f"{variable} refers to env:{where}, which is not set; for example {variable}={example}")
        return found
    if kind == "file" and where.startswith("/"):
        try:
            found = Path(where).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = (error.strerror if isinstance(error, OSError) else "it is not UTF-8") or type(error).__name__
            raise BadSetting(
                f"{variable} refers to file:{where}, which cannot be read ({why}); for example {variable}={example}"
            ) from None
        if not found:
            raise BadSetting(f"{variable} refers to file:{where}, which is empty; for example {variable}={example}")
        return found
    if not literal:
        raise BadSetting(f"{variable} holds a secret in plain text; for example {example}")
    return text


def read_tenants_file(path: Path, environ: Mapping[str, str]) -> tuple[TenantSettings, ...]:
    """Every tenant of the file, in its order; raises `BadSetting` naming the tenant and the key."""
    entries = read_toml(str(path), _FILE, "/etc/cutover/tenants.toml").get("tenant")
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise BadSetting(f'{_FILE}: {path} lists no tenant; for example [[tenant]] name = "acme"')
    tenants = tuple(_tenant(entry, number, environ) for number, entry in enumerate(entries, 1))
    names = [tenant.name for tenant in tenants]
    for name in names:
        if names.count(name) > 1:
            raise BadSetting(f'{_FILE}: the name {name!r} is there twice; for example name = "{name}-2"')
    if sum(tenant.default for tenant in tenants) > 1:
        raise BadSetting(f"{_FILE}: more than one tenant has default = true; one may answer the short paths")
    seen: dict[str, str] = {}
    for tenant in tenants:
        other = seen.setdefault(tenant.database_url, tenant.name)
        if other != tenant.name:
            raise BadSetting(f"{_FILE}: {other} and {tenant.name} have the same database_url; a tenant is a database")
    return tenants


def _tenant(entry: Mapping[str, Any], number: int, environ: Mapping[str, str]) -> TenantSettings:
    label = f"{_FILE}: tenant {entry.get('name') or number}"
    if unknown := sorted(set(entry) - _KEYS):
        raise BadSetting(f"{label} sets {unknown[0]}, which is no key; the keys are {', '.join(sorted(_KEYS))}")

    def checked(key: str, check: Callable[[object], object], example: str) -> str | None:
        if key not in entry:
            return None
        try:
            value = read_secret(entry[key], environ, variable=f"{label}: {key}", example=example)
            if value == entry[key] and urlsplit(value).password is not None:
                raise ValueError("holds a password in plain text")
            return str(check(value))
        except ValueError as error:
            raise BadSetting(f'{label}: {key} {error}; for example {key} = "{example}"') from None

    def required(key: str, check: Callable[[object], object], example: str) -> str:
        value = checked(key, check, example)
        if value is None:
            raise BadSetting(f'{label}: {key} is not set; for example {key} = "{example}"')
        return value

    default = entry.get("default", False)
    if not isinstance(default, bool):
        raise BadSetting(f"{label}: default is neither true nor false; for example default = true")
    kv = entry.get("kv")
    if kv not in (None, "on", "off"):
        raise BadSetting(f'{label}: kv is neither "on" nor "off"; for example kv = "on"')
    command = entry.get("plugin_command")
    return TenantSettings(
        name=required("name", check_tenant_name, "acme"),
        database_url=required("database_url", check_database_url, "env:ACME_DATABASE_URL"),
        plugin_url=required("plugin_url", check_plugin_url, PLUGIN_URL_EXAMPLE),
        plugin_database_url=checked("plugin_database_url", check_plugin_database_url, "none"),
        plugin_command=None if command is None else tuple(shlex.split(str(command))),
        default=default,
        kv=None if kv is None else kv == "on",
        database_from=str(entry["database_url"]),
    )
