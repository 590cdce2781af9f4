"""The configuration page is made from the settings, and every setting has words and a unit."""

import re
from pathlib import Path

import pytest

from cutover.domain.errors import BadSetting
from cutover.setting_words import SECTIONS
from cutover.settings import _OTHER_VARIABLES, Settings, load
from cutover.settings_page import REQUIRED, kind, page, wrong_value
from cutover.tenant_settings import _KEYS

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"
FIELDS = {str(field.validation_alias): field for field in Settings.model_fields.values()}
WORDS = {name: words for each in SECTIONS.values() for name, words in each.items()}
ANY_VALUE_IS_VALID = {"CUTOVER_PLUGIN_COMMAND", "CUTOVER_KNOWN_WRITERS", "CUTOVER_ARCHIVE_DIRECTORY"}


def test_the_page_is_the_one_that_the_settings_make() -> None:
    assert PAGE.read_text() == page(), "python -m cutover.settings_page > docs/configuration.md"


def test_every_setting_is_described_and_nothing_else() -> None:
    assert set(WORDS) == set(FIELDS)


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_a_setting_says_what_it_does_in_which_unit(name: str) -> None:
    words = WORDS[name]
    assert words.what.endswith((".", ").")), "a sentence"
    assert len(words.what.split()) >= 5
    assert bool(words.unit) != bool(kind(FIELDS[name])), "a unit of its own, or a kind that tells it"


def test_every_page_row_has_an_example_and_a_default() -> None:
    rows = re.findall(
        r"^\| `([A-Z_]+)`(?: 🔑)? \| ([^|]+) \| ([^|]+) \| (`[^`]+`) \| [^|]{20,} \|", page(), re.MULTILINE
    )
    assert [row[0] for row in rows] == list(WORDS)
    assert [row[0] for row in rows if row[2] == "required"] == list(REQUIRED)


@pytest.mark.parametrize("name", sorted(set(FIELDS) - ANY_VALUE_IS_VALID))
def test_the_line_that_a_wrong_value_leads_to_is_the_one_on_the_page(name: str, tmp_path: Path) -> None:
    value, said = wrong_value(name, FIELDS[name])
    with pytest.raises(BadSetting) as caught:
        load({**REQUIRED, name: value}, directory=tmp_path)
    assert caught.value.message == said
    assert f"| `{name}={value}` |" in page()


def test_what_is_per_tenant_is_what_the_tenants_file_takes() -> None:
    assert {words.tenant_key for words in WORDS.values() if words.tenant_key} | {"default"} == _KEYS


def test_what_the_command_line_reads_is_on_the_page() -> None:
    for name in _OTHER_VARIABLES - {"CUTOVER_TEST_PLUGIN_URL"}:
        assert f"| `{name}` |" in page()
