"""What happens is counted per minute: each job that is stored, each end, each attempt on the way."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cicely.core.edge import Edge
from cicely.core.outcome import Await, Crashed, Deferred, Failed, HandedBack, Stopped, Succeeded, Suspended
from cicely.core.rollup import KEEP_ROLLUPS_S, Cell, Count, Word, minute_of, whole
from cicely.engines.contract import Engine, Schedule, Verdict
from cicely.testing.conformance.bench import (
    beat,
    fail,
    job,
    look,
    message,
    receive_demand,
    session,
    settle,
    silent,
    start,
    succeed,
    sweep,
    take,
    take_one,
)
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.ROLLUPS})

EVER: Final = 1 << 40

#: What every job here does first, and no test is about.
_FIRST: Final = Word.ENQUEUED


def cells(engine: Engine) -> list[Cell]:
    """Return all that was counted, but for what was enqueued."""
    return [cell for cell in all_cells(engine) if cell.word is not _FIRST]


def all_cells(engine: Engine) -> list[Cell]:
    """Return all that was counted, in whole cells."""
    parts: list[Cell] = []
    minute: int | None = 0
    while minute is not None:
        page = engine.rollups(minute, EVER)
        parts += page.cells
        minute = page.next_minute
    return list(whole(parts))


def words(found: Iterable[Cell]) -> dict[Word, int]:
    """Return the counts by word."""
    totals: dict[Word, int] = {}
    for cell in found:
        totals[cell.word] = totals.get(cell.word, 0) + cell.count
    return totals


def minute_of_job(engine: Engine, job_id: str = "a") -> int:
    """Return the minute in which a job was stored."""
    return minute_of(look(engine, job_id).created_at)


# --- what is enqueued ---------------------------------------------------------------------------
def test_a_stored_job_is_counted_in_its_minute(harness: Harness) -> None:
    engine = harness.engine()

    engine.enqueue([job(id="a"), job(id="b"), job(id="c", task="other", queue="side", delay_s=100)])

    minute = minute_of_job(engine)
    assert all_cells(engine) == [
        Cell(minute, Word.ENQUEUED, "other", "side", 1),
        Cell(minute, Word.ENQUEUED, "work", "main", 2),
    ]


def test_a_job_that_was_known_is_not_counted_again(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", unique="key")])

    engine.enqueue([job(id="a"), job(id="b", unique="key")])

    assert words(all_cells(engine)) == {Word.ENQUEUED: 1}


def test_a_held_job_and_a_waiting_one_are_counted_when_they_are_stored(harness: Harness) -> None:
    engine = harness.engine()

    engine.enqueue([job(id="a", workflow="w", held=True), job(id="b")], [Edge("a", "b")])

    assert words(all_cells(engine)) == {Word.ENQUEUED: 2}


def test_the_job_of_a_tick_is_counted(harness: Harness) -> None:
    engine = harness.engine()
    seen = Schedule(name="s", spec=b"", next_at=1.0)
    engine.put_schedule(seen)

    engine.tick(seen, Schedule(name="s", spec=b"", next_at=2.0), [job(id="a")])

    assert words(all_cells(engine)) == {Word.ENQUEUED: 1}


def test_minutes_are_those_of_the_engines_clock(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    harness.advance(120)
    engine.enqueue([job(id="b")])

    minute = minute_of_job(engine)

    assert [cell.minute for cell in all_cells(engine)] == [minute, minute + 2]
    assert minute_of_job(engine, "b") == minute + 2


# --- ends ---------------------------------------------------------------------------------------
def test_a_success_is_counted_once_with_its_run_time(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    harness.advance(2.5)

    settle(engine, Succeeded(claim.token))

    [cell] = cells(engine)
    assert (cell.word, cell.task, cell.queue, cell.count) == (Word.SUCCEEDED, "work", "main", 1)
    assert abs(cell.sum_us - 2_500_000) < 2_000
    assert cell.buckets == {23: 1}


def test_run_times_are_kept_in_buckets(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=f"j{n}") for n in range(4)])
    slow, *fast = take(engine, 4)
    harness.advance(0.1)
    engine.settle("s", [Succeeded(claim.token) for claim in fast])
    harness.advance(50)

    settle(engine, Succeeded(slow.token))

    [cell] = cells(engine)
    assert (cell.count, cell.buckets) == (4, {14: 3, 32: 1})


def test_a_success_of_no_time_lies_in_the_first_bucket(harness: Harness) -> None:
    engine = harness.engine()

    succeed(engine, job(id="a"))

    [cell] = cells(engine)
    assert (cell.sum_us, cell.buckets) == (0, {0: 1})


def test_a_repeated_outcome_is_not_counted_again(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    settle(engine, Succeeded(claim.token))

    assert settle(engine, Succeeded(claim.token)) is Verdict.ALREADY
    assert words(cells(engine)) == {Word.SUCCEEDED: 1}


def test_a_stale_outcome_is_not_counted(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.retire("s")

    assert settle(engine, Failed(claim.token, "error")) is Verdict.STALE
    assert words(cells(engine)) == {}


def test_a_failure_is_counted_as_one_whatever_its_cause(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")])
    one, two, three = take(engine, 3)

    engine.settle("s", [Failed(one.token, "error"), Failed(two.token, "timeout")])
    harness.advance(60)
    settle(engine, Failed(three.token, "stalled"))

    assert [(cell.word, cell.count) for cell in cells(engine)] == [(Word.FAILED, 2), (Word.FAILED, 1)]


def test_an_expired_job_is_counted_without_a_run_time(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a", expires_s=10)])
    harness.advance(60)

    sweep(engine)

    [cell] = cells(engine)
    assert (cell.minute, cell.word, cell.count) == (minute_of_job(engine) + 1, Word.EXPIRED, 1)
    assert (cell.sum_us, cell.buckets) == (0, {})


def test_a_job_that_a_claim_finds_expired_is_counted(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a", expires_s=10)])
    harness.advance(11)

    take(engine)

    assert words(cells(engine)) == {Word.EXPIRED: 1}


def test_cancelled_jobs_are_counted_with_the_time_that_they_ran(harness: Harness) -> None:
    engine = harness.engine()
    claim = start(engine, job(id="a"))
    engine.enqueue([job(id="b")])
    engine.steer("cancel", ["a", "b"])
    harness.advance(1)

    settle(engine, Stopped(claim.token))

    [cell] = cells(engine)
    assert (cell.word, cell.count, cell.ran, cell.buckets) == (Word.CANCELLED, 2, 1, {20: 1})


def test_a_job_that_ends_because_of_another_is_counted(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")], [Edge("a", "b"), Edge("b", "c")])

    settle(engine, Failed(take_one(engine).token, "error"))

    assert words(cells(engine)) == {Word.FAILED: 1, Word.CANCELLED: 2}


def test_a_revived_job_that_ends_again_is_counted_again(harness: Harness) -> None:
    engine = harness.engine()
    fail(engine, job(id="a"))
    engine.steer("revive", ["a"])

    settle(engine, Succeeded(take_one(engine).token))

    assert words(cells(engine)) == {Word.FAILED: 1, Word.SUCCEEDED: 1}


def test_messages_are_counted_under_no_task(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([message(id="m")])
    [claim] = engine.claim("s", receive_demand(1, visibility_s=10)).claims

    settle(engine, Succeeded(claim.token))

    assert [(cell.word, cell.task, cell.queue) for cell in all_cells(engine)] == [
        (Word.ENQUEUED, "", "main"),
        (Word.SUCCEEDED, "", "main"),
    ]


# --- attempts on the way ------------------------------------------------------------------------
def test_each_attempt_after_which_a_job_goes_on_is_counted(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id=job_id) for job_id in "abcdef"])
    harness.advance(0.25)
    claims = {claim.job_id: claim.token for claim in take(engine, 6)}
    harness.advance(1)

    engine.settle(
        "s",
        [
            Failed(claims["a"], "error", retry_in_s=5),
            Crashed(claims["b"], "killed by signal 9"),
            Deferred(claims["c"], 5),
            HandedBack(claims["d"], has_started=True),
            HandedBack(claims["e"], alone=True),
            Suspended(claims["f"], event=Await("go", "", "step")),
        ],
    )

    found = cells(engine)
    assert words(found) == {
        Word.RETRIED: 1,
        Word.CRASHED: 1,
        Word.DEFERRED: 1,
        Word.RETURNED: 2,
        Word.SUSPENDED: 1,
    }
    assert all(cell.buckets == {20: cell.count} for cell in found)


def test_a_claim_that_came_back_unstarted_is_not_counted(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([job(id="a"), job(id="b"), job(id="c")])
    one, _, _ = take(engine, 3)
    settle(engine, HandedBack(one.token, "taken back"))
    beat(engine, of="s", number=1)
    beat(engine, of="s", number=2)

    engine.retire("s")

    assert words(cells(engine)) == {}


def test_the_attempts_of_a_lost_session_are_counted(harness: Harness) -> None:
    engine = harness.engine()
    start(engine, job(id="a"))
    harness.advance(2)

    sweep(engine, silent(engine))

    [cell] = cells(engine)
    assert (cell.word, cell.count, cell.buckets) == (Word.LOST, 1, {22: 1})


def test_a_message_past_its_deadline_is_counted_as_retried_then_as_failed(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="s"))
    engine.enqueue([message(id="m", max_receives=2)])
    for _ in range(2):
        engine.claim("s", receive_demand(1, visibility_s=10))
        harness.advance(11)
        sweep(engine)

    assert words(cells(engine)) == {Word.RETRIED: 1, Word.FAILED: 1}


# --- what is no job's ---------------------------------------------------------------------------
def test_a_lost_worker_is_counted_and_its_children_are_not(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="boss", tasks=frozenset()))
    engine.join(session(id="s"))

    sweep(engine, silent(engine, "boss"), silent(engine, "s"))

    [cell] = cells(engine)
    assert (cell.word, cell.task, cell.queue, cell.count) == (Word.LOST_WORKERS, "", "", 1)


def test_a_worker_that_leaves_is_not_counted(harness: Harness) -> None:
    engine = harness.engine()
    engine.join(session(id="boss", tasks=frozenset()))

    engine.retire("boss")

    assert cells(engine) == []


def test_what_workers_report_is_added_to_the_minute_they_saw_it_in(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id="a")])
    harness.advance(180)

    engine.report([Count(Word.BEATS), Count(Word.ENGINE_ERRORS, 3, ago_s=120), Count(Word.BEATS)])
    engine.report([Count(Word.ENGINE_ERRORS, 2, ago_s=119)])

    minute = minute_of_job(engine)
    assert cells(engine) == [
        Cell(minute + 1, Word.ENGINE_ERRORS, count=5),
        Cell(minute + 3, Word.BEATS, count=2),
    ]


def test_a_tick_adds_its_counts_under_the_schedules_name(harness: Harness) -> None:
    engine = harness.engine()
    seen, then = (Schedule(name="s", spec=b"", next_at=at) for at in (1.0, 2.0))
    engine.put_schedule(seen)

    engine.tick(seen, then, [], [Count(Word.TICKS_DUE, 3, "s"), Count(Word.TICKS_MADE, 1, "s")])

    assert [(cell.word, cell.task, cell.count) for cell in cells(engine)] == [
        (Word.TICKS_DUE, "s", 3),
        (Word.TICKS_MADE, "s", 1),
    ]


def test_a_tick_that_came_late_adds_nothing(harness: Harness) -> None:
    engine = harness.engine()
    seen, then = (Schedule(name="s", spec=b"", next_at=at) for at in (1.0, 2.0))
    engine.put_schedule(then)

    assert not engine.tick(seen, then, [job(id="a")], [Count(Word.TICKS_DUE, 1, "s")])
    assert all_cells(engine) == []


# --- reading and retention ----------------------------------------------------------------------
def test_rollups_are_read_between_two_minutes(harness: Harness) -> None:
    engine = harness.engine()
    for n in range(4):
        engine.enqueue([job(id=f"j{n}")])
        harness.advance(60)
    first = minute_of_job(engine, "j0")

    page = engine.rollups(first + 1, first + 3)

    assert sorted({cell.minute for cell in page.cells}) == [first + 1, first + 2]
    assert page.next_minute is None


def test_a_page_holds_whole_minutes_and_says_where_to_go_on(harness: Harness) -> None:
    engine = harness.engine()
    for n in range(4):
        engine.enqueue([job(id=f"j{n}"), job(id=f"k{n}", task="other")])
        harness.advance(60)
    first = minute_of_job(engine, "j0")

    pages = [engine.rollups(first, EVER, limit=3)]
    while (minute := pages[-1].next_minute) is not None:
        pages.append(engine.rollups(minute, EVER, limit=3))

    counted = [{cell.minute: 0 for cell in page.cells} for page in pages]
    for totals, page in zip(counted, pages, strict=True):
        for cell in page.cells:
            totals[cell.minute] += cell.count
    assert len(pages) > 1
    assert [one for totals in counted for one in totals.items()] == [(first + n, 2) for n in range(4)]


def test_a_page_holds_a_minute_however_much_was_counted_in_it(harness: Harness) -> None:
    engine = harness.engine()
    engine.enqueue([job(id=f"j{n}", task=f"t{n}") for n in range(5)])
    harness.advance(60)
    engine.enqueue([job(id="last")])
    first = minute_of_job(engine, "j0")

    page = engine.rollups(first, EVER, limit=2)

    assert words(page.cells) == {Word.ENQUEUED: 5}
    assert words(engine.rollups(page.next_minute or 0, EVER, limit=2).cells) == {Word.ENQUEUED: 1}


def test_what_several_connections_count_adds_up(harness: Harness) -> None:
    one, two = harness.engine(), harness.engine()
    for n, engine in enumerate((one, two, one)):
        engine.enqueue([job(id=f"j{n}")])
    sweep(one)
    two.enqueue([job(id="last")])

    assert [cell.count for cell in all_cells(one)] == [4]
    assert all_cells(two) == all_cells(one)


def test_counts_outlive_the_jobs_that_they_count(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a", keep_s=10))
    harness.advance(11)
    sweep(engine)

    assert engine.get(["a"]) == [None]
    assert words(all_cells(engine)) == {Word.ENQUEUED: 1, Word.SUCCEEDED: 1}


def test_rollups_are_kept_for_thirty_days(harness: Harness) -> None:
    engine = harness.engine()
    succeed(engine, job(id="a"))
    harness.advance(KEEP_ROLLUPS_S - 60)
    sweep(engine)
    kept = words(all_cells(engine))
    engine.enqueue([job(id="b")])
    harness.advance(120)

    while sweep(engine).more:
        pass

    assert kept == {Word.ENQUEUED: 1, Word.SUCCEEDED: 1}
    assert words(all_cells(engine)) == {Word.ENQUEUED: 1}
