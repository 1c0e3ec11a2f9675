"""`cicely event`: a job that waits is told, from the command line."""

from __future__ import annotations

import json

import pytest
from cli_shop import Shop

from cicely.core.outcome import Await, Suspended


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def waiting(shop: Shop) -> str:
    job = shop.pack.delay(1)
    [claim] = shop.claim()
    shop.engine.settle("child-1", [Suspended(claim.token, event=Await("approval", job.id, "w"))])
    return job.id


def test_the_job_that_waits_is_told(shop):
    job_id = waiting(shop)

    result = shop.run("event", "approval", "--key", job_id, "--value", '{"by": "ann"}')

    assert (result.exit_code, result.stdout) == (0, f"Told job {job_id}.\n")
    assert [step.key for step in shop.engine.steps(job_id)] == ["w"]


def test_an_event_for_nobody_is_kept_and_said_to_be(shop):
    result = shop.run("event", "approval", "--key", "order 7")

    assert "Nothing waits for approval of order 7 yet" in result.stdout


def test_as_json_it_names_the_job(shop):
    job_id = waiting(shop)

    result = shop.run("event", "approval", "--key", job_id, "--json")

    assert json.loads(result.stdout) == {"event": "approval", "key": job_id, "job": job_id}


def test_a_value_that_is_no_json_is_refused_with_the_remedy(shop):
    result = shop.run("event", "approval", "--key", "k", "--value", "yes")

    assert result.exit_code == 2
    assert "text needs quotes" in result.stderr
