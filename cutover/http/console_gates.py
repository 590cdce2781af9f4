"""The phases on a tenant's page: the ladder, each gate's verdict with its reasons, and the certificates."""

from collections.abc import Mapping
from typing import Any

from cutover.domain.check import Check, HealthReport, Status
from cutover.domain.commands import for_tenant
from cutover.domain.phase import Phase
from cutover.http.console_facts import Facts
from cutover.http.console_parts import ago, button, buttons, checked, mark, said, section
from cutover.http.console_words import count, lasted, seconds_until
from cutover.http.markup import NOTHING, Html, element, join


def ladder(facts: Facts) -> Html:
    """Five rungs: passed, here, next, and those beyond."""
    here = facts.state.phase if facts.state is not None else None
    rungs = [_rung(facts, phase, here) for phase in Phase]
    return element("ol", *rungs, class_="ladder", aria_label="Phases")


def _rung(facts: Facts, phase: Phase, here: Phase | None) -> Html:
    made = facts.phases.get(phase)
    verdict = made.status if made is not None else Status.FAIL
    if phase is here:
        kind, words = ("here", "here") if verdict is not Status.FAIL else ("fail", "here, a check fails")
    elif here is not None and phase.order < here.order:
        kind, words = ("pass", "passed") if verdict is not Status.FAIL else ("warn", "passed, a check fails")
    elif phase is facts.next_phase:
        kind, words = ("todo", "closed") if verdict is Status.FAIL else ("pass", "open")
    else:
        kind, words = "todo", "later"
    place = "step" if phase is here else None
    done = " done" if here is not None and phase.order < here.order else ""
    name = element("a", element("b", phase.value), " ", element("span", phase.meaning), href=f"#gate-{phase}")
    return element(
        "li",
        mark(kind),
        name,
        element("small", words),
        class_=f"rung {kind}{done}",
        aria_current=place,
        id=f"rung-{phase}",
    )


def gates(facts: Facts) -> Html:
    """Every phase's verdict: the one to enter next first and open, then where the tenant is, then the others."""
    here, coming = facts.state.phase if facts.state is not None else None, facts.next_phase
    first = [phase for phase in (coming, here) if phase is not None]
    ordered = [*first, *(phase for phase in Phase if phase not in first)]
    return section("gates", "Gates", *(_gate(facts, phase, phase is coming) for phase in ordered))


def _gate(facts: Facts, phase: Phase, coming: bool) -> Html:
    made = facts.phases.get(phase)
    state = facts.state
    here = state is not None and phase is state.phase
    entered = state is not None and phase.order <= state.phase.order
    kind = "fail" if made is None else made.status.value
    question = "invariants" if entered else "gate"
    bad = [check for check in made.checks if check.status is not Status.PASS] if made is not None else []
    failing = sum(check.status is Status.FAIL for check in bad)
    if made is None:
        verdict = "not judged"
    elif entered:
        verdict = "holds" if not failing else f"{count(failing, 'check')} broken"
    else:
        verdict = "open" if not failing else f"closed by {count(failing, 'check')}"
    title = f"{phase} {phase.meaning}"
    sign = kind if entered or coming or kind == "pass" else "todo"
    summary = element(
        "summary",
        mark(sign),
        element("span", element("b", title), f" {question}: ", element("strong", verdict, class_=f"v {sign}")),
    )
    body = [
        element("ul", *(checked(each, facts.named) for each in sorted(bad, key=_failing_first)), class_="checks")
        if bad
        else NOTHING,
        _passing(made, facts.named),
        *(
            element("p", for_tenant(note, facts.named) if facts.named else note, class_="quiet")
            for note in (made.notes if made is not None else ())
        ),
        _steps_forward(facts, phase, failing) if coming else NOTHING,
        _step_back(facts) if here else NOTHING,
    ]
    return element("details", summary, *body, id=f"gate-{phase}", class_="gate", open=coming or (here and failing > 0))


def _failing_first(check: Check) -> bool:
    return check.status is not Status.FAIL


def _passing(made: HealthReport | None, tenant: str) -> Html:
    good = [check for check in made.checks if check.status is Status.PASS] if made is not None else []
    if not good:
        return NOTHING
    words = f"{count(len(good), 'check')} {'passes' if len(good) == 1 else 'pass'}"
    listed = element("ul", *(checked(each, tenant) for each in good), class_="checks")
    return element(
        "details", element("summary", words), listed, class_="more", id=f"good-{made.target if made else ''}"
    )


def _steps_forward(facts: Facts, phase: Phase, failing: int) -> Html:
    live = [each for each in facts.certificates if each["target"] == phase and each["used_in"] is None]
    cards = [_certificate(each, facts) for each in live[:3]]
    needs = phase in (Phase.A3, Phase.A4)
    offered = [button("certify", f"Certify {phase}…", target=phase)]
    if not needs and not failing:
        offered.insert(0, button("promote", f"Promote to {phase}…", "strong", target=phase, certificate=""))
    return join(*cards, buttons(*offered))


def _certificate(each: Mapping[str, Any], facts: Facts) -> Html:
    """One that was issued for the next step: who has approved, who is missing, until when, or why it is void."""
    short, void = each["hash"][:12], each["void"]
    lacking = each["approvals_missing"]
    approvers = [
        element("li", mark("pass"), said(one["approver"]), " ", ago(one["at"], facts.at)) for one in each["approvals"]
    ]
    approvers += [element("li", mark("todo"), "approval missing")] * (lacking if void is None else 0)
    left = seconds_until(each["expires_at"], facts.at)
    verdict = (
        element("p", mark("fail"), "void: ", said(void))
        if void is not None
        else element("p", mark("pass" if not lacking else "todo"), f"good for {lasted(left)} more")
    )
    override = each["override"]
    offered = []
    if void is None and lacking:
        offered.append(button("approve", "Approve…", "strong", certificate=each["hash"], target=each["target"]))
    if void is None and not lacking:
        offered.append(
            button(
                "promote", f"Promote to {each['target']}…", "strong", certificate=each["hash"], target=each["target"]
            )
        )
    return element(
        "article",
        element("h3", "Certificate ", element("code", short), f" for {each['target']}"),
        element(
            "p", "asked for by ", said(each["requested_by"]), " ", ago(each["issued_at"], facts.at), class_="quiet"
        ),
        element("p", mark("fail"), "past a closed gate: ", said(override)) if override else NOTHING,
        verdict,
        element("ul", *approvers, class_="approvals") if approvers else NOTHING,
        buttons(*offered),
        class_="certificate",
        id=f"certificate-{short}",
    )


def _step_back(facts: Facts) -> Html:
    state = facts.state
    if state is None or state.phase.order not in (1, 2, 3):
        return NOTHING
    back = Phase(f"A{state.phase.order - 1}")
    return buttons(button("rollback", f"Roll back to {back}…", "danger", target=back))
