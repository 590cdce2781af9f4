"""Our client against every implementation of the contract."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from cutover.domain.errors import PluginFault, PluginMisspoke, PluginRejected
from cutover.domain.memory import Kind, PluginCommit, Source
from cutover.domain.requests import PutNamespace
from cutover.stores.plugin import NAMESPACE_MISSING, PluginClient
from tests.contract.conftest import NamespaceFactory
from tests.contract.implementations import Running


def _commit(namespace: str, content: str = "words") -> PluginCommit:
    return PluginCommit(uuid4(), namespace, content)


async def test_health(client: PluginClient) -> None:
    health = await client.health(timeout=5)
    assert health.status in ("ok", "degraded")
    assert health.version.startswith("1.")
    assert "fts" in health.capabilities


async def test_a_memory_goes_there_and_back(client: PluginClient, namespace: str) -> None:
    commit = PluginCommit(
        uuid4(),
        namespace,
        "Größe 🐘 \u2028",
        Kind.SUMMARY,
        Source.RUNTIME,
        datetime(2999, 1, 2, 3, 4, 5, 678, tzinfo=UTC),
        {"cutover": {"created_at": None}},
        True,
        (1.0,) + (0.0,) * 1535,
    )
    await client.commit(commit, timeout=5)
    for found in (
        await client.search([namespace], timeout=5),
        await client.search([namespace], kinds=[Kind.SUMMARY], embedding=commit.embedding, timeout=5),
    ):
        (memory,) = found
        assert (memory.id, memory.namespace, memory.content) == (commit.id, namespace, commit.content)
        assert (memory.kind, memory.source, memory.pin) == (commit.kind, commit.source, True)
        assert (memory.expires_at, memory.propagation) == (commit.expires_at, commit.propagation)
    await client.forget(commit.id, namespace, timeout=5)
    assert await client.search([namespace], timeout=5) == []
    with pytest.raises(PluginRejected) as caught:
        await client.forget(commit.id, namespace, timeout=5)
    assert (caught.value.http_status, caught.value.plugin_code) == (404, "not_found")


async def test_namespaces(client: PluginClient, namespace_factory: NamespaceFactory) -> None:
    name = await namespace_factory("custom", put=False)
    expires = datetime(2999, 1, 1, tzinfo=UTC)
    put = await client.put_namespace(name, "custom", expires, {"a": 1}, timeout=5)
    assert (put.name, put.kind, put.expires_at, put.metadata) == (name, "custom", expires, {"a": 1})
    patched = await client.patch_namespace(name, metadata={"b": 2}, timeout=5)
    assert (patched.expires_at, patched.metadata, patched.created_at) == (expires, {"b": 2}, put.created_at)
    await client.delete_namespace(name, timeout=5)
    with pytest.raises(PluginRejected) as caught:
        await client.delete_namespace(name, timeout=5)
    assert caught.value.http_status == 404


async def test_rejections_carry_the_plugins_words(client: PluginClient, namespace: str) -> None:
    with pytest.raises(PluginRejected) as caught:
        await client.commit(_commit(namespace, "  "), timeout=5)
    assert (caught.value.http_status, caught.value.plugin_code) == (400, "bad_request")
    assert caught.value.message
    assert not caught.value.ambiguous


async def test_a_commit_into_an_unknown_namespace_is_a_definite_fault(
    plugin: Running, client: PluginClient, namespace_factory: NamespaceFactory
) -> None:
    if plugin.puts_namespaces:
        await client.commit(_commit(await namespace_factory("custom", put=False)), timeout=5)
        return
    with pytest.raises(PluginFault, match=NAMESPACE_MISSING) as caught:
        await client.commit(_commit(await namespace_factory("custom", put=False)), timeout=5)
    assert not caught.value.ambiguous


async def test_ensure_puts_once_and_shares_the_put(client: PluginClient, namespace_factory: NamespaceFactory) -> None:
    name = await namespace_factory("custom", put=False)
    looked_up = 0

    async def definition() -> PutNamespace:
        nonlocal looked_up
        looked_up += 1
        return PutNamespace(name, "custom", None, {"asked": looked_up})

    assert not client.knows_namespace(name)
    await asyncio.gather(*(client.ensure_namespace(name, definition, timeout=5) for _ in range(20)))
    await client.ensure_namespace(name, definition, timeout=5)
    assert looked_up == 1
    assert client.knows_namespace(name)
    client.forget_known_namespace(name)
    await client.ensure_namespace(name, definition, timeout=5)
    assert looked_up == 2


async def test_ensuring_puts_the_exact_definition(client: PluginClient, namespace_factory: NamespaceFactory) -> None:
    name = await namespace_factory("custom", put=False)
    expires = datetime(2999, 1, 1, tzinfo=UTC)
    await client.ensure_namespace(name, PutNamespace(name, "custom", expires, {"kept": 1}), timeout=5)
    seen = await client.patch_namespace(name, metadata={"kept": 2}, timeout=5)
    assert (seen.kind, seen.expires_at) == ("custom", expires)


async def test_a_namespace_lost_behind_our_back_is_put_again(
    client: PluginClient, plugin_url: str, namespace_factory: NamespaceFactory
) -> None:
    name = await namespace_factory("custom", put=False)
    definition = PutNamespace(name, "custom")
    await client.commit_ensuring_namespace(_commit(name), definition, timeout=5)
    async with PluginClient(plugin_url) as other:
        await other.delete_namespace(name, timeout=5)
    assert client.knows_namespace(name)
    commit = _commit(name)
    await client.commit_ensuring_namespace(commit, definition, timeout=5)
    assert [memory.id for memory in await client.search([name], timeout=5)] == [commit.id]


async def test_deleting_a_namespace_forgets_it(client: PluginClient, namespace_factory: NamespaceFactory) -> None:
    name = await namespace_factory("custom", put=False)
    await client.put_namespace(name, "custom", timeout=5)
    assert client.knows_namespace(name)
    await client.delete_namespace(name, timeout=5)
    assert not client.knows_namespace(name)


async def test_an_answer_over_the_limit_is_cut_off(plugin_url: str, namespace: str) -> None:
    async with PluginClient(plugin_url, max_response=1000) as small:
        await small.commit(_commit(namespace, "many words " * 500), timeout=5)
        with pytest.raises(PluginMisspoke, match="larger than 1000 bytes"):
            await small.search([namespace], timeout=5)
