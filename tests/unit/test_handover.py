"""A claim that was taken ahead belongs to whoever removes it from the hand-over."""

from __future__ import annotations

import os

from cicely.worker.handover import STOP, Handover


def tokens(count: int) -> list[bytes]:
    return [number.to_bytes(16, "big") for number in range(1, count + 1)]


def test_claims_come_out_in_the_order_in_which_they_went_in():
    handover = Handover.create()
    handover.put(tokens(600))

    assert handover.take() == tokens(1)[0]
    assert handover.take_all() == tokens(600)[1:]
    assert handover.take() is None
    handover.close()


def test_it_says_whether_claims_are_waiting():
    handover = Handover.create()
    assert not handover.is_waiting

    handover.put(tokens(1))
    assert handover.is_waiting

    handover.take()
    assert not handover.is_waiting
    handover.close()


def test_a_stop_is_left_for_whoever_is_to_stop():
    handover = Handover.create()
    handover.put([*tokens(2), STOP, STOP])

    assert handover.take_all() == tokens(2)
    assert handover.take_all() == []
    assert [handover.take(), handover.take(), handover.take()] == [STOP, STOP, None]
    handover.close()


def test_of_two_processes_each_claim_goes_to_one():
    handover = Handover.create()
    answer_read, answer_write = os.pipe()
    handover.put(tokens(2000))

    child = os.fork()
    if child == 0:
        os.write(answer_write, len(handover.take_all()).to_bytes(4, "big"))
        os._exit(0)
    mine = len(handover.take_all())
    os.waitpid(child, 0)
    theirs = int.from_bytes(os.read(answer_read, 4), "big")

    assert mine + theirs == 2000
    handover.close()
