"""What the contract answers to what is not the contract: shapes, routes, methods (domain §3)."""

import asyncio
from uuid import uuid4

import httpx
import pytest

from tests.contract.test_namespaces import assert_error

BODIES = {
    "empty": b"",
    "cut": b'{"content": "a',
    "not JSON": b"content=a&kind=fact",
    "an array": b"[]",
    "a string": b'"x"',
    "null": b"null",
    "not UTF-8": b'{"content": "\xff\xfe"}',
    "two values": b"{} {}",
    "NaN": b'{"content": "x", "kind": "fact", "source": "agent", "embedding": NaN}',
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES.keys())
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/namespaces/{namespace}/memories"),
        ("POST", "/v1/search"),
        ("PUT", "/v1/namespaces/{namespace}"),
        ("PATCH", "/v1/namespaces/{namespace}"),
        ("DELETE", "/v1/memories/{id}"),
    ],
)
async def test_malformed_bodies(http: httpx.AsyncClient, namespace: str, method: str, path: str, body: bytes) -> None:
    target = path.format(namespace=namespace, id=uuid4())
    answer = await http.request(method, target, content=body, headers={"content-type": "application/json"})
    assert_error(answer, 400, "bad_request")


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/v2/search", "/v1/memories", "/v1/namespaces/a:b/nothing", "/v1/search/deeper", "/healthz"]
)
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE"])
async def test_unknown_routes(http: httpx.AsyncClient, method: str, path: str) -> None:
    assert_error(await http.request(method, path), 404, "not_found")


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/v1/health"),
        ("GET", "/v1/search"),
        ("GET", "/v1/namespaces/{namespace}/memories"),
        ("PUT", "/v1/namespaces/{namespace}/memories"),
        ("POST", "/v1/namespaces/{namespace}"),
        ("GET", "/v1/memories/{id}"),
    ],
)
async def test_wrong_methods(http: httpx.AsyncClient, namespace: str, method: str, path: str) -> None:
    answer = await http.request(method, path.format(namespace=namespace, id=uuid4()))
    assert_error(answer, 405, "bad_request")


async def test_a_lone_surrogate_is_refused_or_stored_but_never_an_outage(
    http: httpx.AsyncClient, namespace: str
) -> None:
    body = b'{"content": "half a pair \\ud800", "kind": "fact", "source": "agent"}'
    answer = await http.post(f"/v1/namespaces/{namespace}/memories", content=body)
    assert answer.status_code in (201, 400)
    assert (await http.get("/v1/health")).status_code == 200


async def test_bad_requests_do_not_disturb_the_others_on_the_connection(
    http: httpx.AsyncClient, namespace: str
) -> None:
    good = {"content": "fine", "kind": "fact", "source": "agent"}
    path = f"/v1/namespaces/{namespace}/memories"
    answers = await asyncio.gather(
        *(http.post(path, json=good) if number % 2 else http.post(path, content=b"{") for number in range(40))
    )
    assert [answer.status_code for answer in answers] == [400, 201] * 20
