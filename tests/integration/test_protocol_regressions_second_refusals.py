"""A plugin's no that is not the contract's: it is neither "forgotten" nor a reason to give a memory up."""

from collections.abc import Callable

import pytest

from cutover.domain.phase import Phase
from cutover.domain.requests import Shadow
from cutover.embedded.fault_proxy import (
    Fault,
    Forward,
    ProxiedAnswer,
    ProxiedRequest,
    Rule,
    answer,
    on,
)
from cutover.embedded.processes import until
from tests.integration.protocol_scene import Scene, scene
from tests.integration.read_scene import CHILD

COMMITS = on("POST", r"/memories$")
FORGETS = on("DELETE", r"/v1/memories/")
FORBIDDEN = {"code": "forbidden", "message": "not from here"}


def page(status: int) -> Fault:
    """What a web server that is no plugin says."""

    async def act(request: ProxiedRequest, forward: Forward) -> ProxiedAnswer:
        del request, forward
        return ProxiedAnswer(status, (("Content-Type", "text/html"),), b"<html>no such route</html>")

    return act


async def hit(rule: Rule, times: int) -> None:
    """Wait until the rule has answered so often."""

    async def enough() -> bool:
        return rule.hits >= times

    await until(enough, f"{times} requests", timeout=15, every=0.02)


async def kept(s: Scene) -> None:
    """Nothing has been given up."""
    assert await s.count("cutover.quarantine") == 0
    assert await s.differences() == []


FAULTS: dict[str, Callable[[], Fault]] = {
    "a page of 404": lambda: page(404),
    "404 of another code": lambda: answer(404, {"code": "no_route", "message": "?"}),
    "403": lambda: answer(403, FORBIDDEN),
    "422": lambda: answer(422, {"code": "bad_request", "message": "no"}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("phase", [Phase.A1, Phase.A2])
async def test_a_refused_forget_is_tried_until_it_is_done(database: str, phase: Phase, fault: str) -> None:
    async with scene(database, phase=phase) as s:
        assert s.proxy is not None
        made = await s.create(CHILD, "to be deleted")
        await s.quiet()
        rule = s.proxy.rule(FORGETS, FAULTS[fault]())
        assert await s.delete(CHILD, made.id) is Shadow.PENDING
        await hit(rule, 3)  # the caller's own and two of the reconciler's
        assert await s.mark(made.id) is not None
        assert await s.content(made.id) == "to be deleted"
        rule.off()
        await s.quiet()
        assert await s.plugin(made.id) is None
        await kept(s)


async def test_a_commit_that_is_forbidden_is_tried_until_it_is_done(database: str) -> None:
    async with scene(database, phase=Phase.A1) as s:
        assert s.proxy is not None
        rule = s.proxy.rule(COMMITS, answer(403, FORBIDDEN))
        made = await s.create(CHILD, "let in later")
        assert made.shadow is Shadow.PENDING
        await hit(rule, 3)
        assert await s.mark(made.id) is not None
        rule.off()
        await s.quiet()
        assert await s.content(made.id) == "let in later"
        await kept(s)
