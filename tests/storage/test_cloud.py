"""Chroma Cloud, as far as it can be had offline: a proxy that enforces its quotas and its key before a real server."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from support_finder import texts
from support_gateway import Gateway
from support_remote import SCOPE, answers
from support_stores import ChromaServer

from engram_core import ChromaServer as Address
from engram_core import Engram, Quotas
from engram_core.domain.errors import IndexUnavailable, InvalidInput
from engram_core.ports import Point, VectorIndex
from engram_core.storage import chroma
from engram_core.storage.addresses import endpoint
from engram_core.testing.fakes import WordHashEmbedder, wait_until
from engram_core.testing.index_contract import IndexContract, clustered

KEY = "ck-the-secret-key-of-this-test"
LIMIT = 20
QUESTION = "red cat house"


def gate(server: ChromaServer, quotas: Quotas) -> Gateway:
    return Gateway(server.port, quotas=quotas, key=KEY)


@pytest.fixture
def cloud(chroma_server: ChromaServer) -> Iterator[Gateway]:
    gateway = gate(chroma_server, Quotas())
    yield gateway
    gateway.close()


def address(gateway: Gateway, *, key: str | None = KEY, quotas: Quotas | None = None) -> Address:
    return Address(gateway.url, api_key=key, quotas=quotas or Quotas(), search_timeout=5.0)


def opened(url: str, gateway: Gateway, quotas: Quotas | None = None) -> Engram:
    index = address(gateway, quotas=quotas)
    return Engram.open(url, index=index, embedder=WordHashEmbedder(), exact_limit=LIMIT)


class TestChromaWithQuotas(IndexContract):
    """Every clause of an index holds behind the quotas, and no request was ever refused for one."""

    many = 12

    @pytest.fixture
    def open_index(self, cloud: Gateway) -> Iterator[Callable[[], VectorIndex]]:
        index = chroma.server(address(cloud))
        for name in index.names():
            index.drop(name)
        index.close()
        yield lambda: chroma.server(address(cloud))
        assert cloud.denied == []


def test_a_store_behind_quotas_and_overload(sqlite_url: str, cloud: Gateway) -> None:
    cloud.often = 7
    with opened(sqlite_url, cloud) as engram:
        memory = engram.memory(SCOPE)
        memory.add(texts(700))
        assert engram.flush()
        assert engram.doctor()["problems"] == []
        cloud.often = 0
        recall = memory.recall(QUESTION, k=8)
        assert not recall.degraded
        with Engram.open(sqlite_url, index="exact", embedder=WordHashEmbedder(), exact_limit=10_000) as exact:
            assert answers(recall) == answers(exact.memory(SCOPE).recall(QUESTION, k=8))
        assert memory.recall(QUESTION, k=300, max_tokens=10**6).facts
    assert cloud.denied == []
    assert cloud.seen["add"] >= 4


def test_ten_requests_at_once_for_a_collection(cloud: Gateway) -> None:
    index = chroma.server(address(cloud))
    vectors = clustered(64)
    index.create("engram-cloud-1", vectors.shape[1])
    index.put("engram-cloud-1", [Point(f"id-{row}", vector) for row, vector in enumerate(vectors)])
    cloud.mode, cloud.delay, cloud.only = "slow", 0.05, "query"
    found: list[str] = []

    def ask(row: int) -> None:
        found.append((index.search("engram-cloud-1", vectors[row], 1)[0].id == f"id-{row}" and "right") or "wrong")

    threads = [threading.Thread(target=ask, args=(row,)) for row in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == ["right"] * 40
    assert cloud.denied == []
    assert cloud.together["read"] <= 10
    index.drop("engram-cloud-1")
    index.close()


def test_a_scope_that_outgrows_a_collection_is_searched_exactly_and_said(
    sqlite_url: str, chroma_server: ChromaServer
) -> None:
    quotas = Quotas(collection_records=100)
    gateway = gate(chroma_server, quotas)
    try:
        with opened(sqlite_url, gateway, quotas) as engram:
            memory = engram.memory(SCOPE)
            memory.add(texts(90))
            assert engram.flush()
            assert not memory.recall(QUESTION).degraded
            memory.add(texts(40, start=1_000))
            assert engram.flush()
            recall = memory.recall(QUESTION, k=8)
            assert recall.degraded
            with Engram.open(sqlite_url, index="exact", embedder=WordHashEmbedder(), exact_limit=10_000) as exact:
                assert answers(recall) == answers(exact.memory(SCOPE).recall(QUESTION, k=8))
            (problem,) = engram.doctor()["problems"]
            assert "takes 100 records at most" in problem
            assert f"{SCOPE} (130 facts)" in problem
            assert "Split them" in problem
            assert engram.doctor()["index"]["collections"] == 0
            for fact in memory.list()[:60]:
                memory.forget(fact.id)
            assert engram.flush()
            assert wait_until(lambda: not memory.recall(QUESTION).degraded, seconds=20, every=0.1)
            assert engram.doctor()["problems"] == []
    finally:
        gateway.close()


def test_the_key_is_asked_for_and_never_told(sqlite_url: str, cloud: Gateway, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = "ck-a-wrong-key-that-is-secret-too"
    with pytest.raises(IndexUnavailable) as refused:
        chroma.server(address(cloud, key=wrong))
    assert wrong not in str(refused.value)
    index = Address(cloud.url, api_key=wrong, headers={"X-Other": "another-secret"}, quotas=Quotas())
    assert wrong not in repr(index) + repr(endpoint(index).shown)
    with Engram.open(sqlite_url, index=index, embedder=WordHashEmbedder(), exact_limit=LIMIT) as engram:
        engram.memory(SCOPE).add(texts(40))
        assert engram.memory(SCOPE).recall(QUESTION).degraded
        assert not engram.flush(3)
        assert engram.doctor()["problems"]
        told = repr(engram.doctor()) + repr(engram.context.ledger.generations()) + caplog.text
        assert wrong not in told
        assert "another-secret" not in told
    with opened(sqlite_url, cloud) as engram:
        assert engram.flush()
        assert not engram.memory(SCOPE).recall(QUESTION).degraded


def test_addresses_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CHROMA_API_KEY", "CHROMA_TENANT", "CHROMA_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(InvalidInput, match="set CHROMA_API_KEY"):
        endpoint("chroma-cloud://acme/memory")
    monkeypatch.setenv("CHROMA_API_KEY", KEY)
    for written in ("chroma-cloud://acme/memory", "https://api.trychroma.com?tenant=acme&database=memory"):
        found = endpoint(written)
        assert (found.base, found.tenant, found.database) == ("https://api.trychroma.com:443", "acme", "memory")
        assert found.headers == {"X-Chroma-Token": KEY}
        assert found.quotas == Quotas()
        assert KEY not in found.shown
    with pytest.raises(InvalidInput, match="needs a tenant and a database"):
        endpoint("chroma-cloud://")
    monkeypatch.setenv("CHROMA_TENANT", "acme")
    monkeypatch.setenv("CHROMA_DATABASE", "memory")
    assert endpoint("chroma-cloud://").tenant == "acme"
    own = endpoint(Address("https://chroma.internal", headers={"Authorization": "Basic x"}, tenant="acme-tenant"))
    assert (own.base, own.tenant, own.database, own.quotas) == (
        "https://chroma.internal:443", "acme-tenant", "default_database", None,
    )  # fmt: skip
    assert endpoint("http://[::1]:9000").base == "http://[::1]:9000"
    assert endpoint("http://127.0.0.1:8000").shown == "http://127.0.0.1:8000"
    for wrong, why in {
        "http://me:pass@host:1": "holds no credentials",
        "http://host?api_key=x": "A key belongs into ChromaServer",
        "http://host?colour=red": "not colour=",
        "ftp://host": "must look like",
        "http://host:99999999": "no such port",
    }.items():
        with pytest.raises(InvalidInput, match=why) as caught:
            endpoint(wrong)
        assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"records": 0}, {"reads": -1}, {"results": 1.5}, {"search_timeout": 0}, {"timeout": 10_000}, {"timeout": "x"}],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidInput, match=next(iter(wrong))):
        Quotas(**wrong) if next(iter(wrong)) in Quotas.__slots__ else Address("http://host", **wrong)  # type: ignore[arg-type]


def test_an_id_that_is_too_long_is_refused(cloud: Gateway) -> None:
    index = chroma.server(address(cloud))
    index.create("engram-cloud-2", 4)
    with pytest.raises(InvalidInput, match="more than 128 bytes"):
        index.put("engram-cloud-2", [Point("é" * 65, np.ones(4, dtype=np.float32))])
    index.drop("engram-cloud-2")
    index.close()
    assert cloud.denied == []
