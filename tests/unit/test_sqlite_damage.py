"""A database that somebody edited by hand: what cannot be read is parked, and the rest goes on."""

from pathlib import Path

import apsw
import pytest

from cicely.core.job import Filter, Kind, NewJob
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand, Session, Silent, Verdict
from cicely.engines.sqlite.engine import SqliteEngine

DEMAND = Demand(b"request1", ("main",), (Ask((Kind.SYNC,), 5),))


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "jobs.db")


@pytest.fixture
def engine(path):
    engine = SqliteEngine(path, durability="process")
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    engine.enqueue([_job(name) for name in "abc"])
    yield engine
    engine.close()


def _job(job_id: str, **options) -> NewJob:
    return NewJob(id=job_id, task="work", kind=Kind.SYNC, queue="main", **options)


def _edit(path: str, statement: str) -> None:
    connection = apsw.Connection(path)
    connection.set_busy_timeout(2000)
    connection.execute(statement)
    connection.close()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE job SET created_at = 'yesterday'",
        "UPDATE job SET class = NULL",
        "UPDATE job SET errors = 'many'",
        "UPDATE ready SET rank = 'first'",
    ],
)
def test_a_value_of_the_wrong_type_cannot_be_written(engine, path, statement):
    with pytest.raises(apsw.ConstraintError):
        _edit(path, statement)


def test_a_job_whose_row_cannot_be_read_is_parked_and_the_others_run(engine, path):
    _edit(path, "UPDATE job SET id = CAST(x'ff62' AS TEXT) WHERE id = 'b'")

    claims = engine.claim("s", DEMAND).claims

    assert [claim.job_id for claim in claims] == ["a", "c"]
    [parked] = engine.find(Filter(states=(State.FAILED,))).jobs
    assert parked.reason == "malformed"
    assert parked.id == "\ufffdb"


def test_a_ready_row_without_its_job_is_dropped(engine, path):
    _edit(path, "DELETE FROM job WHERE id = 'b'")

    assert [claim.job_id for claim in engine.claim("s", DEMAND).claims] == ["a", "c"]
    assert engine.claim("s", Demand(b"request2", ("main",), DEMAND.asks)).claims == ()


def test_a_job_of_a_class_that_is_gone_stays_in_place(engine, path):
    _edit(path, "DELETE FROM class")

    fresh = SqliteEngine(path)
    assert fresh.claim("s", DEMAND).claims == ()
    assert [job.id for job in fresh.find(Filter()).jobs] == ["c", "b", "a"]
    fresh.close()


def test_a_deferred_row_without_its_job_is_dropped(engine, path):
    _edit(path, "INSERT INTO deferred VALUES (1.0, 999)")

    assert len(engine.claim("s", DEMAND).claims) == 3
    assert engine.claim("s", DEMAND).next_due_in_s is None


def test_a_negative_tally_is_only_a_number(engine, path):
    _edit(path, "UPDATE job SET errors = -7")

    [first, *_] = engine.claim("s", DEMAND).claims

    assert engine.settle("s", [Succeeded(first.token)]).verdicts == (Verdict.ACCEPTED,)


def test_a_state_that_does_not_exist_shows_as_failed(engine, path):
    [first, *_] = engine.claim("s", DEMAND).claims
    engine.settle("s", [Succeeded(first.token)])
    _edit(path, "UPDATE done SET state = 99")

    [job] = engine.get([first.job_id])

    assert job is not None
    assert job.state is State.FAILED


def test_tags_that_are_no_list_show_as_none(engine, path):
    engine.enqueue([_job("tagged", tags=("red",))])
    _edit(path, "UPDATE job SET tags = 'red'")

    [job] = engine.get(["tagged"])

    assert job is not None
    assert job.tags == ()


def test_a_session_whose_facts_cannot_be_read_can_still_be_rescued(engine, path):
    engine.claim("s", DEMAND)
    _edit(path, "UPDATE session SET facts = x'00'")

    [record] = engine.sessions()
    swept = engine.sweep(100, [Silent("s", record.beat)])

    assert swept.rescued == 3


def test_an_index_entry_of_a_live_job_does_not_delete_it(engine, path):
    _edit(path, "INSERT INTO sweepable SELECT 1.0, n FROM job")

    engine.sweep(100)

    assert len(engine.find(Filter()).jobs) == 3
