"""Redaction: every label, nothing else, twice the same, linear on hostile input (domain §2)."""

import time

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cutover.domain.redaction import LABELS, redact, redact_with_report

A16 = "a1B2c3D4e5F6g7H8"
A20 = A16 + "i9J0"
PEM_BODY = "MIIEpAIBAAKCAQEA\nshortline==\n"


@pytest.mark.parametrize(
    ("content", "expected", "label"),
    [
        ("use OPENAI_API_KEY=abc123 now", "use OPENAI_API_KEY=[REDACTED:API_KEY] now", "API_KEY"),
        ("my_api_key = x", "my_api_key = [REDACTED:API_KEY]", "API_KEY"),
        ("export Gh_Token='a b\nc' # no", "export Gh_Token='[REDACTED:TOKEN]' # no", "TOKEN"),
        ('{"env":"A_SECRET=p;w}d"}', '{"env":"A_SECRET=[REDACTED:SECRET]"}', "SECRET"),
        ('A_SECRET="two words" rest', 'A_SECRET="[REDACTED:SECRET]" rest', "SECRET"),
        ('A_SECRET="no end', "A_SECRET=[REDACTED:SECRET] end", "SECRET"),
        ("AUTH_TOKEN=Bearer short1 rest", "AUTH_TOKEN=[REDACTED:TOKEN] rest", "TOKEN"),
        ('if A_TOKEN == "x":', 'if A_TOKEN == "[REDACTED:TOKEN]":', "TOKEN"),
        ("Authorization: Bearer ab.c-d_e~f+/=", "Authorization: [REDACTED:BEARER_TOKEN]", "BEARER_TOKEN"),
        (f"authorization: bearer {A16}", "authorization: [REDACTED:BEARER_TOKEN]", "BEARER_TOKEN"),
        (
            f"k: -----BEGIN OPENSSH PRIVATE KEY-----\n{PEM_BODY}-----END OPENSSH PRIVATE KEY----- done",
            "k: [REDACTED:OPENSSH_PRIVATE_KEY] done",
            "OPENSSH_PRIVATE_KEY",
        ),
        (
            f"-----BEGIN RSA PRIVATE KEY-----\n{PEM_BODY}-----END RSA PRIVATE KEY-----",
            "[REDACTED:PRIVATE_KEY]",
            "PRIVATE_KEY",
        ),
        (
            f"TLS_SECRET=-----BEGIN PRIVATE KEY-----\n{PEM_BODY}-----END PRIVATE KEY-----\n",
            "TLS_SECRET=[REDACTED:PRIVATE_KEY]\n",
            "PRIVATE_KEY",
        ),
        (f"see ghp_{A16}.", "see [REDACTED:GITHUB_PAT].", "GITHUB_PAT"),
        (f"gho_{A16}", "[REDACTED:GITHUB_OAUTH]", "GITHUB_OAUTH"),
        (f"ghs_{A16}", "[REDACTED:GITHUB_APP_SERVER_TOKEN]", "GITHUB_APP_SERVER_TOKEN"),
        (f"ghu_{A16}", "[REDACTED:GITHUB_USER_TOKEN]", "GITHUB_USER_TOKEN"),
        (f"ghr_{A16}", "[REDACTED:GITHUB_REFRESH_TOKEN]", "GITHUB_REFRESH_TOKEN"),
        (f"github_pat_{A16}_x", "[REDACTED:GITHUB_FINEGRAINED_PAT]", "GITHUB_FINEGRAINED_PAT"),
        (f"vc_{A16}", "[REDACTED:VERCEL_TOKEN]", "VERCEL_TOKEN"),
        ("id AKIAIOSFODNN7EXAMPLE,", "id [REDACTED:AWS_ACCESS_KEY_ID],", "AWS_ACCESS_KEY_ID"),
        (f"pplx-{A20}", "[REDACTED:PERPLEXITY_API_KEY]", "PERPLEXITY_API_KEY"),
        (f"key:sk-ant-{A16}", "key:[REDACTED:SK_TOKEN]", "SK_TOKEN"),
        ("ctx7_x", "[REDACTED:CTX7_TOKEN]", "CTX7_TOKEN"),
        ("blob " + "aB3/" * 8 + "x==", "blob [REDACTED:BASE64_BLOB]", "BASE64_BLOB"),
    ],
)
def test_each_secret_is_replaced_and_named(content: str, expected: str, label: str) -> None:
    report = redact_with_report(content)
    assert (report.content, report.labels) == (expected, (label,))
    assert redact(content) == expected


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "mysql", "mongodb", "mongodb+srv", "redis", "amqp", "amqps"]
)
@pytest.mark.parametrize("user", ["me", ""])
@pytest.mark.parametrize("password", ["pw", "p@w:/?"])
def test_database_urls_with_credentials(scheme: str, user: str, password: str) -> None:
    url = f"{scheme}://{user}:{password}@db.internal:5432/app?x=y"
    assert redact(f'at "{url}", then') == 'at "[REDACTED:DB_URL_WITH_CREDENTIALS]", then'


