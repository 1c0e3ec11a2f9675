"""The tables of the comparison: who stands where, what is missing and why, what a setting risks."""

import msgspec
from benchmarks.compare.lines import QUICK, group_of
from benchmarks.compare.results import Comparison, Field, Showing
from benchmarks.compare.statistics import NEVER
from benchmarks.compare.tables import (
    RISK,
    absences_of,
    as_markdown,
    groups_of,
    heads_of,
    judgements_of,
    rows_of,
)
from benchmarks.machine import Machine

ENQUEUE = group_of("enqueue")
KILL = group_of("kill")


def field(*showings: Showing) -> Field:
    return Field("redis", "Redis 9", "commands", showings)


def showing(name: str, **figures: list[float]) -> Showing:
    return Showing(name, "defaults", figures=figures)


def test_the_best_stands_first_and_who_has_no_figures_below_with_the_reason() -> None:
    broken = showing("broken")
    broken.reasons["install"] = "no such version"
    slow, fast = showing("slow", single=[10.0]), showing("fast", single=[90.0, 110.0, 100.0])

    rows = rows_of(field(broken, slow, fast), ENQUEUE, patience_s=60)

    assert [row[0] for row in rows] == ["fast", "slow"]
    assert rows[0][1] == "100 (90.0 to 110)"
    assert absences_of(field(broken, slow), ENQUEUE) == ["broken: no such version"]
    assert {len(row) for row in rows} == {len(heads_of(ENQUEUE))}


def test_each_row_says_when_the_job_of_a_killed_process_runs_again() -> None:
    safe = showing("safe", single=[2.0], rerun_process=[0.5])
    lost = showing("lost", single=[1.0], rerun_process=[NEVER])

    rows = rows_of(field(safe, lost, showing("unknown", single=[0.5])), ENQUEUE, patience_s=60)

    assert heads_of(ENQUEUE)[-1] == RISK
    assert [row[-1] for row in rows] == ["after 0.50 s", "not within 60 s", "not measured"]


def test_the_table_of_kills_has_no_second_column_of_the_same() -> None:
    [row] = rows_of(field(showing("lost", rerun_process=[NEVER], rerun_worker=[2.0])), KILL, patience_s=15)

    assert RISK not in heads_of(KILL)
    assert row == ("lost", "not within 15 s", "2.00")


def test_groups_that_nobody_was_measured_in_are_left_out() -> None:
    assert groups_of(field(showing("cicely", bulk=[1.0]))) == [ENQUEUE]


def test_cicely_is_judged_beside_the_best_peer_of_each_line() -> None:
    ours = showing("cicely", single=[20.0, 30.0, 20.0], bulk=[5.0, 12.5, 20.0])
    first = showing("first", single=[10.0, 10.0, 5.0], bulk=[1.0, 1.0, 1.0])
    second = showing("second", single=[1.0, 1.0, 1.0], bulk=[10.0, 10.0, 10.0])

    one_by_one, in_bulk = judgements_of(field(ours, first, second), ENQUEUE)

    assert one_by_one == "one by one: 3.00 of first's (2.00 to 4.00), ahead"
    assert in_bulk == "in bulk: 1.25 of second's (0.50 to 2.00), even"


def test_one_run_decides_nothing() -> None:
    ours, peer = showing("cicely", single=[20.0]), showing("peer", single=[10.0])

    assert judgements_of(field(ours, peer), ENQUEUE) == ["one by one: 2.00 of peer's"]


def test_what_a_run_printed_as_json_is_read_again() -> None:
    machine = Machine("cpu", 2, 8.0, "6", "3.11", {}, "ext4", 100.0, 0.5)
    lost = showing("lost", rerun_process=[NEVER], rerun_worker=[1.0])
    found = Comparison(machine, QUICK, 3, (0.1, 0.2), (field(lost),))

    again = msgspec.json.decode(msgspec.json.encode(found), type=Comparison)

    assert again == found
    assert "medians of 3 runs" in as_markdown(again, drawings={})
    assert "| lost | not within 15 s | 1.00 |" in as_markdown(again, drawings={})
