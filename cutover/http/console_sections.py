"""What is known of the stores on a tenant's page: drift, sweeps, backfill, and the last transitions."""

from collections.abc import Mapping
from typing import Any, Final

from cutover.domain.phase import Phase
from cutover.http.console_facts import SWEEPS, Facts
from cutover.http.console_parts import ago, bar, button, buttons, command, mark, pairs, said, section, spark, stacked
from cutover.http.console_words import count, lasted, seconds_since
from cutover.http.markup import NOTHING, Html, element, join

_CAUSES: Final = {
    "in_flight": "on the way now",
    "not_backfilled": "not copied yet",
    "quarantined": "in quarantine",
    "accepted": "accepted by somebody",
    "native": "of the plugin's own kind",
    "kv": "from key/value rows",
    "unexplained": "unexplained",
}
_OUTCOMES: Final = {"clean": "pass", "partial": "warn", "not_applicable": "todo", "ok": "pass"}
_BACKFILL_HELD: Final = {"operator": "paused by an operator", "pause_file": "the pause file is there"}


def drift(facts: Facts) -> Html:
    """Unexplained and for how long; the ledger by cause; rows of both sides; what is confirmed and open."""
    told = facts.status.get("drift")
    if not told or told.get("causes") is None:
        why = (told or {}).get("why") or facts.missing.get("status") or "no count sweep has come to a result yet"
        line = "cutover doctor" if "status" in facts.missing else "cutover sweep run --kind count"
        body = join(element("p", mark("warn", "warning: "), said(why)), command(line, facts.named))
        return section("drift", "Drift", body, _found(facts))
    unexplained = facts.unexplained or 0
    age = seconds_since(facts.unexplained_since, facts.at)
    words = element("span", " rows unexplained" if abs(unexplained) != 1 else " row unexplained")
    since = f", for {lasted(age)}" if unexplained and age is not None else ""
    kind = "fail" if unexplained else "pass"
    causes = {name: told["causes"].get(name, 0) for name in _CAUSES}
    known = {name: value for name, value in causes.items() if value and name != "unexplained"}
    legend = [
        element(
            "li",
            element("i", class_=f"dot c-{name}"),
            element("b", f"{value:,}".replace("-", "\N{MINUS SIGN}")),
            f" {_CAUSES[name]}",
        )
        for name, value in causes.items()
        if value
    ]
    return section(
        "drift",
        "Drift",
        element("p", mark(kind), element("b", f"{abs(unexplained):,}"), words, since, class_=f"big {kind}"),
        command("cutover divergence list --groups", facts.named) if unexplained else NOTHING,
        stacked({**known, "unexplained": unexplained}, "rows by which the stores differ, by cause"),
        element("ul", *legend, class_="legend") if legend else NOTHING,
        pairs(
            [
                ("legacy", f"{told['legacy']:,}"),
                ("plugin", f"{told['plugin']:,}"),
                ("counted", ago(told["finished_at"], facts.at)),
            ]
        ),
        _found(facts),
    )


def _found(facts: Facts) -> Html:
    """Differences that two looks agree on, and the quarantine."""
    found, lines = facts.status.get("divergences") or {}, []
    confirmed = found.get("confirmed") or {}
    if confirmed:
        classes = ", ".join(f"{rows:,} {cls.replace('_', ' ')}" for cls, rows in confirmed.items())
        oldest = found.get("oldest_seconds")
        since = f"; the oldest for {lasted(oldest)}" if oldest is not None else ""
        words = element("p", "confirmed differences: ", said(classes), since)
        lines.append(_line("fail", words, command("cutover divergence list --groups", facts.named)))
    if blocking := facts.status.get("quarantine_blocking"):
        words = element("p", f"in quarantine, and blocking the cutover: {blocking:,}")
        lines.append(_line("warn", words, command("cutover quarantine list", facts.named)))
    marks = facts.status.get("marks") or {}
    if marks.get("total"):
        words = element(
            "p", f"{count(marks['total'], 'write')} on the way, the oldest for {lasted(marks['oldest_seconds'])}"
        )
        lines.append(_line("pass" if marks["oldest_seconds"] < 30 else "warn", words, NOTHING))
    return element("ul", *lines, class_="checks") if lines else NOTHING