def test_labels_are_reported_once_each_in_rule_order() -> None:
    assert redact_with_report(f"sk-{A16} A_TOKEN=x sk-{A20}").labels == ("TOKEN", "SK_TOKEN")


@pytest.mark.parametrize(
    "content",
    [
        "",
        " \n\t",
        "the bearer of bad news carries a secret = nothing",
        "a risk-adjusted-returns-model and a task-management-systems plan",
        f"ghp_{A16[:15]} vc_{A16[:15]} sk-{A16[:15]} pplx-{A20[:19]} AKIAIOSFODNN7EXAMPL ctx7_",
        "550e8400-e29b-41d4-a716-446655440000 and 550e8400e29b41d4a716446655440000",
        "postgres://db.internal:5432/app and redis://localhost mail me@example.com",
        "_TOKEN=x A_TOKEN= \nA_TOKENS=x A_TOKEN",
        "-----BEGIN PUBLIC KEY-----\nabc\n-----END PUBLIC KEY-----",
        "-----BEGIN PRIVATE KEY-----\nabc\n",
        "naïve café 日本語 🙂 \x00 \ud800",
        "[MEMORY id=550e8400-e29b-41d4-a716-446655440000 scope=GLOBAL from=]: text",
    ],
)
def test_what_is_no_secret_stays_as_it_is(content: str) -> None:
    report = redact_with_report(content)
    assert (report.content, report.labels) == (content, ())


@pytest.mark.parametrize("label", LABELS)
def test_a_marker_is_never_redacted_again(label: str) -> None:
    marker = f"[REDACTED:{label}]"
    for content in (
        marker,
        f"A_TOKEN={marker}",
        f'A_SECRET="{marker}"',
        f"Bearer {marker}",
        f"postgres://u:{marker}@host/db",
        marker * 3,
        f"-----BEGIN PRIVATE KEY-----{marker}-----END PRIVATE KEY-----",
    ):
        assert redact_with_report(content).content == content


FRAGMENTS = st.sampled_from(
    [
        "A_API_KEY", "b_token", "C_Secret", "=", "==", " ", "\n", "\t", '"', "'", "`", ")", "]", "[", "}", ",", ".",
        ";", "&",
        "Bearer", "bearer", "Bearer ", "-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "-----BEGIN ",
        "-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----", "PRIVATE KEY", "-----", "-",
        "postgres", "postgres://", "redis://", "mongodb+srv://", "amqps", "://", ":", "@", "/", "+", "u:p@", "_",
        "ghp_", "gho_", "ghs_", "ghu_", "ghr_", "github_pat_", "vc_", "AKIA", "pplx-", "sk-", "ctx7_", A16, A20,
        "IOSFODNN7EXAMPLE", "a" * 32, "Z" * 33, "a", "é", "ſ", "日", "🙂", "\u2028",
        "[REDACTED:TOKEN]", "[REDACTED:", "[REDACTED:NOPE]", "REDACTED", "TOKEN]", "[MEMORY ",
    ]
)  # fmt: skip


