"""What is put down is bounded, because PostgreSQL looks at every string of it."""

import json

from cutover.stores.runs import as_outcome


def test_what_is_short_is_kept_as_it_is() -> None:
    told = {"outcome": "clean", "rows": {"legacy.plain": 3}, "shown": ["a", "b"], "none": None}
    assert json.loads(as_outcome(told)) == told


def test_of_what_is_long_the_beginning_is_kept_and_the_rest_counted() -> None:
    many = [{"id": str(n), "why": "some words here"} for n in range(40_000)]
    kept = json.loads(as_outcome({"outcome": "divergent", "findings": many, "rows": {str(n): n for n in range(9000)}}))
    assert kept["outcome"] == "divergent"
    assert kept["findings"][:-1] == many[: len(kept["findings"]) - 1]
    assert kept["findings"][-1] == f"{40_000 - len(kept['findings']) + 1} more were left out"
    assert kept["rows"]["left_out"] == 9000 - len(kept["rows"]) + 1
    assert 100 < len(kept["findings"]) < 2500
