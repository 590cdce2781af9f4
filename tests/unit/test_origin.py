"""Whose requests the ops face takes: by the names, the origins and the sites that they tell of."""

from typing import Any

import pytest

from cutover.domain.errors import Forbidden
from cutover.http.origin import refuse_foreign

NAMED = {"hosts": ("cutover.example.com", ".svc.cluster.local")}
CURL: dict[str, Any] = {"host": "127.0.0.1:9202", "origin": None, "site": None, "hosts": ()}


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("POST", {}),
        ("POST", {"host": ""}),
        ("POST", {"host": "localhost:9202"}),
        ("POST", {"host": "LocalHost."}),
        ("POST", {"host": "[::1]:9202"}),
        ("GET", {"host": "cutover:9202"}),
        ("GET", {"host": "10.0.0.4:9202"}),
        ("GET", {"host": "[fd00::7]:9202"}),
        ("POST", {"host": "cutover.example.com", **NAMED}),
        ("GET", {"host": "Cutover.Example.com:443", **NAMED}),
        ("GET", {"host": "cutover.ops.svc.cluster.local:9202", **NAMED}),
        ("POST", {"host": "cutover.example.com", "hosts": None}),
        ("POST", {"origin": "http://127.0.0.1:9202", "site": "same-origin"}),
        ("POST", {"origin": "http://127.0.0.1:9202"}),
        ("POST", {"origin": "https://cutover.example.com", "site": "same-origin"}),
        ("GET", {"origin": "https://elsewhere.example", "site": "cross-site"}),
    ],
    ids=str,
)
def test_the_own_page_curl_a_scraper_and_a_proxy_are_taken(method: str, changes: dict[str, Any]) -> None:
    refuse_foreign(method, **(CURL | changes))


@pytest.mark.parametrize(
    ("method", "changes"),
    [
        ("GET", {"host": "evil.example:9202"}),
        ("GET", {"host": "evil.example:9202", **NAMED}),
        ("GET", {"host": "cutover.example.com.evil.example", **NAMED}),
        ("GET", {"host": "evilsvc.cluster.local", **NAMED}),
        ("POST", {"host": "evil.example:9202", "origin": "http://evil.example:9202", "site": "same-origin"}),
        ("GET", {"host": "127.0.0.1.evil.example"}),
        ("GET", {"host": "["}),
        ("GET", {"host": ":9202@evil.example"}),
        ("POST", {"origin": "https://evil.example"}),
        ("POST", {"origin": "http://["}),
        ("POST", {"origin": "null"}),
        ("POST", {"origin": "http://127.0.0.1:9999"}),
        ("POST", {"origin": "http://127.0.0.1:9202", "site": "cross-site"}),
        ("POST", {"site": "same-site"}),
    ],
    ids=str,
)
def test_a_foreign_page_may_not_and_neither_may_a_name_that_was_pointed_here(
    method: str, changes: dict[str, Any]
) -> None:
    with pytest.raises(Forbidden) as refused:
        refuse_foreign(method, **(CURL | changes))
    assert refused.value.next_step
