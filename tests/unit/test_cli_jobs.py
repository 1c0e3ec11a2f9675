"""`cicely jobs` and `cicely job`: what people and programs see of jobs."""

from __future__ import annotations

import json

import pytest
from cli_shop import Shop

from cicely.cli.text import safe, safe_lines, short_id
from cicely.core.outcome import Failed

HOSTILE = "\x1b[31mred\x1b[0m\nnext\u202eline [bold]x[/bold]"


@pytest.fixture
def shop(tmp_path):
    return Shop(tmp_path)


def test_jobs_are_listed_newest_first(shop):
    first = shop.pack.delay(1)
    second = shop.ship.delay(2)

    lines = shop.run("jobs").output.splitlines()

    assert lines[0].split()[:3] == ["ID", "STATE", "TASK"]
    assert lines[1].startswith(second.id)
    assert lines[2].startswith(first.id)


def test_jobs_are_chosen_by_state_task_queue_and_tag(shop):
    shop.pack.delay(1)
    shop.fail()
    shipped = shop.ship.delay(2)

    for filters in (["--state", "ready"], ["--task", "shop.ship"], ["-Q", "slow"], ["--tag", "eu"]):
        lines = shop.run("jobs", "--json", *filters).stdout.splitlines()

        assert [json.loads(line)["id"] for line in lines] == [shipped.id]


def test_jobs_are_chosen_by_age(shop):
    job = shop.pack.delay(1)

    assert job.id in shop.run("jobs", "--since", "1h").output
    assert shop.run("jobs", "--until", "1h").exit_code == 1
    assert shop.run("jobs", "--since", "2999-01-01").exit_code == 1


def test_an_age_that_is_none_is_refused_with_examples(shop):
    result = shop.run("jobs", "--since", "yesterdayish")

    assert result.exit_code == 2
    assert "90s, 1h or 7d" in result.stderr


def test_an_unknown_state_is_refused_with_the_known_ones(shop):
    result = shop.run("jobs", "--state", "faild")

    assert result.exit_code == 2
    assert "failed" in result.stderr


def test_the_limit_says_that_there_are_more(shop):
    for order in range(3):
        shop.pack.delay(order)

    result = shop.run("jobs", "--limit", "2")

    assert len(result.stdout.splitlines()) == 3
    assert "there are more" in result.stderr


def test_nothing_found_is_exit_code_1(shop):
    result = shop.run("jobs")

    assert result.exit_code == 1
    assert result.stdout == ""


def test_a_table_fits_eighty_columns(shop):
    shop.pack.delay("x" * 100)
    shop.fail("a very long message, " * 20)

    result = shop.run("jobs", columns=80)

    assert all(len(line) <= 80 for line in result.stdout.splitlines())
    assert "failed" in result.stdout
    assert "KeyError" in result.stdout


def test_hostile_text_is_escaped_and_never_interpreted(shop):
    shop.pack.delay(HOSTILE)
    job_id = shop.fail(HOSTILE, traceback=f"Traceback\n  {HOSTILE}")

    for arguments in (["jobs"], ["jobs", "--json"], ["job", job_id], ["job", job_id, "--json"]):
        output = shop.run(*arguments).output

        assert "\x1b" not in output
        assert "\u202e" not in output
    assert "[bold]x[/bold]" in shop.run("jobs").output


def test_a_job_is_shown_with_arguments_attempts_error_and_traceback(shop):
    shop.pack.delay({"order": 7}, note="fragile")
    job_id = shop.fail("no such order", traceback="Traceback (most recent call last):\n  in pack")

    output = shop.run("job", job_id).output

    for part in ("{'order': 7}", "'fragile'", "shop.pack", "failed", "KeyError: no such order", "in pack"):
        assert part in output


def test_a_job_as_json_has_its_values(shop):
    job = shop.pack.delay({"order": 7}, note="fragile")
    shop.succeed([1, float("nan"), b"x"])

    record = json.loads(shop.run("job", job.id, "--json").stdout)

    assert record["state"] == "succeeded"
    assert record["args"] == [{"order": 7}]
    assert record["kwargs"] == {"note": "fragile"}
    assert record["result"] == [1, "nan", "b'x'"]
    assert record["attempts"][0]["reason"] == "succeeded"


def test_a_job_is_found_by_the_end_of_its_id(shop):
    job = shop.pack.delay(1)

    assert shop.run("job", job.id[-8:]).exit_code == 0
    assert shop.run("job", short_id(job.id)).exit_code == 0


def test_an_end_that_several_ids_share_is_refused_with_their_names(shop):
    for name in ("order-1-late", "order-2-late"):
        shop.pack.options(id=name).delay(1)

    result = shop.run("job", "late")

    assert result.exit_code == 2
    assert "order-1-late" in result.stderr
    assert "order-2-late" in result.stderr


def test_an_unknown_job_is_exit_code_1_and_one_line(shop):
    result = shop.run("job", "nowhere")

    assert result.exit_code == 1
    assert result.stderr.startswith("Error: there is no job nowhere")
    assert len(result.stderr.splitlines()) == 1


def test_a_ready_job_says_why_nobody_starts_it(shop):
    job = shop.pack.delay(1)

    assert "no worker serves" in shop.run("job", job.id).output

    shop.join()
    assert "waits" not in shop.run("job", job.id).output

    shop.run("pause", "default")
    assert "paused" in shop.run("job", job.id).output


def test_a_retry_says_when_it_is_due_and_after_what(shop):
    shop.pack.delay(1)
    [claim] = shop.claim()
    shop.settle(Failed(claim.token, "timeout", retry_in_s=60.0))

    output = shop.run("jobs").output

    assert "scheduled" in output
    assert "after: timeout" in output


def test_bytes_that_no_codec_wrote_are_said_to_be_unreadable(shop):
    from cicely.core.job import Kind, NewJob

    shop.engine.enqueue([NewJob("bad", "shop.pack", Kind.SYNC, "default", body=b"\x01\x00\xff\xff")])

    assert "cannot be shown" in shop.run("job", "bad").output
    assert "cannot be shown" in json.loads(shop.run("job", "bad", "--json").stdout)["args"][0]


def test_safe_keeps_what_is_printable():
    assert safe("größe 漢字 ✓") == "größe 漢字 ✓"
    assert safe("a\x00b\x9b\u200f\ud800") == "a\\x00b\\x9b\\u200f\\ud800"
    assert safe_lines("a\tb\nc\r") == ["a   b", "c\\r"]
