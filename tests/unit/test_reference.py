"""docs/cli.md and docs/schemas are what the commands say (observability §5)."""

from collections.abc import Iterator
from typing import Any

import click
import pytest
from jsonschema import Draft202012Validator

from cutover.cli import main
from cutover.cli.verb import leaves
from reference.generate import ROOT, SHAPES, documents, schema_of
from reference.notation import field, shape

VERBS = leaves(main, click.Context(main, info_name="cutover"))


def test_the_command_reference_and_the_schemas_are_those_of_the_commands() -> None:
    written = documents()
    for path, text in written.items():
        assert path.is_file(), "python -m reference.generate"
        assert path.read_text() == text, f"{path.name} is old: python -m reference.generate"
    assert set((ROOT / "docs" / "schemas").iterdir()) == {path for path in written if path.suffix == ".json"}


def test_every_verb_that_prints_data_has_a_schema_and_no_other() -> None:
    assert set(SHAPES) == {" ".join(words) for words, verb in VERBS.items() if verb.prints}


def fields(schema: Any, path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Every field of a schema, with its path."""
    if isinstance(schema, dict):
        for name, told in schema.get("properties", {}).items():
            yield f"{path}.{name}", told
        for key, inner in schema.items():
            if key in ("properties", "additionalProperties", "items", "anyOf"):
                inside = inner.items() if key == "properties" else [("", inner)]
                for name, each in inside:
                    yield from fields(each, f"{path}.{name}" if name else path)
    elif isinstance(schema, list):
        for each in schema:
            yield from fields(each, path)


@pytest.mark.parametrize("words", sorted(SHAPES))
def test_every_field_of_a_schema_is_described(words: str) -> None:
    schema = schema_of(words)
    Draft202012Validator.check_schema(schema)
    assert schema["description"]
    found = list(fields(schema))
    assert found
    for path, told in found:
        assert told.get("description", "").endswith("."), f"{words}: {path}"


def test_the_walk_over_fields_misses_none() -> None:
    inner = {"anyOf": [{"type": "array", "items": shape("In.", {"b": "int | B."})}, {"type": "null"}]}
    assert [path for path, _ in fields(shape("Out.", {"a": inner}))] == [".a", ".a.b"]


def test_a_field_that_is_not_in_the_schema_is_refused() -> None:
    schema = Draft202012Validator(shape("One.", {"a": "int? | A.", "b?": "[text] | B."}))
    assert schema.is_valid({"a": None})
    assert schema.is_valid({"a": 1, "b": ["x"]})
    assert not schema.is_valid({"a": 1, "c": 1})
    assert not schema.is_valid({"b": []})
    with pytest.raises(ValueError, match="What it means"):
        field("int")


def test_the_command_reference_has_every_verb_and_the_exit_codes() -> None:
    page = (ROOT / "docs" / "cli.md").read_text()
    for words, verb in VERBS.items():
        assert f"# cutover {' '.join(words)}\n" in page
        assert all(example in page for example in verb.examples)
    for code in (0, 1, 2, 3, 4, 130):
        assert f"\n| {code} | " in page
