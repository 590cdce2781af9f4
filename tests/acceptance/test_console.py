"""The console in a real Chromium against a real daemon (observability §6): seen, read aloud, driven by keyboard, and
watched for anything that it may not do."""

import json
import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import httpx
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, Route, expect, sync_playwright

from cutover.embedded.postgres import EmbeddedPostgres
from cutover.embedded.processes import PEOPLE
from tests.served import Served, served

pytestmark = [pytest.mark.acceptance, pytest.mark.browser, pytest.mark.timeout(180)]

ARGUMENTS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE = 40.0
HOSTILE = "<img src=/x onerror=\"document.title='owned'\"><script>document.title='owned'</script>"
PHONE, DESK = (390, 844), (1280, 900)

expect.set_options(timeout=PATIENCE * 1000)


@pytest.fixture(scope="module")
def running(postgres: EmbeddedPostgres) -> Iterator[Served]:
    """A tenant in A1 with old memories and hostile words on record."""
    # A sweep that ends meanwhile makes a certificate void: none is scheduled.
    with served(postgres, "A1", rows=3000, settings={"CUTOVER_RECALL_INTERVAL": "0"}) as made:
        post(made, "phase/certify", {"target": "A2", "override": HOSTILE}, "edsger")
        yield made


@pytest.fixture(scope="module")
def browser(running: Served) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=list(ARGUMENTS))
        yield opened
        opened.close()


def get(made: Served, path: str) -> dict[str, Any]:
    answer = httpx.get(f"{made.daemon.at.ops}/api/v1/{path}", timeout=PATIENCE)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def post(made: Served, path: str, body: dict[str, Any], name: str | None = None) -> dict[str, Any]:
    token = made.daemon.admin_token if name is None else PEOPLE[name]
    headers = {"Authorization": f"Bearer {token}"}
    answer = httpx.post(f"{made.daemon.at.ops}/api/v1/{path}", json=body, headers=headers, timeout=PATIENCE)
    assert answer.status_code < 300, answer.text
    return dict(answer.json())


