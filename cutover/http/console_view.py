"""The console's page as a whole: document, header, the four answers, and the sections in their order."""

from collections.abc import Sequence
from urllib.parse import quote

from cutover.domain.check import Status
from cutover.http import console_gates as gates
from cutover.http import console_sections as sections
from cutover.http.console_facts import Facts
from cutover.http.console_headline import Answer, Headline, headline
from cutover.http.console_parts import WORD, command, mark, period, said
from cutover.http.markup import NOTHING, Html, element, join

_DOCTYPE = Html("<!doctype html>")


def whole(facts: Facts) -> Html:
    """`<main>` of one tenant."""
    told = headline(facts)
    return element(
        "main",
        _title(facts),
        _glance(facts, told),
        _notices(facts),
        gates.ladder(facts),
        element(
            "div",
            gates.gates(facts),
            element(
                "div",
                sections.drift(facts),
                sections.backfill(facts),
                sections.sweeps(facts),
                sections.transitions(facts),
                class_="side",
            ),
            class_="columns",
        ),
        id="main",
        tabindex="-1",
        data_epoch=facts.state.epoch if facts.state is not None else None,
        data_phase=facts.state.phase.value if facts.state is not None else None,
        data_spoken=f"{facts.tenant}: {told.spoken}",
    )


def _title(facts: Facts) -> Html:
    state = facts.state
    since = (
        join(" for ", period(state.entered_at, facts.at), f", epoch {state.epoch}") if state is not None else NOTHING
    )
    here = f"{state.phase} {state.phase.meaning}" if state is not None else "phase not confirmed"
    return element("div", element("h1", said(facts.tenant)), element("p", here, since, class_="quiet"), class_="title")


def _glance(facts: Facts, told: Headline) -> Html:
    answers = (
        ("phase", "Phase", told.phase),
        ("healthy", "Is it healthy?", told.healthy),
        ("lost", "Is anything lost?", told.lost),
        ("todo", "What to do next", told.next),
    )
    return element(
        "section",
        *(_answer(*each, facts.named) for each in answers),
        class_="glance",
        id="glance",
        aria_label="At a glance",
    )


def _answer(name: str, question: str, answer: Answer, tenant: str) -> Html:
    kind = answer.status.value
    return element(
        "div",
        element("h2", question),
        element("p", mark(kind, f"{WORD[answer.status]}: "), element("strong", answer.short), class_="short"),
        element("p", said(answer.words)) if answer.words else NOTHING,
        command(answer.command, tenant, "Run"),
        class_=f"answer {kind} {name}",
        id=f"answer-{name}",
    )


def _notices(facts: Facts) -> Html:
    """What must not be forgotten while the phase lasts: an override, loosened thresholds, parts that are missing."""
    lines: list[Html] = []
    if (override := facts.status.get("override")) is not None:
        words = join("entered past a closed gate by ", said(override["by"]), ": ", said(override["why"]))
        lines.append(element("li", mark("fail", "fail: "), element("span", words)))
    if loosened := facts.status.get("loosened"):
        listed = element("ul", *(element("li", said(each)) for each in loosened))
        number = f"{len(loosened)} threshold{'s are' if len(loosened) > 1 else ' is'} below the default"
        told = element("details", element("summary", number), listed, id="loosened")
        lines.append(element("li", mark("warn", "warning: "), told))
    for why in dict.fromkeys(facts.missing.values()):
        parts = ", ".join(what.replace("_", " ") for what, each in facts.missing.items() if each == why)
        words = join(f"could not be had: {parts}: ", said(why))
        lines.append(element("li", mark("warn", "warning: "), element("span", words)))
    return element("ul", *lines, class_="notices", id="notices") if lines else NOTHING


def everybody(all_of_them: Sequence[Facts]) -> Html:
    """`<main>` of the list of tenants, worst first."""
    cards = [_card(facts) for facts in all_of_them]
    spoken = " ".join(f"{facts.tenant}: {headline(facts).spoken}" for facts in all_of_them)
    return element(
        "main",
        element("div", element("h1", "Tenants"), class_="title"),
        element("ul", *cards, class_="tenants"),
        id="main",
        tabindex="-1",
        data_spoken=spoken,
    )


def _card(facts: Facts) -> Html:
    told = headline(facts)
    lines = [
        element("li", mark(answer.status.value, f"{WORD[answer.status]}: "), answer.short)
        for answer in (told.phase, told.healthy, told.lost)
    ]
    todo = element("p", element("span", "Next ", class_="label"), told.next.short, class_="quiet")
    worst = next(
        (status for status in (Status.FAIL, Status.WARN) if status in (told.healthy.status, told.lost.status)),
        Status.PASS,
    )
    link = element("a", said(facts.tenant), href=f"/tenants/{quote(facts.tenant, safe='')}/")
    return element(
        "li",
        element("h2", link),
        element("ul", *lines),
        todo,
        class_=f"card {worst.value}",
        id=f"tenant-{facts.tenant}",
    )


def document(tenant: str, main: Html, *, base: str, events: str, names: Sequence[str]) -> Html:
    """The whole page. `base`: where the tenant's API is; `events`: its stream, empty where there is none."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("title", f"{tenant} – cutover" if tenant else "cutover"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("noscript", Html('<meta http-equiv="refresh" content="10">')),
        element("link", rel="icon", href="/console/icon.svg", type="image/svg+xml"),
        element("link", rel="stylesheet", href="/console/console.css"),
        element("script", type="module", src="/console/console.js"),
    )
    body = element(
        "body",
        element("a", "Skip to the tenant's state" if tenant else "Skip to the tenants", href="#main", class_="skip"),
        _header(tenant, names),
        main,
        _footer(),
        element("p", id="said", role="status", aria_live="polite", class_="unseen"),
        data_base=base,
        data_events=events,
    )
    return join(_DOCTYPE, element("html", head, body, lang="en"))


def _header(tenant: str, names: Sequence[str]) -> Html:
    brand = element("a", Html(_LOGO), "cutover", href="/tenants/" if len(names) > 1 else "/", class_="brand")
    links = [
        element(
            "li",
            element(
                "a",
                said(name),
                href=f"/tenants/{quote(name, safe='')}/",
                aria_current="page" if name == tenant else None,
            ),
        )
        for name in names
    ]
    nav = element("nav", element("ul", *links), aria_label="Tenants") if len(names) > 1 else NOTHING
    link = element("p", "not live: refreshed every 10 s", id="link", class_="link")
    # There is nothing to act on in the list of tenants.
    who = element("button", "Sign in…", type="button", id="session", class_="act") if tenant else NOTHING
    return element("header", brand, nav, element("div", link, who, class_="state"), class_="top")


def _footer() -> Html:
    return element(
        "footer",
        element(
            "p",
            "Reading is open. Changing asks for a named admin token, which stays in this page's memory. As JSON: ",
            element("code", "/api/v1/status"),
            ", ",
            element("code", "/readyz/A0"),
            " to ",
            element("code", "/readyz/A4"),
            ".",
            class_="quiet",
        ),
        element("p", "Without JavaScript nothing can be changed here: use the commands.", class_="quiet nojs"),
    )


_LOGO = (
    '<svg class="logo" viewBox="0 0 24 24" aria-hidden="true"><path d="M3 6h9a4 4 0 0 1 4 4v8"/>'
    '<path d="M12 14l4 4 4-4"/><path d="M3 18h6"/></svg>'
)
