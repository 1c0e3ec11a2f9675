"""What a torture says of jobs that are due later."""

from math import inf

import msgspec
import pytest

from cicely.testing.ledger import Judgement, Line
from cicely.testing.torture.report import Report, late_s

DUE = {f"j{n}": 100.0 + n for n in range(200)}


def started(late_by: dict[str, float]) -> list[Line]:
    """The ledger of jobs that started 10 ms late each, or as late as `late_by` says."""
    return [Line("start", job_id, 1, 7, due_at + late_by.get(job_id, 0.01)) for job_id, due_at in DUE.items()]


@pytest.mark.parametrize(
    ("late_by", "found"),
    [({}, 0.01), ({"j3": 2.0, "j4": 2.0}, 0.01), ({"j3": 2.0, "j4": 2.0, "j5": 1.0}, 1.0)],
)
def test_of_two_hundred_due_jobs_two_may_be_later_than_it_says(late_by, found):
    assert late_s(started(late_by), DUE) == pytest.approx(found)


def test_a_second_attempt_is_no_later_start():
    lines = [*started({}), *(msgspec.structs.replace(line, at=line.at + 60) for line in started({}))]

    assert late_s(lines, DUE) == pytest.approx(0.01)


def test_jobs_that_never_started_are_late_for_ever():
    assert late_s(started({})[3:], DUE) == inf


def test_the_report_tells_the_figure_and_does_not_judge_it():
    fields = dict.fromkeys(Judgement.__struct_fields__, 0)
    report = Report(
        url="",
        seed=1,
        seconds=1.0,
        judgement=msgspec.convert(fields, Judgement),
        faults={},
        states={},
        idle_jobs=0,
        idle_re_runs=0,
        retries=0,
        unexplained=0,
        fences_out_of_order=0,
        stale_refused=0,
        still_moving=0,
        due_jobs=200,
        due_late_s=0.0314,
    )

    assert report.is_clean
    assert "ms late, p99 of 200 due jobs               31  (50 on a machine of its own)" in report.lines()
