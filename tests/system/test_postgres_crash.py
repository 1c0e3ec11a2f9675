"""A server that is killed during a drain loses no job and runs none twice; workers connect again."""

import time
from collections.abc import Iterator
from pathlib import Path

import jobs_app
import pytest

from cicely.core.states import State
from cicely.engines.connect import connect
from cicely.testing.fleet import WorkerProcess, wait_for
from cicely.testing.ledger import Ledger, judge
from cicely.testing.postgres_server import PostgresServer
from cicely.worker.supervisor import WorkerOptions

JOBS = 1_500
OUTAGES_S = (0.0, 1.5)


@pytest.fixture
def server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        server.start()
        yield server
    finally:
        server.destroy()


@pytest.mark.timeout(100)
def test_a_server_killed_during_a_drain_loses_no_job_and_runs_none_twice(
    server: PostgresServer, tmp_path: Path
):
    ledger = Ledger(tmp_path / "ledger")
    shop = jobs_app.build(server.url)
    jobs = shop.quick.delay_many([(0.0,)] * JOBS)
    worker = WorkerProcess(
        WorkerOptions(
            url=server.url, target="jobs_app:app", processes=2, python_path=(str(Path(__file__).parent),)
        ),
        log=tmp_path / "worker.log",
        environment={"CICELY_LEDGER": str(ledger.folder), "CICELY_URL": server.url},
    )
    try:
        for part, outage_s in enumerate(OUTAGES_S, start=1):
            started = JOBS * part // 4
            wait_for(lambda: _starts(ledger) >= started, within_s=30, what=worker.said)  # noqa: B023
            server.kill()
            time.sleep(outage_s)
            server.start()
        engine = connect(server.url)
        ids = [job.id for job in jobs]
        wait_for(lambda: _ended(engine) == JOBS, within_s=30, what=worker.said)
    finally:
        worker.close()

    records = dict(zip(ids, engine.get(ids), strict=True))
    judgement = judge(ledger, attempted=JOBS, acknowledged=ids, jobs=records)
    engine.close()
    shop.app.close()
    assert judgement.is_clean, judgement
    assert judgement.re_runs == 0
    assert {record.state for record in records.values() if record} == {State.SUCCEEDED}


def _starts(ledger: Ledger) -> int:
    return sum(1 for line in ledger.lines() if line.what == "start")


def _ended(engine) -> int:
    return sum(jobs for queue in engine.queues() for state, jobs in queue.counts.items() if state.is_final)
