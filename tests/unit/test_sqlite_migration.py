"""A file of an earlier schema is brought up to date when it is opened, whole or not at all."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import apsw
import pytest

from cicely.core.edge import Edge
from cicely.core.job import Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Save, Step
from cicely.engines.sqlite import place
from cicely.engines.sqlite.engine import SqliteEngine
from cicely.errors import EngineError

SCHEMA_1 = Path(__file__).with_name("sqlite_schema_1.sql")

#: The file was made at this instant.
MADE_AT = 1_700_000_000.0


class Clock:
    at = MADE_AT

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def path(tmp_path: Path) -> str:
    path = str(tmp_path / "jobs.db")
    connection = apsw.Connection(path)
    connection.execute("PRAGMA journal_mode=WAL").fetchall()
    connection.execute(SCHEMA_1.read_text(encoding="utf-8")).fetchall()
    connection.close()
    return path


def _job(job_id: str, **options) -> NewJob:
    return NewJob(id=job_id, **{"task": "work", "kind": Kind.SYNC, "queue": "main", **options})


def _take(engine: SqliteEngine, count: int):
    demand = Demand(os.urandom(8), ("main",), (Ask((Kind.SYNC,), count),))
    return engine.claim("s", demand).claims


def _version(path: str) -> int:
    connection = apsw.Connection(path)
    [(version,)] = connection.execute("PRAGMA user_version").fetchall()
    connection.close()
    return version


def _shape(path: str) -> dict[str, list[tuple]]:
    """The columns of every table and the parts of every index, in their order."""
    connection = apsw.Connection(path)
    names = connection.execute("SELECT type, name FROM sqlite_schema ORDER BY name").fetchall()
    pragmas = {"table": "table_info", "index": "index_xinfo"}
    shape = {n: connection.execute(f"PRAGMA {pragmas[t]}({n})").fetchall() for t, n in names}
    connection.close()
    return shape


def test_a_migrated_file_has_the_same_tables_as_a_new_one(path, tmp_path):
    SqliteEngine(path).open()
    new = str(tmp_path / "new.db")
    SqliteEngine(new).open()

    assert _version(path) == _version(new) == place.SCHEMA_VERSION
    assert _shape(path) == _shape(new)


def test_what_an_earlier_version_stored_is_there_and_goes_on(path):
    engine = SqliteEngine(path, now=Clock())
    shown = {
        found.id: found for found in engine.get(["succeeded", "failed", "running", "scheduled"]) if found
    }

    assert [job.state for job in shown.values()] == [
        State.SUCCEEDED,
        State.FAILED,
        State.RUNNING,
        State.SCHEDULED,
    ]
    assert (shown["succeeded"].result, shown["failed"].error) == (b"result", b"why")
    [main, _] = engine.queues()
    assert main.counts == {
        State.SCHEDULED: 1,
        State.READY: 4,
        State.RUNNING: 1,
        State.SUCCEEDED: 1,
        State.FAILED: 1,
        State.CANCELLED: 1,
    }
    claims = _take(engine, 9)
    assert [claim.job_id for claim in claims] == ["ready", "laned", "expiring", "unique"]
    engine.settle("s", [Succeeded(claim.token) for claim in claims])
    assert engine.steer("revive", ["failed", "cancelled"]) == ["failed", "cancelled"]
    assert engine.steer("cancel", ["scheduled"]) == ["scheduled"]
    engine.close()


def test_jobs_of_an_earlier_version_have_dependants_and_steps(path):
    engine = SqliteEngine(path, now=Clock())
    engine.enqueue([_job("after")], [Edge("ready", "after"), Edge("succeeded", "after")])
    [claim] = _take(engine, 1)

    engine.save("s", [Save(claim.token, steps=(Step("k", b"v"),))])
    engine.settle("s", [Succeeded(claim.token, b"seven")])

    assert claim.job_id == "ready"
    assert engine.steps("ready") == [Step("k", b"v")]
    assert [end.result for end in engine.parents("after")] == [b"seven", b"result"]
    assert engine.get(["after"])[0].state is State.READY
    engine.close()


def test_an_index_that_a_development_version_added_is_no_hindrance(path):
    connection = apsw.Connection(path)
    connection.execute("CREATE INDEX ready_laned ON ready (queue, class, rank, n) WHERE lane <> ''")
    connection.close()

    SqliteEngine(path).open()

    assert _version(path) == place.SCHEMA_VERSION


def test_a_migration_that_fails_leaves_the_file_as_it_was(path, tmp_path, monkeypatch):
    before = _shape(path)
    text = (place._MIGRATIONS / "2.sql").read_text(encoding="utf-8")
    (tmp_path / "2.sql").write_text(text + "\nCREATE TABLE job (n);\n", encoding="utf-8")
    with monkeypatch.context() as patch:
        patch.setattr(place, "_MIGRATIONS", tmp_path)
        with pytest.raises(EngineError):
            SqliteEngine(path).open()

    assert (_version(path), _shape(path)) == (1, before)
    SqliteEngine(path).open()
    assert _version(path) == place.SCHEMA_VERSION


def test_many_who_open_an_older_file_at_once_migrate_it_once(path):
    engines = [SqliteEngine(path, now=Clock()) for _ in range(8)]
    with ThreadPoolExecutor(len(engines)) as pool:
        found = list(pool.map(lambda engine: engine.get(["ready"]), engines))

    assert all(jobs[0].state is State.READY for jobs in found)
    assert _version(path) == place.SCHEMA_VERSION
    for engine in engines:
        engine.close()
