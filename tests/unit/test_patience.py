"""Who is kept room of limits, and for whom it is not: the rule, with the clock handed in."""

from collections.abc import Sequence

import msgspec
import pytest

from cicely.core import patience, valves
from cicely.core.breaker import turned
from cicely.core.flow import BREAKER_PREFIX, Use
from cicely.core.limits import FRESH, Gauge, Limit, Rate, Waiter, leaves_room, reserved
from cicely.core.patience import Standing
from cicely.core.resources import PATIENCE_S
from cicely.core.valves import Valve

NOW = 1_900_000_000.0
WIDE, NARROW = Limit(key="a-wide", concurrency=4), Limit(key="narrow", concurrency=1)
BOTH = (Use("a-wide"), Use("narrow"))
TOKENS = Limit(key="api", costs={"tokens": Rate(6000, 60.0)})


class Desk:
    """Valves, holders and jobs of one instant."""

    def __init__(self, *limits: Limit) -> None:
        self.now = NOW
        self.valves: dict[str, Valve] = {limit.key: limit for limit in limits}
        self.gauges: dict[str, Gauge] = {}
        self.held: dict[str, int] = {}
        self.jobs: dict[int, Standing] = {}

    def valve_of(self, key: str) -> Valve:
        return self.valves.get(key) or valves.default_of(key)

    def gauge_of(self, key: str) -> Gauge:
        return self.gauges.get(key, FRESH)

    def opens_at(self, use: Use) -> float:
        valve, gauge = self.valve_of(use.key), self.gauge_of(use.key)
        return valves.opens_at(valve, gauge, use.cost, now=self.now, held=lambda _: self.holders_of(use.key))

    def holders_of(self, key: str) -> int:
        return self.held.get(key, 0)

    def standing(self, n: int) -> Standing | None:
        return self.jobs.get(n)

    def put_first(self, key: str, first: Waiter | None) -> None:
        self.gauges[key] = msgspec.structs.replace(self.gauge_of(key), first=first)

    def wait(self, n: int, passes: Sequence[Use]) -> None:
        self.jobs[n] = Standing(n, passes)
        patience.note(self, n, passes)

    def keeps_back(self, n: int, *passes: Use) -> str | None:
        return patience.kept_back(self, n, Standing(n, passes))

    def firsts(self) -> dict[str, int]:
        return {key: gauge.first.n for key, gauge in self.gauges.items() if gauge.first is not None}


@pytest.fixture
def desk() -> Desk:
    """Return a desk where both limits are full and job 1 has waited for as long as others may pass."""
    desk = Desk(WIDE, NARROW)
    desk.held = {"a-wide": 4}
    desk.wait(1, BOTH)
    desk.held["narrow"] = 1
    desk.now += PATIENCE_S
    return desk


# --- who is noted -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("held", "noted"),
    [
        ({"a-wide": 4, "narrow": 1}, {"narrow": 1}),
        ({"narrow": 1}, {"narrow": 1}),
        ({"a-wide": 4}, {"a-wide": 1, "narrow": 1}),
    ],
)
def test_a_job_of_several_limits_is_noted_up_to_the_narrowest_that_is_full(
    held: dict[str, int], noted: dict[str, int]
) -> None:
    desk = Desk(WIDE, NARROW)
    desk.held = held

    desk.wait(1, BOTH)

    assert desk.firsts() == noted


def test_a_job_of_one_limit_that_counts_alike_is_not_noted() -> None:
    desk = Desk(WIDE)
    desk.held = {"a-wide": 4}

    desk.wait(1, [Use("a-wide")])

    assert desk.firsts() == {}


@pytest.mark.parametrize(("cost", "noted"), [({"tokens": 9.0}, {"api": 1}), ({}, {}), ({"usd": 9.0}, {})])
def test_a_job_of_one_limit_is_noted_if_its_cost_counts(
    cost: dict[str, float], noted: dict[str, int]
) -> None:
    desk = Desk(TOKENS)
    desk.gauges["api"] = reserved(TOKENS, FRESH, {"tokens": 500.0}, now=NOW)

    desk.wait(1, [Use("api", cost)])

    assert desk.firsts() == noted


def test_the_first_that_was_noted_stays() -> None:
    desk = Desk(WIDE, NARROW)
    desk.held = {"a-wide": 4}
    desk.wait(2, BOTH)
    desk.now += 1

    desk.wait(1, BOTH)

    assert desk.firsts() == {"a-wide": 2, "narrow": 2}


def test_one_that_has_waited_longer_at_another_limit_is_noted_before_others() -> None:
    desk = Desk(WIDE, NARROW, Limit(key="third", concurrency=1))
    desk.held = {"a-wide": 4, "third": 1}
    desk.wait(1, (Use("narrow"), Use("third")))
    desk.now += 1
    desk.wait(2, (Use("a-wide"), Use("other")))

    desk.wait(1, (Use("a-wide"), Use("narrow")))

    assert desk.firsts()["a-wide"] == 1


