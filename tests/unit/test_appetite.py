"""A child claims again only where something may have changed."""

from __future__ import annotations

import pytest

from cicely.worker.appetite import Appetite


@pytest.fixture
def fed() -> Appetite:
    """Return the appetite of a child that offered one place, got nothing and waits for a ring."""
    appetite = Appetite()
    appetite.offer((1, 0))
    appetite.listens()
    appetite.answered(is_full=False, due_in_s=None, now=100.0)
    return appetite


def test_a_new_child_claims():
    assert Appetite().wants((1,), is_idle=True)


def test_after_a_claim_that_was_not_filled_there_is_nothing_more(fed):
    assert not fed.wants((1, 0), is_idle=True)


def test_after_a_full_claim_there_may_be_more():
    appetite = Appetite()
    appetite.offer((1,))
    appetite.answered(is_full=True, due_in_s=None, now=100.0)

    assert appetite.wants((0,), is_idle=False)


@pytest.mark.parametrize("free", [(2, 0), (0, 1)])
def test_a_place_that_was_not_offered_may_find_a_job(fed, free):
    assert fed.wants(free, is_idle=True)


def test_fewer_places_find_nothing(fed):
    assert not fed.wants((0, 0), is_idle=True)


def test_a_ring_is_worth_a_claim_and_another_that_arms_the_bell(fed):
    fed.hears()
    assert fed.wants((1, 0), is_idle=True)
    fed.offer((1, 0))
    fed.answered(is_full=False, due_in_s=None, now=101.0)

    assert fed.wants((1, 0), is_idle=True)
    assert not fed.wants((1, 0), is_idle=False)
    assert not fed.wants((0, 0), is_idle=True)


def test_a_job_that_is_due_is_worth_a_claim(fed):
    fed.answered(is_full=False, due_in_s=5.0, now=100.0)
    fed.look_at(104.9)
    assert not fed.wants((1, 0), is_idle=True)

    fed.look_at(105.0)

    assert fed.wants((1, 0), is_idle=True)
    assert fed.due_at == float("inf")


def test_whatever_changed_is_worth_one_claim(fed):
    fed.whet()
    assert fed.wants((1, 0), is_idle=True)

    fed.answered(is_full=False, due_in_s=None, now=101.0)

    assert not fed.wants((1, 0), is_idle=True)
