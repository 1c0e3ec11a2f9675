"""The tables have a version: older ones are brought forward, newer ones left alone."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner

from cicely.cli.main import cli
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Verdict
from cicely.engines.postgres.engine import PostgresEngine
from cicely.engines.postgres.schema import SCHEMA_VERSION
from cicely.errors import EngineError, SchemaTooNew, SchemaTooOld
from cicely.testing.conformance.bench import counts, look, session, take
from cicely.testing.postgres_server import PostgresServer

FIRST = (Path(__file__).with_name("postgres_schema_1.sql")).read_bytes()

#: A queue with one job that is ready and one that runs, as the first version kept them.
CONTENT = b"""
INSERT INTO queue (name) VALUES ('main');
INSERT INTO class (task, kind) VALUES ('work', 'sync');
INSERT INTO session (key, facts, lease_s, joined_at, beat_at)
VALUES ('gone', '{"id":"gone","worker":"gone"}', 30, 0, 0);
INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, ageing_s, keep_s, keep_failed_s,
                 remember_s, max_receives, options, body)
SELECT nextval('job_n'), id, 1, 1, '', 5, 7, 1.0, 0, 60, 60, 0, 0, '', 'body'
FROM unnest('{a,b}'::text[]) AS i (id);
INSERT INTO ready (queue, lane, class, rank, n) VALUES (1, '', 1, 7, 1);
INSERT INTO run (n, session, request, fence, claimed_at) VALUES (2, 1, '12345678', 1, 2.0);
INSERT INTO counter VALUES (1, 0, 1, 0, 0, 0, 0, 0);
INSERT INTO delta (queue, running) VALUES (1, 1);
"""

#: Two more of a lane of their own.
LANED = b"""
INSERT INTO job (n, id, class, queue, lane, priority, rank, created_at, ageing_s, keep_s, keep_failed_s,
                 remember_s, max_receives, options, body)
