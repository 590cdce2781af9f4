"""Our OpenAPI document against the real daemon: what it promises holds for valid and for hostile requests.

Examples are bounded and the same in every run. Embeddings are left to their own tests: a valid one is 1536 numbers,
which is more than a generator will make up.
"""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import schemathesis
import yaml
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import Case, GenerationMode
from schemathesis.checks import CHECKS, load_all_checks
from schemathesis.core.result import Ok

from cutover.embedded.postgres import EmbeddedPostgres
from tests.served import served

pytestmark = pytest.mark.acceptance

DOCUMENT = Path(__file__).parents[2] / "docs" / "openapi" / "plugin-face.yaml"
EXAMPLES = 40
WORKSPACE = "0b5e9c1e-5a0f-4c5e-9d4b-0a1b2c3d4e5f"
CHECKED = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
    "allow_header_conformance",
)
# Valid by schema is not valid by sense: a namespace of no workspace, an expiry at the end of time. So acceptance of
# generated data is not checked; the contract suite has the calls that must succeed.


def document() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load(DOCUMENT.read_text(encoding="utf-8"))
    for body in ("Commit", "Search"):
        loaded["components"]["schemas"][body]["properties"]["embedding"] = {"type": "null"}
    return loaded


SCHEMA = schemathesis.openapi.from_dict(document())
OPERATIONS = [found.ok() for found in SCHEMA.get_all_operations() if isinstance(found, Ok)]


@pytest.fixture(scope="module", params=["A0", "A1"])
def face_url(request: pytest.FixtureRequest, postgres: EmbeddedPostgres) -> Iterator[str]:
    """The plugin face of a running daemon in that phase, with one workspace."""
    with served(postgres, request.param) as running:
        insert = "INSERT INTO workspaces (id, name, status) VALUES ($1, 'one', 'online')"
        asyncio.run(running.execute(insert, WORKSPACE))
        yield running.daemon.at.plugin


# Health takes no input, so there is nothing to get wrong.
CASES = [
    pytest.param(operation, mode, id=f"{operation.method} {operation.path} {mode.value}")
    for operation in OPERATIONS
    for mode in GenerationMode
    if mode is GenerationMode.POSITIVE or operation.path != "/v1/health"
]


def requests_of(operation: Any, mode: GenerationMode) -> SearchStrategy[Case[Any]]:
    """Generated requests; half of those about a namespace are about one that there is."""
    anywhere: SearchStrategy[Case[Any]] = operation.as_strategy(generation_mode=mode)
    if "{name}" not in operation.path:
        return anywhere
    here: SearchStrategy[Case[Any]] = operation.as_strategy(
        generation_mode=mode, path_parameters={"name": f"workspace:{WORKSPACE}"}
    )
    return anywhere | here


@pytest.mark.parametrize(("operation", "mode"), CASES)
def test_the_document_is_kept(face_url: str, operation: Any, mode: GenerationMode) -> None:
    load_all_checks()
    checks: list[Any] = CHECKS.get_by_names(list(CHECKED))
    answered = 0

    with requests.Session() as session:

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.generate,),
            suppress_health_check=list(HealthCheck),
        )
        @given(case=requests_of(operation, mode))
        def check(case: Case[Any]) -> None:
            nonlocal answered
            response = case.call(base_url=face_url, session=session, timeout=10)
            answered += 1
            case.validate_response(response, checks=checks)

        check()
    assert answered > 0
