"""`cicely schedules`: listing, adding and steering what is enqueued by the clock."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from cli_shop import Shop
from click.testing import CliRunner

from cicely.cli.main import cli
from cicely.core.job import Filter
from cicely.core.when import every
from cicely.upkeep.schedules import Ticker, declare


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def run(shop, verb, *words, **given):
    command = ["schedules", verb, "--app", f"{shop.name}:app", *words]
    return CliRunner().invoke(cli, command, **given)


def tick(shop):
    ticker = Ticker(shop.engine)
    while ticker.tick(shop.engine.sweep(100)):
        pass


def job_ids(shop):
    return [job.id for job in shop.engine.find(Filter()).jobs]


# --- add ----------------------------------------------------------------------------------------
def test_a_schedule_is_added_and_its_next_five_times_are_told(shop):
    result = run(
        shop,
        "add",
        "nightly",
        "shop.pack",
        *("--cron", "0 5 * * *", "--tz", "Europe/Berlin", "--args", "[7]", "--kwargs", '{"note": "x"}'),
        *("--queue", "slow", "--priority", "8", "--overlap", "skip", "--catch-up", "all", "--jitter", "1m"),
    )

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Added nightly: 20")
    assert result.stdout.count("05:00") == 5
    [record] = [json.loads(line) for line in run(shop, "list", "--json").stdout.splitlines()]
    assert record["task"] == "shop.pack"
    assert record["queue"] == "slow"
    assert record["ticks"] == "0 5 * * * (Europe/Berlin)"
    assert (record["overlap"], record["catch_up"], record["jitter_s"]) == ("skip", "all", 60.0)
    assert len(record["next_at"]) == 5
    assert record["source"] == "command"


def test_an_added_schedule_makes_jobs_with_its_arguments(shop):
    assert run(shop, "add", "s", "shop.pack", "--every", "1", "--args", "[7]").exit_code == 0

    result = run(shop, "run", "s")

    assert result.stdout.startswith("Enqueued s@")
    job = run_json(shop, "job", job_ids(shop)[0])
    assert job["args"] == [7]


def run_json(shop, *command):
    return json.loads(shop.run(*command, "--json").stdout)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (("s", "shop.pack"), "Say when: --every 30s, or --cron"),
        (("s", "shop.pack", "--every", "1m", "--cron", "* * * * *"), "one of the two"),
        (("s", "shop.pack", "--every", "1m", "--tz", "UTC"), "an interval has no time zone"),
        (("s", "shop.pack", "--every", "1m", "--args", "7"), "--args 7: write [1"),
        (("s", "shop.pack", "--every", "1m", "--kwargs", "{"), "not JSON"),
        (("s", "shop.pack", "--every", "soon"), "write seconds, or"),
        (("s", "shop.pack", "--every", "0.5"), "once per second at most"),
        (("s", "shop.pack", "--cron", "0 0 30 2 *"), "never fires"),
        (("s", "shop.pack", "--cron", "0 5 * * *", "--tz", "Berlin"), "did you mean 'Europe/Berlin'"),
        (("s", "shop.pak", "--every", "1m"), "did you mean shop.pack"),
        (("s", "shop.pack", "--every", "1m", "--args", "[1, 2, 3]"), "too many positional arguments"),
        (("s", "shop.pack", "--every", "1m", "--queue", "slwo"), "did you mean slow"),
        (("a b", "shop.pack", "--every", "1m", "--args", "[1]"), "a printable name"),
        (("s", "shop.pack", "--every", "1m", "--args", "[1]", "--overlap", "no"), "overlap='no'"),
    ],
)
def test_what_can_never_work_is_refused_with_the_remedy(shop, words, reason):
    result = run(shop, "add", *words)

    assert result.exit_code == 2, result.output
    assert reason in result.stderr
    assert "Traceback" not in result.output
    assert shop.engine.schedules() == []


def test_adding_without_an_app_names_the_remedy():
    command = ["schedules", "add", "s", "t", "--every", "1m", "--url", "memory://"]

    result = CliRunner().invoke(cli, command, env={"CICELY_APP": ""})

    assert result.exit_code == 2
    assert "--app module:app" in result.stderr


def test_with_a_url_the_schedule_is_added_there_and_not_where_the_app_is(shop):
    result = run(shop, "add", "s", "shop.pack", "--every", "1m", "--args", "[1]", "--url", "memory://")

    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Added s: ")
    assert shop.engine.schedules() == []


def test_a_name_that_is_taken_is_refused(shop):
    run(shop, "add", "s", "shop.pack", "--every", "1m", "--args", "[1]")

    result = run(shop, "add", "s", "shop.pack", "--every", "2m", "--args", "[1]")

    assert result.exit_code == 2
    assert "remove it first" in result.stderr


# --- list ---------------------------------------------------------------------------------------
def test_the_list_shows_next_times_last_one_pause_and_source(shop):
    run(shop, "add", "s", "shop.pack", "--every", "1s", "--args", "[1]")
    tick(shop)
    shop.engine.put_schedule(replaced(shop, last_at=1_795_237_200.0))
    run(shop, "pause", "s")

    result = run(shop, "list")

    assert result.exit_code == 0
    for shown in ("SCHEDULE", "shop.pack", "every 1s", "2026-11-21 05:00", "paused", "command"):
        assert shown in result.stdout


def replaced(shop, **fields):
    import msgspec

    [schedule] = shop.engine.schedules()
    return msgspec.structs.replace(schedule, **fields)


def test_on_a_narrow_terminal_each_of_the_next_times_has_a_row(shop):
    run(shop, "add", "nightly", "shop.pack", "--cron", "0 5 * * *", "--args", "[1]")

    narrow = shop.run("schedules", columns=80).stdout.splitlines()
    piped = shop.run("schedules").stdout.splitlines()

    assert len(narrow) == 6
    assert all("05:00" in line and len(line) <= 80 for line in narrow[1:])
    assert len(piped) == 2
    assert piped[1].count("05:00") == 5


def test_by_itself_the_command_lists_and_its_options_hold_for_what_follows(shop):
    run(shop, "add", "s", "shop.pack", "--every", "1m", "--args", "[1]")

    by_itself = shop.run("schedules", "--json")
    before = shop.run("schedules", "--json", "pause", "s")

    assert json.loads(by_itself.stdout)["name"] == "s"
    assert json.loads(before.stdout) == {"name": "s", "paused": True}


def test_one_that_came_from_code_and_is_no_longer_there_says_so(shop):
    app = shop.module.app
    app.schedule("kept", shop.pack.s(1), every("1h"))
    declare(shop.engine, {**app.declared_schedules(), "gone": app.declared_schedules()["kept"]})

    rows = {record["name"]: record for record in listed(shop)}

    assert rows["kept"]["source"] == "code"
    assert rows["gone"]["source"] == "not in code"


def test_one_that_no_worker_has_put_there_yet_is_listed(shop):
    shop.module.app.schedule("fresh", shop.pack.s(1), every("1h"))

    [row] = listed(shop)

    assert row["state"] == "starts with a worker"
    assert len(row["next_at"]) == 5


def test_one_that_cannot_be_read_is_listed_with_the_reason(shop):
    from cicely.engines.contract import Schedule

    shop.engine.put_schedule(Schedule(name="newer", spec=b"\x09", next_at=5.0))

    result = run(shop, "list")

    assert result.exit_code == 0
    assert "unreadable here" in result.stdout
    assert "format 09" in result.stderr


def test_a_late_one_points_at_the_workers(shop):
    run(shop, "add", "s", "shop.pack", "--every", "1s", "--args", "[1]")
    shop.engine.put_schedule(replaced(shop, next_at=1_795_237_200.0 - 86_400 * 300))

    result = run(shop, "list")

    assert " late " in result.stdout
    assert "cicely workers" in result.stderr


def test_an_empty_list_says_how_to_add_one(shop):
    assert "`cicely schedules add` makes one" in run(shop, "list").stderr


def listed(shop):
    return [json.loads(line) for line in run(shop, "list", "--json").stdout.splitlines()]


# --- pause, resume, run, remove -----------------------------------------------------------------
def test_pause_and_resume(shop):
    run(shop, "add", "s", "shop.pack", "--every", "1m", "--args", "[1]")

    assert "resume s" in run(shop, "pause", "s").stdout
    assert listed(shop)[0]["paused"]
    assert json.loads(run(shop, "resume", "s", "--json").stdout) == {"name": "s", "paused": False}
    assert not listed(shop)[0]["paused"]


def test_running_while_the_earlier_job_has_not_ended_is_exit_code_1(shop):
    run(shop, "add", "s", "shop.pack", "--every", "1m", "--args", "[1]", "--overlap", "skip")
    first = json.loads(run(shop, "run", "s", "--json").stdout)

    again = run(shop, "run", "s")

    assert first["enqueued"]
    assert again.exit_code == 1
    assert f"{first['job']} has not ended" in again.stdout


def test_removing_one_that_the_code_declares_says_that_it_comes_back(shop):
    shop.module.app.schedule("s", shop.pack.s(1), every("1h"))
    declare(shop.engine, shop.module.app.declared_schedules())

    result = run(shop, "remove", "s")

    assert result.stdout == "Removed s.\n"
    assert "the next worker that starts puts it back" in result.stderr
    assert shop.engine.schedules() == []


@pytest.mark.parametrize("verb", ["pause", "resume", "run", "remove"])
def test_an_unknown_name_is_refused_with_the_nearest(shop, verb):
    run(shop, "add", "nightly", "shop.pack", "--every", "1m", "--args", "[1]")

    result = run(shop, verb, "nightyl")

    assert result.exit_code == 2
    assert "did you mean nightly" in result.stderr


def test_times_are_written_once_per_day():
    from cicely.cli.schedules import _times
    from cicely.core.job import Kind, NewJob
    from cicely.core.schedule import Plan
    from cicely.core.when import cron

    plan = Plan(when=cron("* * * * *", tz="Europe/Berlin"), job=NewJob("", "t", Kind.SYNC, "q"))
    began = datetime.fromisoformat("2026-11-21T23:58:30+01:00").timestamp()

    assert (
        _times(plan, [began, began + 60, began + 120]) == "2026-11-21 23:58:30, 23:59:30, 2026-11-22 00:00:30"
    )