SELECT nextval('job_n'), id, 1, 1, 'x', 5, 8, 1.0, 0, 60, 60, 0, 0, '', 'body'
FROM unnest('{x1,x2}'::text[]) AS i (id);
INSERT INTO ready (queue, lane, class, rank, n) VALUES (1, 'x', 1, 8, 3), (1, 'x', 1, 8, 4);
"""

STRUCTURE = """
SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
FROM information_schema.columns WHERE table_schema = %(schema)s
UNION ALL
SELECT tablename, indexname, replace(indexdef, %(schema)s, ''), '', '', '' FROM pg_indexes
WHERE schemaname = %(schema)s
UNION ALL
SELECT sequencename, min_value::text, max_value::text, start_value::text, '', '' FROM pg_sequences
WHERE schemaname = %(schema)s
UNION ALL
SELECT relname, array_to_string(reloptions, ' '), relkind::text, relpersistence::text, '', '' FROM pg_class
WHERE relnamespace = %(schema)s::regnamespace AND relkind IN ('r', 'p')
"""


@pytest.fixture
def place(server: PostgresServer, request: pytest.FixtureRequest) -> str:
    """Return the URL of a schema of the first version, of this test alone."""
    schema = f"s{abs(hash(request.node.name)) % 10**12}"
    with psycopg.connect(server.url, autocommit=True) as connection:
        connection.execute(f"CREATE SCHEMA {schema}; SET search_path TO {schema}")
        connection.execute(FIRST)
        connection.execute("INSERT INTO meta VALUES (1)")
        connection.execute(CONTENT)
    return f"{server.url}?schema={schema}"


def version_of(url: str) -> int:
    plain, _, schema = url.partition("?schema=")
    with psycopg.connect(plain) as connection:
        row = connection.execute(f"SELECT version FROM {schema}.meta").fetchone()
    assert row is not None
    return int(row[0])


def structure_of(url: str) -> set[Any]:
    plain, _, schema = url.partition("?schema=")
    with psycopg.connect(plain) as connection:
        return {
            tuple("" if one is None else str(one).replace(f"{schema}.", "") for one in row)
            for row in connection.execute(STRUCTURE, {"schema": schema}).fetchall()
        }


def test_an_older_schema_is_refused_with_the_command_that_helps(place: str) -> None:
    with pytest.raises(SchemaTooOld, match=r"schema 1; this one needs .*cicely migrate"):
        PostgresEngine(place).open()
    assert version_of(place) == 1


def test_a_command_that_meets_an_older_schema_ends_with_a_code_of_its_own(place: str) -> None:
    ended = CliRunner().invoke(cli, ["queues", "--url", place])
    assert ended.exit_code == 3
    assert "cicely migrate" in ended.output


def test_migrating_keeps_the_jobs_where_they_stand(place: str) -> None:
    engine = PostgresEngine(place)
    assert engine.migrate().before == 1
    engine.open()
    assert look(engine, "a").state is State.READY
    assert look(engine, "b").state is State.RUNNING
    assert counts(engine)[State.READY] == counts(engine)[State.RUNNING] == 1
    engine.join(session(id="s"))
    [claim] = take(engine)
    assert claim.job_id == "a"
    assert engine.settle("s", [Succeeded(claim.token)]).verdicts == (Verdict.ACCEPTED,)
    engine.close()


def test_jobs_of_a_lane_share_their_queue_from_then_on(place: str) -> None:
    plain, _, schema = place.partition("?schema=")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"SET search_path TO {schema}")
        connection.execute(LANED)
    engine = PostgresEngine(place)
    engine.migrate()
    engine.open()
    engine.join(session(id="s"))

    assert [claim.job_id for claim in take(engine, 9)] == ["a", "x1", "x2"]
    assert look(engine, "x1").lane == "x"
    engine.close()


def test_a_migrated_schema_is_the_same_as_a_new_one(place: str) -> None:
    PostgresEngine(place).migrate()
    fresh = f"{place}_new"
    assert PostgresEngine(fresh).migrate().before == 0
    assert structure_of(place) == structure_of(fresh)


def test_ten_may_migrate_at_once(place: str) -> None:
    with ThreadPoolExecutor(10) as pool:
        done = list(pool.map(lambda _: PostgresEngine(place).migrate(), range(10)))
    assert sorted(one.before for one in done) == [1] + 9 * [SCHEMA_VERSION]
    assert version_of(place) == SCHEMA_VERSION


def test_ten_may_come_to_an_empty_database_at_once(place: str) -> None:
    def come(_: int) -> None:
        engine = PostgresEngine(f"{place}_empty")
        engine.open()
        engine.close()

    with ThreadPoolExecutor(10) as pool:
        list(pool.map(come, range(10)))
    assert version_of(f"{place}_empty") == SCHEMA_VERSION


def test_while_a_worker_is_up_nothing_is_changed(place: str) -> None:
    plain, _, schema = place.partition("?schema=")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"UPDATE {schema}.session SET beat_at = extract(epoch FROM clock_timestamp())")
    with pytest.raises(EngineError, match="1 sessions of workers are up"):
        PostgresEngine(place).migrate()
    assert version_of(place) == 1


def test_a_newer_schema_is_refused_by_both(place: str) -> None:
    plain, _, schema = place.partition("?schema=")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"UPDATE {schema}.meta SET version = 999")
    for refused in (PostgresEngine(place).migrate, PostgresEngine(place).open):
        with pytest.raises(SchemaTooNew, match="schema 999"):
            refused()


def test_the_command_says_what_it_did_and_does_nothing_twice(place: str) -> None:
    first = CliRunner().invoke(cli, ["migrate", "--url", place])
    assert f"Went from schema 1 to {SCHEMA_VERSION}" in first.output
    second = CliRunner().invoke(cli, ["migrate", "--url", place])
    assert second.output.startswith("Nothing to do")
    third = CliRunner().invoke(cli, ["migrate", "--url", place, "--json"])
    assert json.loads(third.output)["after"] == SCHEMA_VERSION
    assert first.exit_code == second.exit_code == third.exit_code == 0


def test_engines_without_a_schema_have_nothing_to_migrate(tmp_path: Path) -> None:
    for url in ("memory://", f"sqlite:///{tmp_path}/jobs.db"):
        Path(tmp_path / "jobs.db").touch()
        ended = CliRunner().invoke(cli, ["migrate", "--url", url])
        assert ended.exit_code == 0, ended.output
        assert ended.output.startswith("Nothing to do")
