"""A short way to write JSON Schemas in which nothing is undescribed and nothing is unexpected.

A field is `"type | What it means."`; a type that ends with `?` may be null. A field's name that ends with `?` may be
missing. Types: `text`, `int`, `number`, `bool`, `time` (RFC 3339), `id` (UUID), `hash` (sha256 in hex), `phase`,
`any`, a list of one of these (`[text]`), and one of some words (`a/b/c`).
"""

from collections.abc import Mapping
from typing import Any

Schema = dict[str, Any]
Fields = Mapping[str, str | Schema]

_TYPES: Mapping[str, Schema] = {
    "text": {"type": "string"},
    "int": {"type": "integer"},
    "number": {"type": "number"},
    "bool": {"type": "boolean"},
    "time": {"type": "string", "format": "date-time"},
    "id": {"type": "string", "format": "uuid"},
    "hash": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
    "phase": {"enum": ["A0", "A1", "A2", "A3", "A4"]},
    "any": {},
}


def field(told: str | Schema) -> Schema:
    """The schema of one field."""
    if not isinstance(told, str):
        return told
    kind, found, meaning = told.partition(" | ")
    if not found or not meaning.endswith("."):
        raise ValueError(f"a field is written `type | What it means.`, not {told!r}")
    return {**_nullable(kind), "description": meaning}


def _nullable(kind: str) -> Schema:
    if kind.endswith("?"):
        return {"anyOf": [_plain(kind[:-1]), {"type": "null"}]}
    return dict(_plain(kind))


def _plain(kind: str) -> Schema:
    if kind.startswith("["):
        return {"type": "array", "items": _plain(kind[1:-1])}
    return dict(_TYPES[kind]) if kind in _TYPES else {"enum": kind.split("/")}


def shape(meaning: str, fields: Fields) -> Schema:
    """An object with exactly these fields."""
    return {
        "type": "object",
        "description": meaning,
        "properties": {name.rstrip("?"): field(told) for name, told in fields.items()},
        "required": [name for name in fields if not name.endswith("?")],
        "additionalProperties": False,
    }


def several(meaning: str, each: Schema) -> Schema:
    """A list of `each`."""
    return {"type": "array", "description": meaning, "items": each}


def counts(meaning: str, names: str = "") -> Schema:
    """Whole numbers by name; `names`: a pattern that the names have."""
    told: Schema = {"type": "object", "description": meaning, "additionalProperties": {"type": "integer"}}
    return {**told, "propertyNames": {"pattern": names}} if names else told


def maybe(schema: Schema, meaning: str = "") -> Schema:
    """The same or null."""
    return {"description": meaning or schema["description"], "anyOf": [schema, {"type": "null"}]}


def either(meaning: str, *schemas: Schema) -> Schema:
    """One of several forms."""
    return {"description": meaning, "anyOf": list(schemas)}