def _line(kind: str, words: Html, following: Html) -> Html:
    return element("li", mark(kind, f"{kind}: "), element("div", words, following), class_=f"check {kind}")


def sweeps(facts: Facts) -> Html:
    """The last of each kind, and one under way with how far it is."""
    if (why := facts.missing.get("sweeps")) is not None:
        return section("sweeps", "Sweeps", element("p", mark("warn", "warning: "), said(why)))
    rows = [_sweep_row(facts, *kind) for kind in _SWEEPS]
    head = element(
        "thead", element("tr", *(element("th", name, scope="col") for name in ("Sweep", "Came to", "Ended")))
    )
    doing = facts.status.get("sweeping")
    running = [each for each in facts.sweeps if each["state"] == "running"]
    under_way: Html = NOTHING
    if doing:
        share = float(doing.get("share") or 0.0)
        rate = float(doing.get("rate_rows_per_second") or 0.0)
        compared = int(doing.get("compared") or 0)
        eta = (
            f", about {lasted(compared / share * (1 - share) / rate)} left"
            if doing.get("full") and share and rate
            else ""
        )
        held = element("p", "waits: ", said(doing["throttled"]), class_="quiet") if doing.get("throttled") else NOTHING
        which = "full digest sweep" if doing.get("full") else "digest sweep"
        under_way = join(
            element("p", f"{which}: {count(compared, 'row')} compared, {rate:,.0f} rows/s{eta}"),
            bar(share, f"{which} under way") if doing.get("full") else NOTHING,
            held,
        )
    elif running:
        names = ", ".join(sorted({each["kind"] for each in running}))
        under_way = element("p", f"under way: {names}, since ", ago(running[0]["started_at"], facts.at))
    body = element("div", element("table", head, element("tbody", *rows)), class_="scroll")
    return section("sweeps", "Sweeps", under_way, body, _history(facts), buttons(button("sweep", "Start a sweep…")))


_SWEEPS: Final = (
    ("count", "count", None),
    ("digest", "digest, full", True),
    ("digest", "digest, new changes", False),
    ("recall", "recall", None),
)


def _sweep_row(facts: Facts, kind: str, name: str, full: bool | None) -> Html:
    def fits(each: Mapping[str, Any]) -> bool:
        outcome = each["outcome"] or {}
        return each["kind"] == kind and each["state"] != "running" and (full is None or outcome.get("full") is full)

    last = next((each for each in facts.sweeps if fits(each)), None)
    if last is None:
        listed = sum(each["kind"] == kind for each in facts.sweeps)
        words = "none yet" if listed < SWEEPS else f"none of the last {SWEEPS}"
        return element("tr", element("th", name, scope="row"), element("td", mark("todo"), words), element("td", "–"))
    outcome = last["outcome"] or {}
    word = str(outcome.get("outcome") or last["state"])
    trusted = outcome.get("trusted", True)
    sign = _OUTCOMES.get(word, "fail") if trusted or word != "clean" else "warn"
    if sign == "pass" and outcome.get("full") and (outcome.get("coverage") or 0.0) < 1.0:
        sign = "warn"  # clean as far as it could look
    why = outcome.get("why") or ""
    detail = _sweep_detail(kind, outcome)
    came_to = element(
        "td",
        mark(sign),
        element("span", word.replace("_", " "), "" if trusted else ", not trusted", detail),
        element("small", said(why)) if why and sign != "pass" else NOTHING,
    )
    return element("tr", element("th", name, scope="row"), came_to, element("td", ago(last["finished_at"], facts.at)))


def _sweep_detail(kind: str, outcome: Mapping[str, Any]) -> str:
    if kind == "recall" and outcome.get("overlap") is not None:
        return f", {100 * outcome['overlap']:.1f} % alike"
    if kind == "digest" and outcome.get("full") and outcome.get("coverage") is not None:
        return f", {100 * outcome['coverage']:.0f} % covered"
    if kind == "count" and outcome.get("unexplained"):
        return f", {outcome['unexplained']:,} unexplained"
    return ""


_ENOUGH: Final = 4
"""Sweeps that make a line worth looking at."""


