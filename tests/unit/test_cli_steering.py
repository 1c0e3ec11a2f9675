"""`cancel`, `revive`, `discard`, `purge`, `pause` and `resume`: jobs and queues moved by hand."""

from __future__ import annotations

import json

import pytest
from cli_shop import Shop

from cicely.core.states import State
from cicely.engines.contract import Session


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def states(shop, *job_ids):
    return [job.state if job else None for job in shop.engine.get(job_ids)]


def test_a_job_is_cancelled_by_its_id_and_keeps_the_reason(shop):
    job = shop.pack.delay(1)

    result = shop.run("cancel", job.id, "--reason", "typo")

    assert result.exit_code == 0
    assert result.stdout == "Cancelled 1 job.\n"
    assert job.state == "cancelled"
    assert "typo" in shop.run("job", job.id).output


def test_cancelling_a_running_job_says_that_it_was_asked_to_end(shop):
    job = shop.pack.delay(1)
    shop.claim()

    result = shop.run("cancel", job.id)

    assert "running and were asked to end" in result.stdout
    assert "cancelling" in shop.run("jobs").output


def test_a_job_that_cannot_be_moved_is_exit_code_1_and_says_why(shop):
    job = shop.pack.delay(1)
    shop.succeed()

    result = shop.run("revive", job.id, "nowhere")

    assert result.exit_code == 1
    assert "is succeeded: revive starts from failed, cancelled, expired" in result.stderr
    assert "there is no job nowhere" in result.stderr


def test_all_failed_jobs_of_a_task_are_revived_and_their_tallies_reset(shop):
    failed = [shop.pack.delay(order).id for order in range(3)]
    for _ in failed:
        shop.fail()
    cancelled = shop.pack.delay(9)
    cancelled.cancel()

    result = shop.run("revive", "--task", "shop.pack", "--yes")

    assert result.stdout == "Revived 3 jobs.\n"
    assert states(shop, *failed) == [State.READY] * 3
    assert cancelled.state == "cancelled"
    assert [job.tallies.errors for job in shop.engine.get(failed)] == [0, 0, 0]


def test_filters_ask_first_and_change_nothing_without_a_yes(shop):
    job = shop.pack.delay(1)

    refused = shop.run("cancel", "--queue", "default", answer="n\n")
    unanswered = shop.run("cancel", "--queue", "default")

    assert refused.exit_code == unanswered.exit_code == 1
    assert "Cancel 1 job (1 ready)?" in refused.stderr
    assert "--yes" in unanswered.stderr
    assert job.state == "ready"


def test_a_yes_on_the_terminal_goes_on(shop):
    job = shop.pack.delay(1)

    result = shop.run("cancel", "--queue", "default", answer="y\n")

    assert result.exit_code == 0
    assert job.state == "cancelled"


def test_neither_ids_nor_filters_is_refused(shop):
    result = shop.run("discard", "--yes")

    assert result.exit_code == 2
    assert "Name the jobs to discard by id, or choose them" in result.stderr


def test_ids_and_filters_together_are_refused(shop):
    assert shop.run("cancel", "some-id", "--state", "ready").exit_code == 2


def test_a_state_that_the_move_does_not_start_from_is_refused(shop):
    result = shop.run("discard", "--state", "running", "--yes")

    assert result.exit_code == 2
    assert "succeeded, failed, cancelled, expired" in result.stderr


def test_discard_deletes_what_has_ended_and_nothing_else(shop):
    done = shop.pack.delay(1)
    shop.succeed()
    waiting = shop.pack.delay(2)

    result = shop.run("discard", "--task", "shop.pack", "--yes", "--json")

    assert json.loads(result.stdout) == {"move": "discard", "matched": 1, "moved": 1, "refused": {}}
    assert states(shop, done.id, waiting.id) == [None, State.READY]


def test_nothing_that_matches_is_exit_code_1(shop):
    result = shop.run("revive", "--task", "shop.pack", "--yes", "--json")

    assert result.exit_code == 1
    assert json.loads(result.stdout)["matched"] == 0


def test_thousands_are_moved_page_by_page(shop):
    shop.pack.delay_many([(order,) for order in range(1_200)])

    result = shop.run("cancel", "--state", "ready", "--yes")

    assert result.stdout == "Cancelled 1,200 jobs.\n"


def test_purge_cancels_what_has_not_started_and_leaves_what_runs(shop):
    running = shop.pack.delay(1)
    shop.claim()
    ready = shop.pack.delay(2)
    later = shop.pack.options(countdown=60).delay(3)
    elsewhere = shop.ship.delay(4)

    result = shop.run("purge", "default", "--yes")

    assert result.stdout == "Purged 2 jobs from default.\n"
    assert [job.state for job in (running, ready, later, elsewhere)] == [
        "running",
        "cancelled",
        "cancelled",
        "ready",
    ]
    assert shop.run("purge", "default", "--yes").exit_code == 1


def test_a_paused_queue_hands_out_nothing_until_it_is_resumed(shop):
    shop.pack.delay(1)

    shop.run("pause", "default")
    while_paused = shop.claim()
    shop.run("resume", "default")

    assert while_paused == []
    assert len(shop.claim()) == 1


@pytest.mark.parametrize("queue", ["declared", "routed", "named"])
def test_a_declared_queue_is_paused_before_its_first_job(shop, queue):
    shop.module.app.queue("declared")
    shop.module.app.route({"gpu_*": "routed"})
    shop.module.app.task(name="shop.late", queue="named")(len)

    paused = shop.run("pause", queue)
    resumed = shop.run("resume", queue)

    assert (paused.exit_code, resumed.exit_code) == (0, 0)
    assert paused.stdout == f"Paused {queue}; `cicely resume {queue}` goes on.\n"


def test_a_queue_that_only_a_worker_serves_is_paused_before_its_first_job(shop):
    shop.join(Session(id="c", worker="w", tasks=frozenset({"x"}), queues=("elsewhere",)))

    shop.run("pause", "elsewhere")

    assert [(one.name, one.paused) for one in shop.engine.queues()] == [("elsewhere", True)]
    assert shop.run("resume", "elsewhere").exit_code == 0


@pytest.mark.parametrize("command", ["pause", "resume", "purge"])
def test_an_unknown_queue_is_refused_with_the_nearest(shop, command):
    result = shop.run(command, "defualt")

    assert result.exit_code == 2
    assert "did you mean default?" in result.stderr


def test_queues_show_what_is_in_them_declared_ones_included(shop):
    shop.pack.delay(1)
    shop.run("pause", "default")

    records = [json.loads(line) for line in shop.run("queues", "--json").stdout.splitlines()]
    table = shop.run("queues", columns=80).stdout

    assert [record["name"] for record in records] == ["default", "slow"]
    assert records[0]["counts"]["ready"] == 1
    assert records[0]["paused"]
    assert "paused" in table
    assert all(len(line) <= 80 for line in table.splitlines())
