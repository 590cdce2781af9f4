"""`docs/configuration.md`, made of the settings: `python -m cutover.settings_page > docs/configuration.md`.

Names, types, defaults, bounds and examples come from `settings.py`, words from `setting_words.py`, and what a wrong
value leads to from trying one. A test makes the page again and compares.
"""

import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cutover.domain.duration import spoken
from cutover.domain.errors import BadSetting
from cutover.setting_words import OTHERS, SECTIONS, Words
from cutover.settings import Seconds, Settings, Size, load
from cutover.tenant_settings import DATABASE_URL_EXAMPLE, PLUGIN_URL_EXAMPLE

_WORDS = {name: words for each in SECTIONS.values() for name, words in each.items()}
REQUIRED = {"DATABASE_URL": DATABASE_URL_EXAMPLE, "MEMORY_PLUGIN_URL": PLUGIN_URL_EXAMPLE}
_NOWHERE = Path("/nonexistent")
_HEAD = """# Configuration

Every setting of the daemon and the command line. This page is made from the code
(`python -m cutover.settings_page > docs/configuration.md`), and a test compares it.

A setting comes from the environment, else from `.env` in the directory where the program is started, else from the
TOML file that `CUTOVER_CONFIG` names. Empty means not set. Only `DATABASE_URL` and `MEMORY_PLUGIN_URL` must be set.

**A wrong value stops the start** with exit code 2 and one line that names the variable, what is wrong and an example
([each line](#what-a-wrong-value-says)); nothing has been touched by then. A variable that begins with `CUTOVER_` and is
no setting is a warning, with the name that was probably meant. `cutover serve --check` prints what is in force, without
secrets; `cutover doctor` looks at it together with the world around it.

**Durations** are seconds, or have a unit: `1500ms`, `30s`, `5m`, `24h`. **Sizes** are bytes, or `512KiB`, `4MiB`.
**Secrets** (🔑) may be references instead: `file:/run/secrets/name` or `env:NAME`; they are masked wherever settings
are shown. A change needs a restart. All daemons of one tenant need the same values; what differs voids certificates,
except for addresses to listen on and logging.
"""
_TENANTS = """
## Several tenants

One daemon can serve several. Each has a database, a plugin, a phase and gates of its own, and its own paths
(`/tenants/acme/…`). What is in the column "per tenant" is set here; everything else holds for all.

```toml
[[tenant]]
name = "acme"
database_url = "env:ACME_DATABASE_URL"      # or file:/run/secrets/acme; never a password in this file
plugin_url = "http://127.0.0.1:9100"
plugin_database_url = "none"                # left out: derived from database_url; none: contract only
plugin_command = "memory-plugin-postgres"   # optional: the daemon starts this tenant's plugin itself
default = true                              # optional: answers the paths without /tenants/acme
kv = "on"                                   # optional: this tenant's CUTOVER_KV
```
"""

_WRONG = """
## What a wrong value says

One example each. The line begins with the variable; the start ends there.

| a wrong value | the line goes on |
|---|---|
"""


def page() -> str:
    """The whole page as Markdown."""
    fields = {str(field.validation_alias): (name, field) for name, field in Settings.model_fields.items()}
    parts = [_HEAD]
    for title, words in SECTIONS.items():
        rows = [_row(variable, fields[variable][1], each) for variable, each in words.items()]
        parts.append(_section(title, rows))
    parts.append(_TENANTS)
    others = "\n".join(f"| `{name}` | `{example}` | {words} |" for name, (example, words) in OTHERS.items())
    parts.append(f"\n## For the command line\n\n| variable | example | what it does |\n|---|---|---|\n{others}\n")
    parts.append(_WRONG)
    for variable, (_, field) in fields.items():
        wrong, said = wrong_value(variable, field)
        if said:
            parts.append(_line((f"`{variable}={wrong}`", said.removeprefix(variable).removeprefix(":").strip())) + "\n")
    return "".join(parts)


def _section(title: str, rows: list[tuple[str, ...]]) -> str:
    per_tenant = any(row[-1] for row in rows)
    head = ("variable", "value", "default", "example", "what it does")
    columns = (*head, "per tenant") if per_tenant else head
    lines = [f"\n## {title}\n", _line(columns), "|" + "---|" * len(columns)]
    lines += [_line(row[: len(columns)]) for row in rows]
    return "\n".join(lines) + "\n"


