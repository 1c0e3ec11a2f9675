"""The same sentence is said once in half a minute."""

from __future__ import annotations

from cicely.worker.repeats import Repeats


def test_a_sentence_is_due_again_when_it_was_not_said_for_a_while():
    repeats = Repeats(quiet_s=30)

    due = [at for at in range(100) if repeats.is_due("the file was deleted", at)]

    assert due == [0, 30, 60, 90]


def test_another_sentence_is_due_at_once():
    repeats = Repeats()

    assert repeats.is_due("the file was deleted", 0)
    assert repeats.is_due("the disk is full", 0)
    assert not repeats.is_due("the file was deleted", 1)