@given(st.lists(st.one_of(FRAGMENTS, st.text(max_size=3)), max_size=14).map("".join))
@settings(max_examples=1500, deadline=None)
@example('A_TOKEN=="[REDACTED:TOKEN]')
@example("A_TOKEN==")
@example(f"AKIAIOSFODNN7EXAMPLEsk-{A16}")
@example(f"Bearer A_TOKEN=sk-{A16} ghp_{A16}")
@example(f"sk-ghp_{A16}ghp_{A16}")
@example(f"{'a' * 33}==sk-{A16}")
def test_a_second_pass_changes_nothing(content: str) -> None:
    once = redact(content)
    again = redact_with_report(once)
    assert (again.content, again.labels) == (once, ())


HOSTILE = [
    "A_", "_TOKEN", "A_API_KEY", "A_TOKEN=", 'A_TOKEN="', "A_TOKEN='\n", "a_secret=)", "A_TOKEN = ", "_", "=",
    "A_TOKEN=-----BEGIN PRIVATE KEY-----\n", "A_TOKEN" + " " * 99, "Bearer ", "bearer ", "Bearer" + " " * 99,
    "-----BEGIN PRIVATE KEY-----", "-----BEGIN OPENSSH PRIVATE KEY-----", "-----BEGIN ", "-----END PRIVATE KEY-----",
    "-----BEGIN " + "A " * 99, "-", "PRIVATE KEY-----END ", "postgres://", "postgres://u:", "postgres://u:p@ ",
    "postgres+a", "postgres://a", "redis://:", "@", ":", "sk-", "sk-" + A16 + " ", "ghp_", "github_pat_", "vc_",
    "AKIA", "pplx-", "ctx7_", "a", "a" * 32 + " ", "a" * 32 + "-", "a" * 33 + "=", "[REDACTED:TOKEN]", "[REDACTED:",
    " ", "\n", "🙂", "é",
]  # fmt: skip
ONCE = ["A_TOKEN=", 'A_TOKEN="', "Bearer ", "-----BEGIN ", "postgres://", "postgres://u:", "postgres+", "sk-"]
FILLERS = [")", " ", "=", "a", "A ", '"', "-", ":"]


def _best_time(content: str) -> float:
    """CPU seconds of this thread for one call, the least of several: what the work needs without disturbance."""
    best = float("inf")
    for _ in range(4):
        began = time.thread_time()
        redact(content)
        best = min(best, time.thread_time() - began)
    return best


def _assert_linear(small: str, large: str) -> None:
    # Four times the input: linear work takes four times as long, quadratic sixteen times. A few repeats separate a
    # disturbed measurement from a rule that really went quadratic, which no repeat can save.
    ratios: list[float] = []
    for _ in range(4):
        ratios.append(_best_time(large) / max(_best_time(small), 5e-5))
        if ratios[-1] < 9:
            return
    pytest.fail(f"four times the input took {min(ratios):.1f} times the work")


@pytest.mark.parametrize("shape", HOSTILE, ids=repr)
def test_repeated_hostile_shapes_take_linear_work(shape: str) -> None:
    # 16 KB against 64 KB: enough to tell, and a quadratic rule still ends soon enough to be reported.
    repeats = (1 << 14) // len(shape)
    _assert_linear(shape * repeats, shape * (repeats * 4))


@pytest.mark.parametrize("filler", FILLERS, ids=repr)
@pytest.mark.parametrize("head", ONCE, ids=repr)
def test_one_opening_and_a_long_tail_take_linear_work(head: str, filler: str) -> None:
    repeats = (1 << 14) // len(filler)
    _assert_linear(head + filler * repeats, head + filler * (repeats * 4))


@pytest.mark.parametrize("shape", HOSTILE, ids=repr)
def test_a_hostile_megabyte_is_redacted_idempotently(shape: str) -> None:
    once = redact(shape * ((1 << 20) // len(shape)))
    assert redact(once) == once