def _line(cells: tuple[str, ...]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _row(variable: str, field: Any, words: Words) -> tuple[str, ...]:
    extra = field.json_schema_extra
    secret = isinstance(extra, dict) and bool(extra.get("secret"))
    return (
        f"`{variable}`{' 🔑' if secret else ''}",
        "; ".join(filter(None, (kind(field) if not words.unit else words.unit, _bounds(field)))),
        "required" if variable in REQUIRED else default(field),
        f"`{field.examples[0]}`",
        words.what,
        f"`{words.tenant_key}`" if words.tenant_key else "",
    )


def kind(field: Any) -> str:
    """What sort of value a setting takes; empty for a plain number or text, which must tell its unit in words."""
    annotation = _bare(field.annotation)
    described: str = _durations_and_sizes(field)
    if described:
        return described
    if typing.get_origin(annotation) is typing.Literal:
        return " or ".join(f"`{each}`" for each in typing.get_args(annotation))
    if annotation is bool:
        return "`1` or `0`"
    if annotation is Path:
        return "a path"
    variable = str(field.validation_alias)
    if variable.endswith("_URL"):
        return "a URL"
    if variable.endswith("_LISTEN"):
        return "`host:port`, `[v6]:port`, `unix:/path`, several with commas, or `off`"
    return {"CUTOVER_PLUGIN_COMMAND": "a command line", "CUTOVER_ADMIN_TOKEN": "text, 16 characters at least"}.get(
        variable, "a name" if annotation is str else ""
    )


def _durations_and_sizes(field: Any) -> str:
    """Both are numbers that a validator reads from text with a unit."""
    validators = {getattr(each, "func", None) for each in field.metadata}
    for alias, words in ((Seconds, "a duration"), (Size, "a size")):
        if typing.get_args(alias)[1].func in validators:
            return words
    return ""


def _bare(annotation: Any) -> Any:
    """The type without `| None`, and without what it is annotated with."""
    for each in typing.get_args(annotation):
        if type(None) in typing.get_args(annotation) and each is not type(None):
            return _bare(each)
    return typing.get_args(annotation)[0] if hasattr(annotation, "__metadata__") else annotation


def default(field: Any) -> str:
    """The default as an operator would write it."""
    value = field.default
    if value is None:
        return "not set"
    if kind(field) == "a duration":
        return spoken(value)
    if kind(field) == "a size":
        return f"`{value // 1024 // 1024}MiB`"
    if isinstance(value, bool):
        return "`1`" if value else "`0`"
    if isinstance(value, tuple):
        return f"`{','.join(value)}`" if value else "none"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _bounds(field: Any) -> str:
    found = {name: getattr(each, name) for each in field.metadata for name in ("gt", "ge", "lt", "le")
             if getattr(each, name, None) is not None}  # fmt: skip
    if "share" in str(_WORDS[str(field.validation_alias)].unit):
        return "above 0" if "gt" in found else ""
    write = spoken if kind(field) == "a duration" else _size if kind(field) == "a size" else str
    words = [
        f"{sign} {write(found[name])}"
        for name, sign in (("gt", "above"), ("ge", "from"), ("le", "to"))
        if name in found
    ]
    return " ".join(words)


def _size(value: int) -> str:
    return f"{value // 1024 // 1024} MiB" if value >= 1024 * 1024 else f"{value // 1024} KiB"


def wrong_value(variable: str, field: Any) -> tuple[str, str]:
    """A wrong value, and the line that the start ends with; two empty strings where every value is valid."""
    for value in _wrong_values(field):
        environ = {**REQUIRED, variable: value}
        try:
            load(environ, directory=_NOWHERE)
        except BadSetting as error:
            return value, error.message
    return "", ""


def _wrong_values(field: Any) -> Iterator[str]:
    """Some that look as if they were right come first."""
    lowest = next((value for each in field.metadata if (value := getattr(each, "ge", None))), None)
    if lowest is not None:
        yield f"{lowest / 2:g}"
    yield from ("soon", "/no/such/file", "localhost")


if __name__ == "__main__":
    sys.stdout.write(page())
