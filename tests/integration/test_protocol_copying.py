"""The machine of `test_protocol_stateful` on a walk through A2: backfills of both deliveries between and beside every
kind of write, over and over from the first row, with lost and late answers. A walk, because what is wanted in A2 is
known, and a free search seldom stays there."""

import random
from collections import Counter
from collections.abc import Callable

import pytest

from cutover.domain.backfill import Via
from tests.conftest import DatabaseTemplates
from tests.integration.test_protocol_stateful import FAULTS, MOVES, PLACES, Protocol, Stack

STEPS = 60


def steps(machine: Protocol, chooser: random.Random) -> list[tuple[int, Callable[[], object]]]:
    """What may happen, and how often."""

    def yes() -> bool:
        return chooser.random() < 0.5

    def index() -> int:
        return chooser.randrange(100)

    def via() -> Via:
        return chooser.choice([Via.CONTRACT, Via.DATABASE])

    return [
        (4, lambda: machine.create(chooser.choice(PLACES), "facts", yes())),
        (2, lambda: machine.edit(index(), None)),
        (1, lambda: machine.delete(index())),
        (2, lambda: machine.insert_by_sql(chooser.choice(PLACES))),
        (1, lambda: machine.update_by_sql(index())),
        (1, lambda: machine.delete_by_sql(index())),
        (2, lambda: machine.sql_beside_a_delivery(index(), yes(), yes())),
        (1, lambda: machine.commit_native("custom:notes")),
        (2, lambda: machine.commit_over(index(), yes())),
        (2, lambda: machine.reparent(chooser.choice(MOVES))),
        (3, lambda: machine.misbehave([chooser.choice(sorted(FAULTS))])),
        (4, lambda: machine.backfill(via(), yes())),
        (6, lambda: machine.write_beside_a_backfill(via(), index(), yes(), chooser.random() < 0.3)),
        (2, machine.rest),
    ]


@pytest.mark.parametrize("seed", [11, 12, 13])
def test_copies_of_both_kinds_between_and_beside_writes(database_templates: DatabaseTemplates, seed: int) -> None:
    Protocol.stack, Protocol.templates, Protocol.reached = Stack(), database_templates, Counter()
    try:
        chooser, machine = random.Random(seed), Protocol()
        machine.open(1)
        try:
            for place in PLACES * 3:  # in A1 already: the first backfill finds rows with and without marks
                machine.create(place, "general", False)
            machine.forward()
            weights, actions = zip(*steps(machine, chooser), strict=True)
            for action in chooser.choices(actions, weights, k=STEPS):
                action()
                machine.one_request_per_memory()
        finally:
            machine.teardown()
    finally:
        Protocol.stack.close()
    for via in ("contract", "database"):
        assert Protocol.reached[f"backfill by {via}"], Protocol.reached
        assert Protocol.reached[f"write beside {via}"], Protocol.reached
    assert Protocol.reached["checked in A2"], Protocol.reached
