"""What jobs have in common that wait together, and which traits a worker accepts."""

import pytest

from cicely.core.breaker import BreakerRule
from cicely.core.flow import NO_NEEDS, Flow, Needs, Use, accepts
from cicely.core.limits import Limit
from cicely.core.valves import default_of, key_of

OPUS = ("model=opus",)


def test_the_keys_of_limits_and_breakers_are_told_apart_and_sorted() -> None:
    flow = Flow(uses=(Use("a"), Use("z")), breakers=("a", "db"))

    assert flow.keys == ("a", "breaker:a", "breaker:db", "z")


def test_jobs_of_unlike_cost_have_like_needs() -> None:
    cheap, dear = (Flow(uses=(Use("api", {"tokens": cost}),)) for cost in (1.0, 1e6))

    assert cheap.needs == dear.needs == Needs(keys=("api",))


def test_who_wants_nothing_needs_nothing() -> None:
    assert Flow().needs == NO_NEEDS


def test_needs_tell_resources_and_traits_apart() -> None:
    flow = Flow(resources=(("gpu", 1.0),), traits=OPUS)

    assert flow.needs == Needs(resources=(("gpu", 1.0),), traits=OPUS)


@pytest.mark.parametrize(
    ("accepted", "is_accepted"),
    [
        ({}, True),
        ({"model": ("opus", "haiku")}, True),
        ({"model": ("haiku",)}, False),
        ({"model": ()}, False),
        ({"region": ("eu",)}, True),
        ({"model": ("opus",), "region": ("eu",)}, True),
    ],
)
def test_a_worker_takes_what_its_names_do_not_exclude(accepted: dict, *, is_accepted: bool) -> None:
    assert accepts(accepted, OPUS) is is_accepted


def test_a_trait_without_a_value_has_the_empty_one() -> None:
    assert accepts({"fast": ("",)}, ("fast",))
    assert not accepts({"fast": ("yes",)}, ("fast",))


@pytest.mark.parametrize("valve", [Limit(key="api", concurrency=1), BreakerRule("db")])
def test_a_key_names_its_valve(valve: Limit | BreakerRule) -> None:
    assert key_of(default_of(key_of(valve))) == key_of(valve)
    assert type(default_of(key_of(valve))) is type(valve)
