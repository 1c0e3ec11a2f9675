"""`cicely workers`: who is up, whether it beats, and what it holds."""

from __future__ import annotations

import json
import os

import pytest
from cli_shop import Shop

from cicely.cli.boards import started_by
from cicely.cli.workers import beat_of
from cicely.engines.contract import Host, Session, SessionRecord
from cicely.worker.board import Board, job_name
from cicely.worker.processes import start_time, this_host


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def session_of_this_process(name="here:1/1"):
    here = this_host()
    return Session(
        id="child-1",
        worker="worker-1",
        name=name,
        tasks=frozenset({"shop.pack"}),
        queues=("default",),
        pid=os.getpid(),
        start_time=start_time(os.getpid()) or 0,
        host=Host(here.boot_id, here.pid_ns, here.uid),
    )


def test_nobody_up_is_exit_code_1(shop):
    result = shop.run("workers")

    assert result.exit_code == 1
    assert "No worker is up" in result.stderr


def test_sessions_are_shown_with_name_pid_beat_and_what_they_hold(shop):
    shop.join(session_of_this_process())
    shop.pack.delay(1)
    shop.claim()

    output = shop.run("workers").output

    for part in ("here:1/1", str(os.getpid()), "here", "beating", "default"):
        assert part in output
    assert all(len(line) <= 80 for line in shop.run("workers", columns=80).stdout.splitlines())


def test_what_a_child_runs_is_told_from_what_it_claimed_ahead(shop):
    jobs = [shop.pack.delay(order) for order in range(2)]
    shop.join(session_of_this_process())
    claims = shop.claim(slots=2)
    board = Board.create(threads=1, coroutines=3)
    board.start(0, claims[0].token, 1.0, job_name=job_name(claims[0].job_id))

    try:
        [record] = map(json.loads, shop.run("workers", "--jobs", "--json").stdout.splitlines())
        table = shop.run("workers", "--jobs").output
    finally:
        board.close()

    held = {job["id"]: job["held_as"] for job in record["jobs"]}
    assert held == {jobs[0].id: "runs", jobs[1].id: "claimed ahead"}
    assert "claimed ahead" in table


def test_on_another_host_nobody_can_tell_and_it_says_held(shop):
    shop.join()
    shop.pack.delay(1)
    shop.claim()

    [record] = map(json.loads, shop.run("workers", "--json").stdout.splitlines())

    assert [job["held_as"] for job in record["jobs"]] == ["held"]


def test_a_dead_process_has_no_board():
    assert started_by(Session(id="x", worker="w", host=session_of_this_process().host, pid=2**22)) is None


@pytest.mark.parametrize(("age_s", "word"), [(0.0, "beating"), (20.0, "late"), (31.0, "silent")])
def test_a_missing_beat_is_late_before_it_is_silent(age_s, word):
    import time

    at = time.time() - age_s
    record = SessionRecord(session=Session(id="s", worker="w"), beat=1, joined_at=at, beat_at=at, held=0)

    assert beat_of(record) == word


def test_a_hostile_name_is_escaped(shop):
    shop.join(session_of_this_process("\x1b]0;title\x07\n[red]"))

    assert "\x1b" not in shop.run("workers").output
