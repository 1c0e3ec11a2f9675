"""A job's journal answers for recorded steps, in their order, and refuses any other order."""

import pytest

from cicely.core.journal import Journal, StepKind
from cicely.core.outcome import Step
from cicely.errors import Malformed, StepMismatch


def recorded(*names: str, kind: StepKind = StepKind.STEP) -> list[Step]:
    """Return the records that a first attempt leaves which asks for these steps."""
    journal = Journal("j")
    return [journal.ask(kind, name).noted(name.encode()) for name in names]


def test_a_new_step_has_no_note() -> None:
    assert Journal("j").ask(StepKind.STEP, "download").note is None


def test_a_recorded_step_answers_with_its_value() -> None:
    journal = Journal("j", recorded("download"))

    note = journal.ask(StepKind.STEP, "download").note

    assert note is not None
    assert note.value == b"download"


def test_the_same_name_twice_is_two_steps() -> None:
    first, second = recorded("download", "download")

    assert (first.key, second.key) == ("step:download:0", "step:download:1")


def test_keys_are_the_same_in_every_attempt() -> None:
    steps = recorded("a", "b", "a")
    journal = Journal("j", steps)

    assert [journal.ask(StepKind.STEP, name).key for name in "aba"] == [step.key for step in steps]


def test_steps_recorded_out_of_order_answer_in_theirs() -> None:
    slow, fast = recorded("slow", "fast")
    journal = Journal("j", [fast])

    assert journal.ask(StepKind.STEP, "slow").note is None
    assert journal.ask(StepKind.STEP, "fast").note is not None
    assert Journal("j", [fast, slow]).ask(StepKind.STEP, "slow").note is not None


def test_a_step_that_was_renamed_is_a_mismatch() -> None:
    journal = Journal("j", recorded("download"))

    with pytest.raises(StepMismatch, match=r"recorded as step:download:0.*asks for step:fetch:0"):
        journal.ask(StepKind.STEP, "fetch")


def test_a_step_that_was_put_before_is_a_mismatch() -> None:
    journal = Journal("j", recorded("a", "b"))

    with pytest.raises(StepMismatch):
        journal.ask(StepKind.STEP, "new")


def test_a_step_that_was_left_out_is_a_mismatch() -> None:
    journal = Journal("j", recorded("a", "b"))

    with pytest.raises(StepMismatch):
        journal.ask(StepKind.STEP, "b")


def test_a_step_that_became_a_sleep_is_a_mismatch() -> None:
    journal = Journal("j", recorded("pause"))

    with pytest.raises(StepMismatch):
        journal.ask(StepKind.SLEEP, "pause")


def test_a_call_of_another_task_is_a_mismatch() -> None:
    step = Journal("j").ask(StepKind.CALL, "train", detail="models.train").noted()

    with pytest.raises(StepMismatch, match=r"models\.train.*models\.tune"):
        Journal("j", [step]).ask(StepKind.CALL, "train", detail="models.tune")


def test_a_step_added_at_the_end_is_new() -> None:
    journal = Journal("j", recorded("a"))
    journal.ask(StepKind.STEP, "a")

    assert journal.ask(StepKind.STEP, "b").note is None


def test_an_event_is_told_from_a_wait_that_goes_on_and_from_one_that_timed_out() -> None:
    asked = Journal("j").ask(StepKind.WAIT, "approval")
    told = Journal("j", [asked.noted(), Step(asked.event_key, b"yes")])
    timed_out = Journal("j", [asked.noted(), Step(asked.event_key, b"")])
    waiting = Journal("j", [asked.noted()])

    assert told.event(told.ask(StepKind.WAIT, "approval")) == b"yes"
    assert timed_out.event(timed_out.ask(StepKind.WAIT, "approval")) == b""
    assert waiting.event(waiting.ask(StepKind.WAIT, "approval")) is None


def test_a_record_edited_by_hand_is_malformed() -> None:
    with pytest.raises(Malformed, match="step:a:0"):
        Journal("j", [Step("step:a:0", b"\xff\x00garbage")])
