"""What `backfill --verify` says of a plugin that can only be asked through its contract."""

from cutover.cli.verify import _extent

TOLD = {"coverage": 0.5, "expected_rows": 4000, "bound_95": None, "not_findable": 0}


def test_how_much_was_seen() -> None:
    assert _extent(TOLD) == "50.00% of 4000 memories were looked at through the contract"


def test_what_a_sample_leaves_open() -> None:
    words = _extent({**TOLD, "bound_95": 0.00994, "not_findable": 3})
    assert "with 95 % confidence at most 0.99% of those in sampled namespaces differ" in words
    assert words.endswith("; 3 could not be looked up")
