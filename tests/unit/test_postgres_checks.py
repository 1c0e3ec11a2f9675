"""`cicely doctor` looks at the server: settings that lose jobs, and what keeps dead rows alive."""

import os
from collections.abc import Iterator

import psycopg
import pytest

from cicely.engines.checks import Check, CheckVerdict, Examined
from cicely.engines.postgres import examination
from cicely.engines.postgres.engine import PostgresEngine
from cicely.testing.postgres_server import DATABASE, PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    server = PostgresServer(max_prepared_transactions="2")
    try:
        server.start()
        yield server
    finally:
        server.destroy()


def checks(url: str) -> dict[str, Check]:
    engine = PostgresEngine(url)
    engine.open()
    try:
        assert isinstance(engine, Examined)
        return {check.name: check for check in engine.checks()}
    finally:
        engine.close()


def test_settings_that_lose_jobs_are_problems_with_a_remedy(server: PostgresServer) -> None:
    found = checks(server.url)
    for name in ("fsync", "full_page_writes"):
        assert found[name].verdict is CheckVerdict.BAD
        assert f"{name} = on" in found[name].remedy
    assert found["synchronous_commit"].value == "on (durability=power)"
    assert found["synchronous_commit"].verdict is CheckVerdict.OK


def test_what_is_as_it_should_be_has_no_remedy(server: PostgresServer) -> None:
    found = checks(f"{server.url}?durability=none")
    assert found["synchronous_commit"].value == "off (durability=none)"
    for name in (
        "server version",
        "autovacuum",
        "round trip",
        "dead rows",
        "prepared transactions",
        "pooler",
    ):
        assert found[name].verdict is CheckVerdict.OK, found[name]
        assert found[name].remedy == ""


def test_a_transaction_that_stays_open_is_named(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "_LONG_S", -1.0)
    with psycopg.connect(server.url, application_name="nightly report") as holder:
        holder.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        holder.execute("SELECT 1")
        found = checks(server.url)["oldest transaction"]
        assert found.verdict is CheckVerdict.WARN
        assert "nightly report" in found.value
        assert f"pg_terminate_backend({holder.info.backend_pid})" in found.remedy


def test_a_forgotten_prepared_transaction_is_named(
    server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(examination, "_LONG_S", -1.0)
    with psycopg.connect(server.url, autocommit=True) as holder:
        holder.execute("BEGIN; CREATE TABLE IF NOT EXISTS forgotten (); PREPARE TRANSACTION 'forgotten'")
        try:
            found = checks(server.url)["prepared transactions"]
        finally:
            holder.execute("ROLLBACK PREPARED 'forgotten'")
    assert found.verdict is CheckVerdict.WARN
    assert found.value.startswith("1,")
    assert "ROLLBACK PREPARED" in found.remedy


def test_a_user_who_may_see_little_is_told_what_is_unknown_and_the_rest(server: PostgresServer) -> None:
    user = f"u{os.urandom(4).hex()}"
    with psycopg.connect(server.url, autocommit=True) as owner:
        owner.execute(f"CREATE ROLE {user} LOGIN")
        owner.execute(f"GRANT CREATE ON DATABASE {DATABASE} TO {user}")
    found = checks(f"postgresql://{user}@127.0.0.1:{server.port}/{DATABASE}?schema={user}")
    assert found["autovacuum"].value == "on"
    assert found["oldest transaction"].verdict is CheckVerdict.OK


def test_behind_a_pooler_it_asks_in_one_transaction(server: PostgresServer) -> None:
    assert checks(f"{server.url}?pooler=transaction")["pooler"].value == "none seen, pooler=transaction"
