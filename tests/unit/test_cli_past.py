"""`cicely tasks`, `cicely events` and `cicely report`: what people and programs see of the past."""

import json

import pytest
from cli_shop import Shop

from cicely.core.outcome import Succeeded
from cicely.core.rollup import Count, Word


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


@pytest.fixture
def clock(shop, monkeypatch):
    """A clock that the shop's engine goes by."""
    at = [0.0]
    now = shop.engine._now() - 1800
    monkeypatch.setattr(shop.engine, "_now", lambda: now + at[0])
    monkeypatch.setattr(shop.engine._record, "_now", lambda: now + at[0])

    def advance(seconds):
        at[0] += seconds

    return advance


def served_minutes(shop, count, *, first=2):
    shop.engine.report([Count(Word.BEATS, ago_s=60.0 * ago) for ago in range(first, first + count)])


# --- tasks --------------------------------------------------------------------------------------
def test_tasks_are_listed_with_how_they_ended_and_how_long_they_took(shop):
    shop.pack.delay(1)
    shop.succeed()
    shop.ship.delay(2)
    shop.fail()

    lines = shop.run("tasks").output.splitlines()

    assert lines[0].split()[:4] == ["TASK", "RUNS", "SUCCEEDED", "FAILED"]
    assert lines[1].split()[:4] == ["shop.pack", "1", "1", "0"]
    assert lines[2].split()[:4] == ["shop.ship", "1", "0", "1"]


def test_the_slowest_comes_first(shop, clock):
    for task, seconds in ((shop.pack, 1), (shop.ship, 30)):
        task.delay(1)
        [claim] = shop.claim()
        clock(seconds)
        shop.settle(Succeeded(claim.token))

    found = [json.loads(line) for line in shop.run("tasks", "--slowest", "--json").stdout.splitlines()]

    assert [one["task"] for one in found] == ["shop.ship", "shop.pack"]
    assert [round(one["mean_s"]) for one in found] == [30, 1]
    assert 24 <= found[0]["p95_s"] <= 33
    assert shop.run("tasks", "--slowest", "--limit", "1").output.count("shop.") == 1


def test_no_task_that_ran_ends_with_1(shop):
    result = shop.run("tasks")

    assert result.exit_code == 1
    assert "No task was enqueued or ran since 1h ago" in result.stderr


# --- events -------------------------------------------------------------------------------------
def test_events_are_one_line_each(shop):
    shop.pack.delay(1)
    failed = shop.fail()
    shop.engine.pause("slow")

    lines = shop.run("events").output.splitlines()

    assert f"job.failed        {failed}  shop.pack  attempt 1" in lines[0]
    assert lines[0].endswith("KeyError: no such order")
    assert "queue.paused      slow" in lines[1]


def test_events_are_chosen_by_kind_and_resumed_by_cursor(shop):
    for _ in range(2):
        shop.pack.delay(1)
        shop.fail()
    shop.engine.pause("slow")

    told = [json.loads(line) for line in shop.run("events", "--json", "-k", "job").stdout.splitlines()]
    rest = shop.run("events", "--json", "--cursor", told[0]["cursor"]).stdout.splitlines()

    assert [one["kind"] for one in told] == ["job.failed"] * 2
    assert [json.loads(line)["kind"] for line in rest] == ["job.failed", "queue.paused"]


def test_following_begins_with_what_is_to_come_and_ends_when_interrupted(shop, monkeypatch):
    shop.engine.pause("slow")
    naps = []

    def nap(_):
        if naps:
            raise KeyboardInterrupt
        naps.append(1)
        shop.engine.resume("slow")

    monkeypatch.setattr("cicely.cli.events.time.sleep", nap)

    result = shop.run("events", "--follow")

    assert result.exit_code == 0
    assert "queue.resumed" in result.output
    assert "queue.paused" not in result.output


def test_following_ends_as_well_when_it_is_interrupted_while_it_looks(shop, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("cicely.observe.events.page_behind", interrupted)

    result = shop.run("events", "--follow")

    assert (result.exit_code, result.output) == (0, "")


def test_an_event_that_there_is_not_is_refused(shop):
    result = shop.run("events", "--kind", "tasks")

    assert result.exit_code == 2
    assert "job.failed" in result.stderr


def test_a_misspelt_event_is_refused_with_the_nearest(shop):
    result = shop.run("events", "--follow", "--kind", "job.fail")

    assert result.exit_code == 2
    assert "there is no event 'job.fail'; did you mean job.failed?" in result.stderr


def test_a_cursor_that_nobody_gave_out_is_refused(shop):
    result = shop.run("events", "--cursor", "rubbish")

    assert result.exit_code == 2
    assert "cursor='rubbish': the cursor of an event" in result.stderr


def test_nothing_to_tell_is_said(shop):
    assert "Nothing to tell" in shop.run("events").stderr


def test_hostile_text_in_events_is_escaped(shop):
    shop.engine.pause("\x1b[31mred")
    shop.pack.delay(1)
    shop.fail("\x1b[31m\n" * 100)

    assert "\x1b" not in shop.run("events").output


# --- report -------------------------------------------------------------------------------------
def test_a_good_time_ends_with_0(shop, clock):
    shop.pack.delay(1)
    shop.succeed()
    clock(1800)
    served_minutes(shop, 30)

    result = shop.run("report")

    assert result.exit_code == 0, result.output
    lines = {line.split("  ")[0]: line for line in result.output.splitlines()}
    assert "met" in lines["availability"]
    assert "100 %" in lines["availability"]
    assert lines["throughput"].split()[1:4] == ["0.0167/s", "-", "-"]


def test_a_broken_promise_ends_with_1(shop):
    served_minutes(shop, 3, first=3)

    result = shop.run("report", "--json")

    assert result.exit_code == 1
    found = {one["name"]: one for one in json.loads(result.stdout)["promises"]}
    assert found["availability"]["is_met"] is False
    assert found["availability"]["measure"] == 0.75
    assert found["failure rate"]["is_met"] is None


def test_a_throughput_that_is_wanted_is_judged(shop):
    served_minutes(shop, 1)

    assert shop.run("report", "--throughput", "1000", "--per-job", "64").exit_code == 1


def test_nothing_counted_is_said(shop):
    result = shop.run("report")

    assert result.exit_code == 1
    assert "Nothing was counted" in result.stderr


@pytest.mark.parametrize(
    ("since", "words"),
    [("3d", "since 3d ago ("), ("2026-01-31T08:00", "since 2026-01-31T08:00 ("), ("", "in all the time (")],
)
@pytest.mark.parametrize("command", ["tasks", "report"])
def test_since_when_nothing_was_counted_is_said_as_it_was_asked(shop, command, since, words):
    assert words in shop.run(command, "--since", since).stderr


@pytest.mark.parametrize("command", ["tasks", "report", "events"])
def test_a_since_that_is_neither_an_age_nor_a_time_is_refused(shop, command):
    result = shop.run(command, "--since", "banana")

    assert result.exit_code == 2
    assert "write an age as 90s, 1h or 7d, or a time" in result.stderr
