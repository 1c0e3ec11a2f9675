"""Fingerprints: failures that are alike have one, others have others."""

import pytest

from cicely.core.fingerprint import fingerprint, pattern
from cicely.core.outcome import ErrorRecord

TRACE = """Traceback (most recent call last):
  File "/srv/app/evals/run.py", line {line}, in evaluate
    grade(code)
  File "/srv/app/evals/grade.py", line {line}, in grade
    raise ValueError(code)
"""


def error(message, *, line=10, type_name="ValueError", trace=TRACE):
    return ErrorRecord(type_name, message, trace.format(line=line), "builtins")


@pytest.mark.parametrize(
    ("message", "shown"),
    [
        ("timed out after 12.5 s", "timed out after <n> s"),
        ("no order 'A-77' of \"me\"", "no order <value> of <value>"),
        ("GET https://api.example.org/v1/jobs/8?x=1 failed", "GET <url> failed"),
        ("cannot open /var/lib/app/eval-3.db: locked", "cannot open <path>: locked"),
        ("object at 0x7f3a12 is gone", "object at <address> is gone"),
        ("job 0f8fad5b-d9cb-469f-a165-70867728950e", "job <id>"),
        ("commit deadbeef01 is unknown", "commit <id> is unknown"),
        ("added 3 of 5 and/or none", "added <n> of <n> and/or none"),
        ("first line\nsecond line 2", "first line"),
    ],
)
def test_what_differs_from_job_to_job_is_left_out(message, shown):
    assert pattern(message) == shown


def test_the_same_failure_of_two_jobs_has_one_fingerprint():
    assert fingerprint(error("eval 1 failed")) == fingerprint(error("eval 22 failed"))


def test_lines_move_and_folders_differ_without_a_change():
    elsewhere = TRACE.replace("/srv/app", "C:\\\\app")

    assert fingerprint(error("x", line=1)) == fingerprint(error("x", line=999, trace=elsewhere))


@pytest.mark.parametrize(
    "other",
    [
        error("another sentence"),
        error("eval 1 failed", type_name="KeyError"),
        error("eval 1 failed", trace=TRACE.replace("in grade", "in weigh")),
    ],
)
def test_what_is_not_alike_has_another(other):
    assert fingerprint(error("eval 1 failed")) != fingerprint(other)


def test_tasks_are_told_apart():
    assert fingerprint(error("x"), task="a") != fingerprint(error("x"), task="b")


def test_hostile_text_takes_no_time_and_no_character_breaks_it():
    long = "'" * 50_000 + "/" * 50_000 + "a:" * 50_000

    assert len(pattern(long)) <= 200
    assert len(fingerprint(ErrorRecord("\ud800", "\udfff" * 10, "\ud800"))) == 12
