"""Whether both sides of a migration made the same, and whether every job ended on exactly one."""

from __future__ import annotations

import pytest

from cicely.migration.accounts import Entry, FileAccounts, How, MemoryAccounts
from cicely.migration.comparison import Margins, compared
from cicely.migration.routing import Which
from cicely.migration.sides import FAILED, LIVE, SUCCEEDED, Standing
from cicely.migration.verification import book_of, verified

OLD, NEW = Which.OLD, Which.NEW
DONE = Standing(state=SUCCEEDED)


def ran(output="42", *, duration_s=1.0, memory_bytes=1_000, state=SUCCEEDED):
    return Standing(state=state, output=output, duration_s=duration_s, memory_bytes=memory_bytes)


def compare(old, new, **margins):
    return compared({"job": (old, new)}, Margins(**margins))


def verify(entries, *, old=(), new=(), live=()):
    def standing(job_id, known):
        if job_id not in known:
            return Standing()
        return Standing(state=LIVE) if job_id in live else DONE

    book = book_of(Entry(*entry) for entry in entries)
    return verified(
        book,
        {
            OLD: {job_id: standing(job_id, old) for job_id in book.accepted},
            NEW: {job_id: standing(job_id, new) for job_id in book.accepted},
        },
    )


def test_what_lies_within_the_margins_is_alike():
    comparison = compare(ran(), ran(duration_s=1.09, memory_bytes=999))

    assert comparison.is_alike
    assert comparison.exit_code == 0


def test_a_difference_names_the_job_and_what_differs():
    comparison = compare(ran("41"), ran("42", duration_s=1.2, memory_bytes=2_000_000))

    assert comparison.exit_code == 1
    assert comparison.differing["job"] == (
        "output '41' → '42'",
        "duration 1.000 s → 1.200 s",
        "memory 0.0 MB → 2.0 MB",
    )
    assert "job: output '41' → '42'" in str(comparison)


def test_a_tenth_of_a_second_is_too_much_in_either_direction():
    assert compare(ran(duration_s=1.0), ran(duration_s=1.125)).differing
    assert compare(ran(duration_s=1.125), ran(duration_s=1.0)).differing
    assert not compare(ran(duration_s=1.0), ran(duration_s=1.125), duration_s=0.2).differing


def test_less_memory_is_no_violation():
    assert not compare(ran(memory_bytes=5_000), ran(memory_bytes=1)).differing


def test_a_failure_here_and_a_success_there_differ():
    assert compare(ran(), ran(state=FAILED, output=None)).differing == {"job": ("state succeeded → failed",)}


def test_what_a_side_does_not_say_is_not_compared():
    assert not compare(ran(duration_s=None, memory_bytes=None), ran()).differing


def test_what_has_not_ended_on_both_sides_waits_and_nothing_compared_is_no_proof():
    comparison = compare(ran(), Standing(state=LIVE))

    assert comparison.waiting == ("job",)
    assert comparison.exit_code == 1


def test_jobs_that_ended_on_exactly_one_side_are_clean():
    entries = [("a", OLD, How.ACCEPTED), ("a", NEW, How.NOTED), ("b", NEW, How.ACCEPTED)]

    verification = verify(entries, old={"a"}, new={"b"})

    assert verification.is_clean
    assert (verification.accepted, verification.old, verification.new) == (2, 1, 1)
    assert str(verification) == "accepted 2, old 1, new 1, both 0, pending 0, lost 0"


def test_a_job_that_no_side_knows_is_lost():
    verification = verify([("a", OLD, How.ACCEPTED)])

    assert verification.lost == ("a",)
    assert verification.exit_code == 1
    assert "lost: a" in str(verification)


def test_a_job_on_both_sides_is_found_though_one_of_them_said_that_it_refused():
    assert verify([("a", NEW, How.ACCEPTED)], old={"a"}, new={"a"}).both == ("a",)


def test_a_copy_counts_for_nothing():
    entries = [("a", OLD, How.ACCEPTED), ("a", NEW, How.SHADOWED)]

    assert verify(entries, old={"a"}, new={"a"}).old == 1
    assert verify(entries, new={"a"}).lost == ("a",)


def test_a_job_that_goes_on_is_pending_and_only_the_old_sides_hinder_the_end():
    entries = [("a", OLD, How.ACCEPTED), ("b", NEW, How.ACCEPTED)]

    both_at_work = verify(entries, old={"a"}, new={"b"}, live={"a", "b"})
    new_at_work = verify(entries, old={"a"}, new={"b"}, live={"b"})

    assert both_at_work.pending == ("a", "b")
    assert not both_at_work.is_settled
    assert new_at_work.is_settled
    assert not new_at_work.is_clean


def test_a_job_that_was_accepted_twice_is_one_job():
    verification = verify([("a", OLD, How.ACCEPTED), ("a", OLD, How.ACCEPTED)], old={"a"})

    assert (verification.accepted, verification.old) == (1, 1)


def test_a_book_in_a_file_is_shared_and_an_unfinished_line_is_passed_over(tmp_path):
    one, other = FileAccounts(tmp_path / "book"), FileAccounts(tmp_path / "book")
    one.add([Entry("a", OLD, How.ACCEPTED)])
    other.add([Entry("b", NEW, How.ACCEPTED), Entry("b", OLD, How.NOTED)])
    with (tmp_path / "book").open("ab") as file:
        file.write(b'["c","ol')

    assert [entry.job_id for entry in one.entries()] == ["a", "b", "b"]


def test_a_book_that_nobody_wrote_to_is_empty(tmp_path):
    assert list(FileAccounts(tmp_path / "book").entries()) == []


@pytest.mark.parametrize("job_id", ["a", 'a"', "a\n", "ä,["])
def test_a_book_tells_the_entries_of_one_job(tmp_path, job_id):
    others = [Entry(other, OLD, How.ACCEPTED) for other in ("aa", job_id + "x", '["a",')]
    wanted = [Entry(job_id, NEW, How.ACCEPTED), Entry(job_id, OLD, How.SHADOWED)]
    for book in (FileAccounts(tmp_path / "book"), MemoryAccounts()):
        assert list(book.entries_of(job_id)) == []
        book.add([*others, *wanted])

        assert list(book.entries_of(job_id)) == wanted
