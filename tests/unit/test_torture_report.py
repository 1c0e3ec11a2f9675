"""What a torture says of jobs that are due later."""

from math import inf

import msgspec
import pytest

from cicely.testing.ledger import Judgement, Line
from cicely.testing.torture.crowding import Alone, Crowding, crowding_of
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


def a_report(**found):
    fields = dict.fromkeys(Judgement.__struct_fields__, 0)
    return Report(
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
        **found,
    )


def test_the_report_tells_the_figure_and_does_not_judge_it():
    report = a_report(due_jobs=200, due_late_s=0.0314)

    assert report.is_clean
    assert "ms late, p99 of 200 due jobs               31  (50 on a machine of its own)" in report.lines()


# --- limits, units and lanes --------------------------------------------------------------------
def queued(*, before, alone=1, fence=1):
    """The ledger of crowds of sixty, each with one alone behind it, before whom so many of them started."""
    lines, noted = [], []
    for number in range(alone):
        at = 1_000.0 * (number + 1)
        order = [f"crowd{number}-{n:02d}" for n in range(60)]
        order.insert(before, f"alone{number}")
        lines += [
            Line("start", name, fence if name[0] == "a" else 1, 7, at + n) for n, name in enumerate(order)
        ]
        noted.append(Alone(f"alone{number}", f"crowd{number}", at - 0.5))
    return crowding_of(lines, alone=noted, gate="gate", leaked=0)


def test_who_comes_alone_and_goes_behind_few_of_a_crowd_is_no_finding():
    found = queued(before=5, alone=10)

    assert (found.alone, found.far_back) == (10, 0)
    assert a_report(crowding=found).is_clean


def test_without_lanes_those_who_come_alone_starve_and_that_breaks_a_promise():
    found = queued(before=60, alone=10)

    assert (found.alone, found.far_back) == (10, 10)
    assert not a_report(crowding=found).is_clean
    assert "of 10 alone, far behind a crowd            10  (at most 2)" in a_report(crowding=found).lines()


def test_a_few_whom_a_fault_held_up_are_excused():
    assert not Crowding(entered=0, at_once=0, beyond=0, leaked=0, alone=10, far_back=2).has_starved
    assert Crowding(entered=0, at_once=0, beyond=0, leaked=0, alone=10, far_back=3).has_starved


def test_whose_claim_was_lost_and_what_started_before_they_came_does_not_count():
    assert queued(before=60, fence=2).alone == 0
    lines = [Line("start", f"c-{n:02d}", 1, 7, float(n)) for n in range(60)]
    late = crowding_of(
        [*lines, Line("start", "x", 1, 7, 60.0)], alone=[Alone("x", "c", 50.5)], gate="gate", leaked=0
    )
    assert late.far_back == 0


@pytest.mark.parametrize("broken", ["beyond", "leaked"])
def test_what_was_exceeded_or_stayed_held_breaks_a_promise(broken):
    fields = dict.fromkeys(Crowding.__struct_fields__, 0)

    report = a_report(crowding=Crowding(**{**fields, broken: 1}))

    assert not report.is_clean
    assert report.lines()[-1].endswith("A PROMISE WAS BROKEN")