def _history(facts: Facts) -> Html:
    counted = [each["outcome"] for each in facts.sweeps if each["kind"] == "count" and each["state"] == "finished"]
    values = [
        float(abs(each["unexplained"])) for each in reversed(counted) if (each or {}).get("unexplained") is not None
    ]
    if len(values) < _ENOUGH or not any(values):
        return NOTHING
    line = spark(values, f"unexplained rows over the last {len(values)} count sweeps, at most {max(values):,.0f}")
    return element("figure", line, element("figcaption", f"unexplained, last {len(values)} count sweeps"))


def backfill(facts: Facts) -> Html:
    """How far, how fast, how long still, and what holds it back."""
    told = facts.status.get("backfill") or {}
    state = told.get("state")
    if state in (None, "idle", "elsewhere"):
        words = {
            None: "not known",
            "idle": "complete" if told.get("complete") else "none is under way",
            "elsewhere": "another daemon of this tenant carries it out",
        }[state]
        sign = "pass" if told.get("complete") else "todo"
        here = facts.state.phase if facts.state is not None else None
        line = "cutover backfill --apply" if here is Phase.A2 and state == "idle" and not told.get("complete") else ""
        return section("backfill", "Backfill", element("p", mark(sign), words), command(line, facts.named))
    total, scanned, remaining = told["total"], told["scanned"], told["remaining"]
    share = 1.0 if not total else max(0.0, min(1.0, (total - remaining) / total))
    sign = {"running": "here", "finished": "pass", "paused": "warn", "aborted": "warn"}.get(state, "fail")
    facts_shown = [
        ("rows", f"{total:,}"),
        ("still to copy", f"{remaining:,}"),
        ("rate", f"{told['rate_rows_per_second']:,.0f} rows/s"),
        ("time left", lasted(told["eta_seconds"]) if told["eta_seconds"] is not None else "not known"),
        ("quarantined", f"{told['quarantined_by_copy']:,}"),
        ("how", said(told["via"])),
    ]
    if state not in ("running", "paused"):
        facts_shown = [row for row in facts_shown if row[0] not in ("rate", "time left")]
    held = str(told["throttled"] or "")
    offered = {
        "running": [button("pause", "Pause"), button("abort", "Abort…", "danger")],
        "paused": [button("resume", "Resume", "strong"), button("abort", "Abort…", "danger")],
    }.get(state, [])
    by = told.get("paused_by") if state == "paused" else ""
    return section(
        "backfill",
        "Backfill",
        element(
            "p",
            mark(sign),
            element("b", f"{100 * share:.0f} %"),
            f" {state}",
            join(" by ", said(by)) if by else NOTHING,
            join(": ", said(told["why"])) if told["why"] else NOTHING,
            class_="big",
        ),
        bar(share, f"backfill: {scanned:,} of {total:,} rows looked at"),
        element("p", "held back: ", said(_BACKFILL_HELD.get(held, held)), class_="quiet") if held else NOTHING,
        pairs(facts_shown),
        buttons(*offered),
    )


def transitions(facts: Facts) -> Html:
    """The last changes of phase: when, who and why."""
    if not facts.changes:
        why = facts.missing.get("changes") or "the phase was never changed"
        return section("transitions", "Last transitions", element("p", why, class_="quiet"))
    return section(
        "transitions",
        "Last transitions",
        element("ol", *(_change(each, facts) for each in facts.changes), class_="changes"),
    )


def _change(each: Mapping[str, Any], facts: Facts) -> Html:
    approvers = [said(name) for name in each["approvers"]]
    between = [join(", " if index else "", name) for index, name in enumerate(approvers)]
    override = each["override"]
    return element(
        "li",
        element(
            "p", element("b", f"{each['from'] or '–'} → {each['to']}"), " ", ago(each["at"], facts.at), class_="when"
        ),
        element(
            "p",
            "by ",
            said(each["by"], "who"),
            join("; approved by ", *between) if approvers else NOTHING,
            f"; epoch {each['epoch']}",
            class_="quiet",
        ),
        element("p", "“", said(each["reason"]), "”") if each["reason"] else NOTHING,
        element("p", mark("fail"), "past a closed gate: ", said(override)) if override else NOTHING,
        id=f"epoch-{each['epoch']}",
    )
