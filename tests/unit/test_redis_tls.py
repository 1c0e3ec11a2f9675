"""rediss:// speaks TLS and believes no certificate that it was not told to."""

import os
import select
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Session, Verdict
from cicely.errors import ConfigError, EngineError
from redis_server import shared_server
from tls_proxy import TlsProxy


@pytest.fixture
def proxied(tmp_path: Path) -> Iterator[Callable[..., TlsProxy]]:
    """Make proxies in front of the shared server."""
    proxies: list[TlsProxy] = []

    def make(**settings: bool) -> TlsProxy:
        proxies.append(TlsProxy(tmp_path, shared_server().port, **settings))
        return proxies[-1]

    yield make
    for proxy in proxies:
        proxy.close()
    shared_server().tell("FLUSHALL")


def url(proxy: TlsProxy, *, host: str = "127.0.0.1", **options: str) -> str:
    words = "&".join(f"{name}={value}" for name, value in {"durability": "none", **options}.items())
    return f"rediss://{host}:{proxy.port}/0?{words}"


def test_a_job_lives_its_life_over_tls(proxied: Callable[..., TlsProxy]) -> None:
    proxy = proxied()
    engine = connect(url(proxy, tls_ca=proxy.authority))
    engine.open()
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    bell = engine.doorbell("s")
    bell.arm()

    engine.enqueue([NewJob(id="a", task="work", kind=Kind.SYNC, queue="main", body=bytes(900_000))])

    assert select.select([bell.fileno()], [], [], 5.0)[0]
    bell.disarm()
    [claim] = engine.claim("s", Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), 1),))).claims
    assert len(claim.body) == 900_000
    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.ACCEPTED,)
    bell.close()
    engine.close()


def test_an_authority_that_nobody_named_is_not_trusted(proxied: Callable[..., TlsProxy]) -> None:
    with pytest.raises(EngineError, match=r"is not trusted .* name the file of its authority as tls_ca="):
        connect(url(proxied())).open()


def test_another_hosts_certificate_is_not_trusted(proxied: Callable[..., TlsProxy]) -> None:
    proxy = proxied()

    with pytest.raises(EngineError, match="is not trusted"):
        connect(url(proxy, host="localhost", tls_ca=proxy.authority)).open()


def test_a_server_may_ask_for_a_certificate(proxied: Callable[..., TlsProxy]) -> None:
    proxy = proxied(asks_for_certificate=True)
    engine = connect(url(proxy, tls_ca=proxy.authority, tls_cert=proxy.certificate, tls_key=proxy.key))
    engine.open()

    assert engine.queues() == []
    engine.close()


def test_a_missing_certificate_is_said_to_be_missing(proxied: Callable[..., TlsProxy]) -> None:
    proxy = proxied(asks_for_certificate=True)

    with pytest.raises(EngineError, match="asks for a certificate of ours; name its file as tls_cert="):
        connect(url(proxy, tls_ca=proxy.authority)).open()


@pytest.mark.parametrize("option", ["tls_ca", "tls_cert"])
def test_a_file_that_is_not_there_is_named(proxied: Callable[..., TlsProxy], option: str) -> None:
    with pytest.raises(ConfigError, match=f"{option}=/nowhere.pem"):
        connect(url(proxied(), **{option: "/nowhere.pem"})).open()
