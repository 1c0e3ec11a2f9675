"""One file and many processes: retired sessions, lost replies, forks, foreign hosts, and a load."""

import itertools
import os
import threading
import time

import apsw
import pytest
from bounds import DRAIN_S, IS_EXACT, LENIENCY

from cicely.core.job import Filter, Kind
from cicely.core.outcome import Succeeded
from cicely.engines.connect import connect
from cicely.engines.contract import Ask, Demand, Host, Session, Verdict
from cicely.errors import SessionClosed
from cicely.testing.fleet import wait_for
from cicely.worker.processes import this_host

NOBODY = 4_194_303  # the largest pid there can be


def session(name, **fields):
    tasks = frozenset({"jobs_app.nothing", "jobs_app.naps"})
    return Session(id=name, worker=name, tasks=tasks, **({"lease_s": 2.0} | fields))


def demand(slots=1):
    return Demand(os.urandom(8), ("default",), (Ask((Kind.SYNC,), slots),))


def in_a_fork(function):
    """Start `function` in a forked process, and return what waits for its end."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            function()
            status = 0
        finally:
            os._exit(status)

    def join():
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

    return join


def test_a_claim_that_executes_after_its_session_was_retired_takes_nothing(site):
    job = site.jobs.nothing.delay()
    ready_read, ready_write = os.pipe()
    go_read, go_write = os.pipe()

    def late_claimer():
        engine = connect(site.url, role="worker")
        engine.open()
        engine.join(session("late"))
        os.write(ready_write, b"!")
        os.read(go_read, 1)
        with pytest.raises(SessionClosed):
            engine.claim("late", demand())

    join = in_a_fork(late_claimer)
    os.read(ready_read, 1)
    site.engine.retire("late")
    os.write(go_write, b"!")
    join()

    assert site.states([job]) == ["ready"]
    assert site.record(job).fence == 0


def test_a_job_whose_claims_reply_was_lost_for_ever_runs_once_and_is_charged_nothing(site):
    job = site.jobs.nothing.delay()
    site.engine.join(session("deaf", lease_s=1.0))
    [lost] = site.engine.claim("deaf", demand()).claims
    site.start(processes=1)

    numbers = itertools.count(1)

    def beats():
        site.engine.beat({"deaf": ()}, next(numbers))
        return site.record(job).state == "succeeded"

    wait_for(beats, within_s=10)

    record = site.record(job)
    assert site.starts(job) == 1
    assert (record.attempt, record.fence) == (1, 2)
    assert site.engine.settle("deaf", [Succeeded(lost.token)]).verdicts == (Verdict.STALE,)
    assert site.judge([job]).is_clean


def test_an_app_that_is_forked_after_a_delay_serves_every_process_on_its_own(site_on_disk):
    site = site_on_disk
    site.jobs.nothing.delay()

    def enqueue():
        for _ in range(1000):
            site.jobs.nothing.delay()

    for join in [in_a_fork(enqueue) for _ in range(8)]:
        join()

    [queue] = [queue for queue in site.engine.queues() if queue.name == "default"]
    assert sum(queue.counts.values()) == 8001
    with apsw.Connection(str(site.folder / "jobs.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


def test_a_live_worker_of_another_pid_namespace_is_not_declared_dead(site):
    here = this_host()
    elsewhere = Host(boot_id=here.boot_id, pid_ns=here.pid_ns + 1, uid=here.uid)
    job = site.jobs.nothing.delay()
    foreign = session("foreign", host=elsewhere, pid=NOBODY, start_time=1, lease_s=1.0)
    site.engine.join(foreign)
    [claim] = site.engine.claim("foreign", demand()).claims
    site.start(processes=1, lease_s=1.0)

    until = time.monotonic() + 4
    for number in itertools.count(1):
        if time.monotonic() > until:
            break
        [beat] = site.engine.beat({"foreign": (claim.token,)}, number)
        assert beat.alive
        assert beat.lost == ()
        time.sleep(0.2)

    assert site.record(job).fence == 1
    assert site.engine.settle("foreign", [Succeeded(claim.token)]).verdicts == (Verdict.ACCEPTED,)


def test_a_dead_worker_of_this_host_is_declared_dead_long_before_its_lease_is_over(site):
    job = site.jobs.nothing.delay()
    site.engine.join(session("dead", host=this_host(), pid=NOBODY, start_time=1, lease_s=600.0))
    site.engine.claim("dead", demand())

    site.start(processes=1)

    record = site.await_state(job, "succeeded", within_s=10)
    assert (record.fence, record.tallies.lost) == (2, 1)


@pytest.mark.timeout(200)
def test_a_drain_by_two_processes_leaves_room_for_single_enqueues_beats_and_a_reader(site_on_disk):
    site = site_on_disk
    rows = 40_000
    site.jobs.bare.delay_many(() for _ in range(rows))
    reader = apsw.Connection(str(site.folder / "jobs.db"))
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM sqlite_schema").fetchall()
    site.start(processes=2, lease_s=3.0)
    over = threading.Event()
    gaps: list[float] = []
    sizes: list[int] = []
    watcher = threading.Thread(target=watch, args=(site, over, gaps, sizes))
    watcher.start()

    join = in_a_fork(lambda: enqueue_singly(site, DRAIN_S))
    until = time.monotonic() + DRAIN_S
    while time.monotonic() < until:
        if ready(site) < rows // 2:
            site.jobs.bare.delay_many(() for _ in range(5000))
        time.sleep(0.05)
    join()
    over.set()
    watcher.join()
    reader.close()

    spans = sorted(float(span) for span in site.words("spans"))
    assert len(spans) > 50
    # A single enqueue waits for a few commits of theirs, and not for all that they have in hand.
    assert spans[int(len(spans) * 0.99)] < (0.050 if IS_EXACT else 0.5)
    # A beat is due every second here, and may come a second late.
    assert max(gaps) < 1 + LENIENCY * 1.0
    assert max(sizes) < 256 << 20


def watch(site, over, gaps, sizes):
    engine = connect(site.url, role="producer")
    engine.open()
    wal = site.folder / "jobs.db-wal"
    while not over.wait(0.1):
        records = engine.sessions()
        newest = max(record.beat_at for record in records)
        gaps.append(time.time() - min(record.beat_at for record in records if record.beat))
        sizes.append(wal.stat().st_size if wal.exists() else 0)
        assert newest
    engine.close()


def ready(site):
    [queue] = [queue for queue in site.engine.queues() if queue.name == "default"]
    return queue.counts.get("ready", 0)


def enqueue_singly(site, for_s):
    until = time.monotonic() + for_s
    with (site.folder / "spans").open("a") as file:
        while time.monotonic() < until:
            since = time.monotonic()
            site.jobs.bare.delay()
            file.write(f"{time.monotonic() - since}\n")
            time.sleep(0.02)


def test_every_search_sees_all_jobs_while_workers_run_them(site):
    site.start(processes=2)
    jobs = site.jobs.quick.delay_many((0.001,) for _ in range(300))

    seen: set[str] = set()
    cursor = None
    while True:
        page = site.engine.find(Filter(), limit=50, cursor=cursor)
        seen.update(job.id for job in page.jobs)
        cursor = page.cursor
        if cursor is None:
            break

    assert seen == {job.id for job in jobs}
    site.await_ends(jobs)