def until(page: Page, condition: Callable[[], bool], what: str) -> None:
    """Wait without stopping the browser's own events."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {PATIENCE:g} s"
        page.wait_for_timeout(50)


@dataclass
class Watched:
    """A page, and everything that it did which it may not."""

    page: Page
    origin: str
    refusals: tuple[int, ...] = ()
    """Answers that the test brings about: the browser puts every one of them on its console."""
    wrong: list[str] = field(default_factory=list)

    def watch(self) -> None:
        """Listen from before the first request."""
        page = self.page
        page.on("console", self._said)
        page.on("pageerror", lambda error: self.wrong.append(str(error)))
        page.on("request", lambda request: self._ours(request.url))
        page.add_init_script(
            "window.violations = [];"
            "addEventListener('securitypolicyviolation',"
            " (e) => violations.push(`${e.violatedDirective} ${e.blockedURI}`))"
        )

    def _said(self, message: ConsoleMessage) -> None:
        refused = re.search(r"responded with a status of (\d+)", message.text)
        if message.type in ("error", "warning") and not (refused and int(refused[1]) in self.refusals):
            self.wrong.append(message.text)

    def _ours(self, url: str) -> None:
        if not url.startswith(f"{self.origin}/"):
            self.wrong.append(f"asked elsewhere: {url}")

    def behaved(self) -> None:
        """It did nothing of the kind."""
        violations = self.page.evaluate("window.violations")
        assert (self.wrong, violations) == ([], [])


@contextmanager
def open_page(
    browser: Browser, made: Served, *, size: tuple[int, int] = DESK, path: str = "/", live: bool = True, **options: Any
) -> Iterator[Watched]:
    """The console in a context of its own. `live`: wait for the stream."""
    context: BrowserContext = browser.new_context(viewport={"width": size[0], "height": size[1]}, **options)
    try:
        watched = Watched(context.new_page(), made.daemon.at.ops)
        watched.watch()
        watched.page.goto(made.daemon.at.ops + path)
        if live:
            expect(watched.page.locator("#link")).to_have_text("live")
        yield watched
    finally:
        context.close()


def sign_in(page: Page, name: str) -> None:
    """In the dialog that is open."""
    page.get_by_label("Admin token", exact=True).fill(PEOPLE[name])
    page.get_by_role("button", name="Sign in", exact=True).click()


# -- seen --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_light_and_dark_at_phone_and_desk_width_no_serious_finding_and_no_sideways_scrolling(
    browser: Browser, running: Served, scheme: Any, size: tuple[int, int]
) -> None:
    with open_page(browser, running, size=size, color_scheme=scheme) as watched:
        page = watched.page
        page.evaluate("document.querySelectorAll('details').forEach((each) => (each.open = true))")
        wide, inner = page.evaluate("[document.documentElement.scrollWidth, innerWidth]")
        assert wide <= inner == size[0]
        ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", ground))) > 384) is (scheme == "light")
        assert serious(page) == []
        page.get_by_role("button", name="Start a sweep…").click()
        sign_in(page, "ada")
        expect(page.get_by_role("heading", name="Start a sweep")).to_be_visible()
        assert serious(page) == []
        watched.behaved()


def serious(page: Page) -> list[str]:
    """What axe-core finds that is serious or critical."""
    found = Axe().run(page).response["violations"]
    return [
        f"{each['id']}: {node['target']}: {node['failureSummary']}"
        for each in found
        if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]


def test_a_screen_reader_finds_landmarks_headings_and_a_live_region(browser: Browser, running: Served) -> None:
    with open_page(browser, running) as watched:
        page = watched.page
        tree = page.locator("body").aria_snapshot()
        for landmark in ("banner:", "main:", "contentinfo:", "- status"):
            assert landmark in tree, tree
        levels = [int(level) for level in re.findall(r"heading \".*?\" \[level=(\d)\]", tree)]
        assert levels[0] == 1
        assert levels.count(1) == 1
        assert all(after <= before + 1 for before, after in pairwise(levels))
        questions = ("Is it healthy?", "Is anything lost?", "What to do next")
        for heading in (*questions, "Gates", "Drift", "Sweeps", "Backfill", "Last transitions"):
            assert f'heading "{heading}"' in tree
        assert page.locator("#said").get_attribute("aria-live") == "polite"
        assert page.locator("html").get_attribute("lang") == "en"


def test_the_first_screen_answers_the_four_questions_without_scrolling(browser: Browser, running: Served) -> None:
    for size in (DESK, PHONE):
        with open_page(browser, running, size=size) as watched:
            for id_ in ("phase", "healthy", "lost", "todo"):
                expect(watched.page.locator(f"#answer-{id_}")).to_be_in_viewport(ratio=1)


def test_hostile_words_are_shown_and_do_nothing(browser: Browser, running: Served) -> None:
    with open_page(browser, running) as watched:
        page = watched.page
        expect(page.get_by_text(HOSTILE).first).to_be_visible()
        assert page.title() == "sample – cutover"
        assert page.locator("main img, main script").count() == 0
        watched.behaved()


def test_without_javascript_the_essentials_are_there(browser: Browser, running: Served) -> None:
    with open_page(browser, running, live=False, java_script_enabled=False) as watched:
        page = watched.page
        for id_ in ("phase", "healthy", "lost", "todo"):
            expect(page.locator(f"#answer-{id_} .short")).to_be_visible()
        for id_ in ("gate-A2", "drift", "sweeps", "backfill", "transitions"):
            expect(page.locator(f"#{id_}")).to_be_visible()
        expect(page.locator("ol.ladder [aria-current=step]")).to_contain_text("A1 shadow")
        expect(page.locator("#gate-A2 code").first).to_be_visible()
        expect(page.get_by_text("use the commands")).to_be_visible()
        assert page.locator("button:visible").count() == 0, "a button that does nothing is not shown"
        assert page.locator("noscript").first.inner_html().count("http-equiv") == 1, "it refreshes itself"
        assert watched.wrong == []


# -- driven ------------------------------------------------------------------------------------------------------------


def test_a_certificate_is_approved_by_keyboard_alone_and_by_the_name_of_the_token(
    browser: Browser, running: Served
) -> None:
    with open_page(browser, running) as watched:
        page, keyboard = watched.page, watched.page.keyboard
        for _ in range(60):
            keyboard.press("Tab")
            if page.evaluate("document.activeElement.dataset.act") == "approve":
                break
        keyboard.press("Enter")
        expect(page.get_by_label("Admin token", exact=True)).to_be_focused()
        trouble = page.get_by_role("alert")
        keyboard.type("a token — pasted from a letter")
        keyboard.press("Enter")
        expect(trouble).to_contain_text("The token was not sent.")
        watched.refusals = (401, 409)
        keyboard.press("Control+A")
        keyboard.type("wrong")
        keyboard.press("Enter")
        expect(trouble).to_contain_text("The token was not taken.")
        expect(trouble).to_contain_text("invalid admin token")
        expect(trouble).to_contain_text("Next: send")
        keyboard.press("Control+A")
        keyboard.type(PEOPLE["ada"])
        keyboard.press("Enter")
        expect(page.get_by_role("heading", name="Approve the step to A2")).to_be_visible()
        expect(page.locator("dialog")).to_contain_text(HOSTILE)
        expect(page.get_by_role("button", name="Approve as ada")).to_be_focused()
        keyboard.press("Enter")
        expect(page.locator("dialog")).not_to_be_visible()
        expect(page.locator("#note")).to_have_text("Approved by ada; 1 more needed.")
        expect(page.locator(".approvals li").first).to_contain_text("ada")
        certificate = get(running, "phase/certificates")["certificates"][0]
        assert [each["approver"] for each in certificate["approvals"]] == ["ada"]
        expect(page.locator("#session")).to_contain_text("Signed in as ada")
        # The requester may not, and neither may ada twice: what, why, next.
        page.get_by_role("button", name="Approve…").click()
        page.get_by_role("button", name="Approve as ada").click()
        expect(trouble).to_contain_text("Not now.")
        expect(trouble).to_contain_text("ada has approved it already")
        expect(trouble).to_contain_text("cutover phase certificates")
        keyboard.press("Escape")
        expect(page.get_by_role("button", name="Approve…")).to_be_focused()
        kept_nowhere(page, PEOPLE["ada"])
        page.locator("#session").click()
        expect(page.locator("#session")).to_have_text("Sign in…")
        watched.behaved()


def kept_nowhere(page: Page, token: str) -> None:
    """Neither in storage, nor in a cookie, nor in an address, nor in the page."""
    kept = page.evaluate(
        "JSON.stringify([{...localStorage}, {...sessionStorage}, document.cookie, location.href, history.state,"
        " document.documentElement.outerHTML, [...document.querySelectorAll('input')].map((each) => each.value)])"
    )
    assert token not in kept
    assert [json.loads(kept)[index] for index in (0, 1, 2)] == [{}, {}, ""]
    assert page.context.cookies() == []


def test_a_promotion_with_its_certificate_reaches_an_open_page_without_reload(
    browser: Browser, running: Served
) -> None:
    hash_ = get(running, "phase/certificates")["certificates"][0]["hash"]
    for name in ("ada", "grace"):
        httpx.post(
            f"{running.daemon.at.ops}/api/v1/phase/approve",
            json={"certificate": hash_},
            headers={"Authorization": f"Bearer {PEOPLE[name]}"},
        )
    with open_page(browser, running) as watching, open_page(browser, running) as acting:
        watching.page.evaluate("window.untouched = true")
        watching.page.locator("#loosened").evaluate("(each) => (each.open = true)")
        page = acting.page
        page.locator(".certificate").get_by_role("button", name="Promote to A2…").click()
        sign_in(page, "grace")
        page.get_by_role("button", name="Promote to A2", exact=True).click()
        expect(page.get_by_role("alert")).to_have_text("A reason is needed.Reason, for the record")
        page.get_by_label("Reason, for the record").fill(f"from the console {HOSTILE}")
        page.get_by_role("button", name="Promote to A2", exact=True).click()
        expect(page.locator("#note")).to_contain_text("The tenant is in A2; writes were held for")
        told = get(running, "phase")
        assert (told["phase"], told["override"]["certificate"]) == ("A2", hash_)
        assert get(running, "phase/history")["changes"][0]["by"] == "grace"
        other = watching.page
        expect(other.locator("#answer-phase .short")).to_contain_text("A2 backfill")
        expect(other.locator("#said")).to_contain_text("A2 backfill")
        expect(other.locator("#transitions li").first).to_contain_text("grace")
        assert other.evaluate("window.untouched"), "it was not loaded again"
        assert other.locator("#loosened").get_attribute("open") is not None, "what was unfolded stays so"
        until(other, lambda: other.evaluate(_AS_IF_LOADED), "what was put in place to be what a reload would give")
        acting.behaved()
        watching.behaved()


_AS_IF_LOADED = """async () => {
    const shape = (main) => [...main.querySelectorAll("*")].map((each) =>
        [each.nodeName, ...[...each.attributes].filter((one) => one.name !== "open" && one.name !== "title")
            .map((one) => `${one.name}=${one.value}`).sort()].join(" ")).join("\\n");
    const fresh = new DOMParser().parseFromString(await (await fetch("/")).text(), "text/html");
    return shape(document.getElementById("main")) === shape(fresh.getElementById("main"));
}"""


def test_a_backfill_is_paused_resumed_and_aborted(browser: Browser, running: Served) -> None:
    phase_is(running, "A2")
    post(running, "backfill", {"mode": "apply", "rate": 20})
    with open_page(browser, running) as watched:
        page = watched.page
        page.get_by_role("button", name="Pause", exact=True).click()
        sign_in(page, "ada")
        page.get_by_role("dialog").get_by_role("button", name="Pause").click()
        expect(page.locator("#backfill")).to_contain_text("paused by ada")
        assert get(running, "backfill")["state"] == "paused"
        expect(page.locator("#backfill progress")).to_have_attribute("aria-label", re.compile("of 3,000 rows"))
        page.get_by_role("button", name="Resume", exact=True).click()
        page.get_by_role("dialog").get_by_role("button", name="Resume").click()
        expect(page.locator("#backfill")).to_contain_text("running")
        expect(page.locator("#backfill")).to_contain_text("rows/s")
        assert get(running, "backfill")["state"] == "running"
        page.get_by_role("button", name="Abort…").click()
        page.get_by_role("dialog").get_by_role("button", name="Abort the backfill").click()
        expect(page.locator("#backfill")).to_contain_text("aborted")
        until(page, lambda: get(running, "backfill")["state"] == "aborted", "the backfill to end")
        watched.behaved()


def test_a_sweep_is_started(browser: Browser, running: Served) -> None:
    before = {each["run"] for each in get(running, "sweeps?kind=digest")["sweeps"]}
    with open_page(browser, running) as watched:
        page = watched.page
        page.get_by_role("button", name="Start a sweep…").click()
        sign_in(page, "ada")
        page.get_by_label("What is compared").select_option("full")
        page.get_by_role("button", name="Start", exact=True).click()
        expect(page.locator("#note")).to_have_text("The digest sweep has begun.")
        (made,) = [each for each in get(running, "sweeps?kind=digest")["sweeps"] if each["run"] not in before]
        assert made["requested_by"] == "ada"
        watched.behaved()


def test_a_certificate_is_asked_for_and_a_closed_gate_says_what_closes_it_also_when_the_dialog_is_gone(
    browser: Browser, running: Served
) -> None:
    phase_is(running, "A2")
    with open_page(browser, running) as watched:
        page = watched.page
        watched.refusals = (409,)
        page.get_by_role("button", name="Certify A3…").click()
        sign_in(page, "edsger")
        page.get_by_role("button", name="Certify", exact=True).click()
        trouble = page.get_by_role("alert")
        expect(trouble).to_contain_text("the gate of A3 is closed by")
        expect(trouble.locator("li").first).to_contain_text("backfill: ")
        expect(trouble.locator("code")).to_contain_text("cutover ")
        held: list[Route] = []
        page.route("**/phase/certify", lambda route: held.append(route))
        page.get_by_role("button", name="Certify", exact=True).click()
        until(page, lambda: bool(held), "the request")
        page.keyboard.press("Escape")
        expect(page.get_by_role("button", name="Cancel")).to_be_disabled()
        expect(page.get_by_role("heading", name="Certify A3")).to_be_visible()
        # A browser may close it all the same, at a second Escape: what it came to must not land in the next dialog.
        page.evaluate("document.getElementById('ask').close()")
        page.get_by_role("button", name="Start a sweep…").click()
        held[0].continue_()
        expect(page.locator("#note")).to_contain_text("the gate of A3 is closed by")
        expect(page.get_by_role("heading", name="Start a sweep")).to_be_visible()
        expect(trouble).to_have_text("")
        expect(page.get_by_role("button", name="Start", exact=True)).to_be_enabled()
        page.get_by_role("button", name="Cancel").click()
        watched.behaved()


def test_a_dialog_that_the_tenant_has_outrun_sends_nothing(browser: Browser, running: Served) -> None:
    phase_is(running, "A2")
    with open_page(browser, running) as watched:
        page = watched.page
        page.locator("#gate-A2 > summary").click()
        page.get_by_role("button", name="Roll back to A1…").click()
        sign_in(page, "ada")
        page.get_by_label("Reason, for the record").fill("what I saw is long gone")
        page.get_by_label("Type A1 to go back to it").fill("A1")
        post(running, "phase/rollback", {"reason": "a colleague", "target": "A1"})
        post(running, "phase/promote", {"reason": "a colleague, once more", "target": "A2"})
        told = get(running, "phase")
        expect(page.get_by_role("alert")).to_contain_text("The tenant changed meanwhile.")
        expect(page.get_by_role("alert")).to_contain_text(f"It is in A2 now, epoch {told['epoch']}.")
        expect(page.get_by_role("button", name="Roll back to A1", exact=True)).to_be_disabled()
        page.get_by_label("Type A1 to go back to it").press("Enter")
        # Even one that is sent all the same names the epoch that was shown, and is refused.
        sent: list[Any] = []
        page.on("request", lambda request: sent.append(request.post_data_json) if request.method == "POST" else None)
        watched.refusals = (409,)
        page.evaluate("document.querySelector('#ask button[type=submit]').disabled = false")
        page.get_by_role("button", name="Roll back to A1", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("Not now.")
        assert [each["expected_epoch"] for each in sent] == [told["epoch"] - 2]
        assert get(running, "phase") == told
        watched.behaved()


def test_a_way_back_asks_for_a_reason_and_to_be_sure(browser: Browser, running: Served) -> None:
    phase_is(running, "A2")
    with open_page(browser, running) as watched:
        page = watched.page
        page.locator("#gate-A2 > summary").click()
        page.get_by_role("button", name="Roll back to A1…").click()
        sign_in(page, "ada")
        page.get_by_label("Reason, for the record").fill("to try the way back")
        page.get_by_label("Type A1 to go back to it").fill("A2")
        page.get_by_role("button", name="Roll back to A1", exact=True).click()
        expect(page.get_by_role("alert")).to_contain_text("Type the phase to be sure.")
        assert get(running, "phase")["phase"] == "A2"
        page.get_by_label("Type A1 to go back to it").fill("A1")
        page.get_by_role("button", name="Roll back to A1", exact=True).click()
        expect(page.locator("#note")).to_have_text("The tenant is back in A1.")
        expect(page.locator("#answer-phase .short")).to_contain_text("A1 shadow")
        told = get(running, "phase/history")["changes"][0]
        assert (told["to"], told["by"], told["reason"]) == ("A1", "ada", "to try the way back")
        # A2's gate is open here: a certificate can be had from the page.
        page.get_by_role("button", name="Certify A2…").click()
        page.get_by_role("button", name="Certify", exact=True).click()
        expect(page.locator("#note")).to_contain_text("for A2 was issued.")
        assert get(running, "phase/certificates")["certificates"][0]["requested_by"] == "ada"
        watched.behaved()


def phase_is(made: Served, wanted: str) -> None:
    """For a test that is run by itself; with the others it is so already."""
    if get(made, "phase")["phase"] != wanted:
        post(made, "phase/promote", {"reason": "a test", "target": wanted})


# -- live --------------------------------------------------------------------------------------------------------------


def test_where_the_stream_is_refused_the_page_asks_again_and_again(browser: Browser, running: Served) -> None:
    with open_page(browser, running, live=False) as watched:
        page = watched.page

        def refuse(route: Route) -> None:
            body = '{"error": "24 event streams are open, which is the limit"}'
            route.fulfill(status=503, body=body, content_type="application/json")

        page.route("**/api/events", refuse)
        page.reload()
        expect(page.locator("#link")).to_have_text("refreshed every 5 s")
        shown = page.locator("#drift time").inner_text()
        expect(page.locator("#drift time")).not_to_have_text(shown)
        # A proxy that wants a login answers 200 as well.
        login = f"{running.daemon.at.ops}/"
        page.route(login, lambda route: route.fulfill(body="<main id=main><h1>Log in</h1></main>"))
        expect(page.locator("#link")).to_contain_text("what you see is old")
        expect(page.locator("#answer-phase .short")).to_be_visible()
        page.unroute(login)
        expect(page.locator("#link")).to_have_text("refreshed every 5 s")
        page.unroute("**/api/events")


def test_the_page_says_that_its_daemon_hangs_and_that_it_is_gone_and_a_daemon_with_open_consoles_ends_promptly(
    browser: Browser, running: Served
) -> None:
    second = running.another_daemon("leaving")
    second.child.launch()
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if httpx.get(f"{second.at.ops}/readyz").status_code == 200:
                break
        except httpx.TransportError:
            pass
        assert time.monotonic() < deadline
        time.sleep(0.05)
    context = browser.new_context()
    page = context.new_page()
    page.goto(second.at.ops)
    expect(page.locator("#link")).to_have_text("live")
    second.child.pause()  # it takes connections and says nothing
    try:
        expect(page.locator("#link")).to_have_text(re.compile(r"nothing heard for \d+ s: what you see is old"))
        assert page.locator("main").evaluate("(each) => getComputedStyle(each).filter") == "grayscale(1)"
    finally:
        second.child.resume()
    expect(page.locator("#link")).to_have_text("live")
    assert page.locator("main").evaluate("(each) => getComputedStyle(each).filter") == "none"
    with httpx.stream("GET", f"{second.at.ops}/api/events", timeout=PATIENCE) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("retry:")
        began = time.monotonic()
        pid = second.child.pid
        assert pid is not None
        second.child.send(signal.SIGTERM)
        rest = list(lines)
    assert [line for line in rest if line.startswith("event:")][-1] == "event: bye"
    until(page, lambda: second.child.pid is None, "the daemon's end")
    assert second.child.exit_code == 0
    assert "http.drain_deadline" not in second.child.output(), "nothing had to be cut off"
    assert time.monotonic() - began < PATIENCE / 2
    expect(page.locator("#link")).to_contain_text("what you see is old")
    expect(page.locator("#answer-phase .short")).to_be_visible()
    context.close()
