"""The ledger sees what fencing hides: attempts that overlap, repeat, or follow an accepted end."""

from __future__ import annotations

import os
import signal
import time

import pytest

from cicely.core.job import AttemptRecord, Job, Kind
from cicely.core.states import State
from cicely.testing.ledger import Crowd, Ledger, crowds, judge

JOB = "job-1"


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path)


def job(state, *attempts):
    records = tuple(
        AttemptRecord(number, fence, reason, 0.0, 1.0, "session")
        for number, (fence, reason) in enumerate(attempts, 1)
    )
    return Job(id=JOB, task="t", kind=Kind.SYNC, queue="q", state=state, attempts=records)


def judged(ledger, record):
    return judge(ledger, attempted=1, acknowledged=[JOB], jobs={JOB: record})


def run(ledger, fence):
    with ledger.attempt(JOB, fence):
        pass


def in_a_fork(function):
    pid = os.fork()
    if pid == 0:
        function()
        os._exit(0)
    return pid


def test_a_job_that_ran_once_and_was_accepted_once_is_clean(ledger):
    run(ledger, fence=1)

    found = judged(ledger, job(State.SUCCEEDED, (1, "succeeded")))

    assert found.is_clean
    assert (found.started, found.re_runs) == (1, 0)


def test_an_accepted_job_that_is_not_there_or_never_ends_is_lost(ledger):
    assert judged(ledger, None).lost == 1
    assert judged(ledger, job(State.READY)).lost == 1
    assert not judged(ledger, None).is_clean


def test_an_attempt_that_is_killed_leaves_a_start_and_its_successor_is_a_re_run(ledger):
    def dies():
        with ledger.attempt(JOB, 1):
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(in_a_fork(dies), 0)
    run(ledger, fence=2)

    assert [line.what for line in ledger.lines()] == ["start", "start", "end"]
    found = judged(ledger, job(State.SUCCEEDED, (1, "crashed"), (2, "succeeded")))
    assert found.is_clean
    assert found.re_runs == 1


def test_two_attempts_alive_at_once_overlap_even_where_only_one_is_accepted(ledger):
    with ledger.attempt(JOB, 1):
        os.waitpid(in_a_fork(lambda: run(ledger, fence=2)), 0)

    found = judged(ledger, job(State.SUCCEEDED, (1, "handed back"), (2, "succeeded")))

    assert found.overlapped == 1
    assert not found.is_clean


def test_a_descendant_that_outlives_its_attempt_overlaps_with_the_next(ledger):
    def leaves_a_daemon():
        with ledger.attempt(JOB, 1):
            if os.fork() == 0:
                time.sleep(1)
                os._exit(0)
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(in_a_fork(leaves_a_daemon), 0)
    run(ledger, fence=2)

    assert judged(ledger, job(State.SUCCEEDED, (2, "succeeded"))).overlapped == 1


def test_a_start_after_an_accepted_end_is_reported(ledger):
    run(ledger, fence=1)
    run(ledger, fence=2)

    found = judged(ledger, job(State.SUCCEEDED, (1, "succeeded"), (2, "error")))

    assert found.run_again_after_accepted_end == 1
    assert not found.is_clean


def test_two_accepted_ends_are_reported(ledger):
    run(ledger, fence=1)

    found = judged(ledger, job(State.SUCCEEDED, (1, "succeeded"), (2, "succeeded")))

    assert found.accepted_twice == 1
    assert not found.is_clean


def test_a_job_that_succeeded_without_an_end_in_the_ledger_is_reported(ledger):
    found = judged(ledger, job(State.SUCCEEDED, (1, "succeeded")))

    assert found.never_ended == 1
    assert not found.is_clean


def test_two_starts_under_one_fence_are_reported(ledger):
    run(ledger, fence=1)
    run(ledger, fence=1)

    assert judged(ledger, job(State.SUCCEEDED, (1, "succeeded"))).started_twice_under_one_fence == 1


PLACE = "some/gate"


def enters(ledger, name, *, most=2):
    return ledger.inside(PLACE, most, attempt=(name, 1))


def test_a_place_tells_how_many_were_in_it_at_once(ledger):
    with enters(ledger, "a"), enters(ledger, "b"):
        pass
    with enters(ledger, "c"):
        pass

    assert crowds(ledger.lines()) == {PLACE: Crowd(entered=3, most=2, beyond=0)}


def test_one_more_than_a_place_has_room_for_is_beyond_it(ledger):
    with enters(ledger, "a"), enters(ledger, "b"), enters(ledger, "c"):
        pass

    assert crowds(ledger.lines()) == {PLACE: Crowd(entered=3, most=3, beyond=1)}


def test_who_was_killed_in_a_place_is_out_of_it_at_once(ledger):
    def dies():
        with enters(ledger, "a", most=1):
            os.kill(os.getpid(), signal.SIGKILL)

    os.waitpid(in_a_fork(dies), 0)
    with enters(ledger, "b", most=1):
        pass

    assert crowds(ledger.lines()) == {PLACE: Crowd(entered=2, most=1, beyond=0)}


def test_who_lives_is_in_a_place_whatever_its_fence_says(ledger):
    with enters(ledger, "a", most=1):
        os.waitpid(in_a_fork(lambda: enters(ledger, "a", most=1).__enter__()), 0)

    assert crowds(ledger.lines())[PLACE].beyond == 1


def test_a_copy_that_a_fork_took_along_keeps_no_lock(ledger):
    with enters(ledger, "a", most=1):
        forked = in_a_fork(lambda: time.sleep(60))
    with enters(ledger, "b", most=1):
        pass
    os.kill(forked, signal.SIGKILL)
    os.waitpid(forked, 0)

    assert crowds(ledger.lines())[PLACE].beyond == 0


def test_a_line_that_a_kill_has_torn_is_passed_over_and_spoils_no_other(ledger):
    run(ledger, fence=1)
    with (ledger.folder / "ledger").open("ab") as file:
        file.write(b'\n{"what":"start","job_')

    run(ledger, fence=2)

    assert [(line.what, line.fence) for line in ledger.lines()] == [
        ("start", 1),
        ("end", 1),
        ("start", 2),
        ("end", 2),
    ]


def test_lines_of_many_processes_never_mix(ledger):
    def run_many():
        for number in range(200):
            with ledger.attempt(f"job-{os.getpid()}-{number}", 1):
                pass

    for pid in [in_a_fork(run_many) for _ in range(4)]:
        os.waitpid(pid, 0)

    assert len(ledger.lines()) == 4 * 200 * 2