def test_one_that_is_gone_makes_place(desk: Desk) -> None:
    del desk.jobs[1]
    desk.held = {"a-wide": 4}

    desk.wait(2, BOTH)

    assert desk.firsts() == {"a-wide": 2, "narrow": 2}


def test_one_that_was_claimed_is_forgotten(desk: Desk) -> None:
    patience.went(desk, 1, BOTH)

    assert desk.firsts() == {}


# --- what is kept -------------------------------------------------------------------------
def test_before_its_time_nothing_is_kept(desk: Desk) -> None:
    desk.now -= 1
    desk.held = {"a-wide": 4, "narrow": 0}

    assert desk.keeps_back(2, Use("narrow")) is None


def test_the_narrowest_limit_keeps_room_while_the_others_are_full(desk: Desk) -> None:
    desk.held = {"a-wide": 4, "narrow": 0}

    assert desk.keeps_back(2, Use("narrow")) == "narrow"


def test_a_wider_one_keeps_none_while_the_narrowest_is_full(desk: Desk) -> None:
    desk.held = {"a-wide": 3, "narrow": 1}

    assert desk.keeps_back(2, Use("a-wide")) is None


def test_all_keep_room_for_one_that_could_start(desk: Desk) -> None:
    desk.held = {"a-wide": 3, "narrow": 0}

    assert desk.keeps_back(2, Use("a-wide")) == "a-wide"
    assert desk.keeps_back(2, Use("narrow")) == "narrow"


def test_others_pass_as_long_as_room_is_left(desk: Desk) -> None:
    desk.held = {"a-wide": 2, "narrow": 0}

    assert desk.keeps_back(2, Use("a-wide")) is None


def test_one_of_the_same_stream_passes(desk: Desk) -> None:
    desk.held = {"a-wide": 3, "narrow": 0}

    assert patience.kept_back(desk, 2, Standing(1, BOTH)) is None


def test_one_that_has_waited_longer_passes(desk: Desk) -> None:
    desk.held = {"a-wide": 3, "narrow": 0}
    desk.put_first("other", Waiter(2, NOW - 1.0))

    assert desk.keeps_back(2, Use("narrow"), Use("other")) is None


# --- for whom nothing is kept -------------------------------------------------------------
def test_nothing_is_kept_for_one_that_is_gone(desk: Desk) -> None:
    desk.held = {}
    del desk.jobs[1]

    assert desk.keeps_back(2, Use("narrow")) is None
    assert desk.firsts() == {"a-wide": 1}


def test_nothing_is_kept_while_one_of_its_limits_was_refused(desk: Desk) -> None:
    desk.held = {}
    desk.gauges["a-wide"] = msgspec.structs.replace(desk.gauges["a-wide"], shut_until=desk.now + 1)

    assert desk.keeps_back(2, Use("narrow")) is None


def test_nothing_is_kept_while_its_breaker_is_open(desk: Desk) -> None:
    desk.held = {}
    key = BREAKER_PREFIX + "host"
    desk.jobs[1] = Standing(1, (*BOTH, Use(key)))
    desk.gauges[key] = turned(FRESH, "trip", now=desk.now)

    assert desk.keeps_back(2, Use("narrow")) is None


def test_what_nobody_fetches_is_given_up(desk: Desk) -> None:
    desk.held = {}
    assert desk.keeps_back(2, Use("narrow")) == "narrow"
    desk.now += PATIENCE_S - 1
    assert desk.keeps_back(2, Use("narrow")) == "narrow"

    desk.now += 1

    assert desk.keeps_back(2, Use("narrow")) is None
    assert desk.firsts() == {"a-wide": 1}


def test_one_that_cannot_start_after_all_is_kept_room_for_as_long_again(desk: Desk) -> None:
    desk.held = {"a-wide": 3}
    assert desk.keeps_back(2, Use("narrow")) == "narrow"
    desk.now += PATIENCE_S
    desk.held = {"a-wide": 4}
    assert desk.keeps_back(2, Use("narrow")) == "narrow"
    desk.held = {"a-wide": 3}

    assert desk.keeps_back(2, Use("narrow")) == "narrow"


# --- costs --------------------------------------------------------------------------------
@pytest.mark.parametrize(("cost", "is_left"), [(10.0, True), (20.0, False)])
def test_room_is_left_where_the_other_could_pass_at_once(cost: float, *, is_left: bool) -> None:
    # The bucket holds 180.
    other = {"tokens": 165.0}

    left = leaves_room(TOKENS, FRESH, {"tokens": cost}, other=other, now=NOW, held=0)

    assert left is is_left


def test_while_the_other_may_not_pass_no_room_is_left_for_it() -> None:
    gauge = reserved(TOKENS, FRESH, {"tokens": 100.0}, now=NOW)

    assert not leaves_room(TOKENS, gauge, {"tokens": 1.0}, other={"tokens": 100.0}, now=NOW, held=0)
