"""Lanes: how a queue is shared over time."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from cicely.core.job import rank, step
from cicely.core.lanes import Lane, charge, charged, corrected, start, turn

durations = st.lists(st.floats(0.0, 30.0), min_size=20, max_size=120)
weights = st.sampled_from([0.5, 1.0, 2.0, 3.0])


@dataclass
class Queue:
    """Lanes that always have jobs, served one job after the other."""

    weights: dict[str, float]
    clock: float = 0.0
    lanes: dict[str, Lane] = field(default_factory=dict)
    took: dict[str, float] = field(default_factory=dict)

    def add(self, name: str) -> None:
        self.lanes[name] = Lane(self.clock)
        self.took[name] = 0.0

    def next(self) -> str:
        """Return the lane that is served next."""
        return min(self.lanes, key=lambda lane: (self.lanes[lane].clock, lane))

    def take_turn(self, jobs: int) -> str:
        """Claim and end so many short jobs in a row of the lane that is next; return which that is."""
        name = self.next()
        before = self.lanes[name]
        for _ in range(jobs):
            self.lanes[name] = charged(self.lanes[name], self.clock, weight=self.weights[name])
            self.end(name, 1.0, 0.0)
        self.clock = start(before, self.clock)
        return name

    def claim(self) -> tuple[str, float]:
        """Return the lane whose job is claimed, and what it was charged."""
        name = self.next()
        lane = self.lanes[name]
        self.lanes[name] = charged(lane, self.clock, weight=self.weights[name])
        self.clock = start(lane, self.clock)
        return name, charge(lane)

    def end(self, name: str, was_charged: float, ran_s: float) -> None:
        lane, weight = self.lanes[name], self.weights[name]
        self.lanes[name] = corrected(lane, was_charged=was_charged, ran_s=ran_s, weight=weight)
        self.took[name] += int(ran_s) + 1.0

    def run(self, ran_s: float) -> str:
        name, was_charged = self.claim()
        self.end(name, was_charged, ran_s)
        return name


@given(durations, weights, weights)
def test_no_lane_is_ahead_of_its_share_by_more_than_one_job(
    durations: list[float], weight: float, other: float
) -> None:
    queue = Queue({"a": weight, "b": other})
    queue.add("a")
    queue.add("b")
    longest = int(max(durations)) + 1.0

    for ran_s in durations:
        queue.run(ran_s)
        ahead = queue.took["a"] / weight - queue.took["b"] / other
        assert -longest / other - 1e-6 <= ahead <= longest / weight + 1e-6


@given(durations, st.integers(2, 8))
def test_every_lane_is_served_in_turn_where_jobs_are_alike(durations: list[float], lanes: int) -> None:
    queue = Queue({str(n): 1.0 for n in range(lanes)})
    for name in queue.weights:
        queue.add(name)

    served = [queue.run(0.5) for _ in range(3 * lanes)]

    assert sorted(served[:lanes]) == sorted(served[lanes : 2 * lanes]) == sorted(queue.weights)


@given(durations)
def test_a_lane_that_comes_late_waits_for_one_job_at_most(durations: list[float]) -> None:
    queue = Queue({"many": 1.0, "one": 1.0})
    queue.add("many")
    for ran_s in durations:
        queue.run(ran_s)

    queue.add("one")

    assert "one" in (queue.run(1.0), queue.run(1.0))


def test_one_job_beside_a_hundred_thousand_waits_for_one_at_most() -> None:
    queue = Queue({"many": 1.0, "one": 1.0})
    queue.add("many")
    for _ in range(100_000):
        queue.run(0.01)

    queue.add("one")

    assert "one" in (queue.run(0.01), queue.run(0.01))


@given(st.integers(1, 200), st.floats(0.0, 30.0))
def test_who_was_away_gets_half_and_not_more(away: int, ran_s: float) -> None:
    queue = Queue({"a": 1.0, "b": 1.0})
    queue.add("b")
    gone = queue.lanes.pop("b")
    queue.add("a")
    for _ in range(away):
        queue.run(ran_s)
    queue.lanes["b"] = gone
    queue.run(0.5)
    queue.run(0.5)

    served = [queue.run(0.5) for _ in range(20)]

    # What the other lane is behind by is the last job that it ran alone.
    assert served.count("b") <= 10 + (int(ran_s) + 1)
    assert served.count("b") >= 9


def test_a_lane_is_charged_what_its_jobs_took_lately() -> None:
    lane = Lane()
    for _ in range(60):
        lane = corrected(lane, was_charged=charge(lane), ran_s=9.5, weight=1.0)

    assert charge(lane) == 10.0


def test_the_shortest_job_is_charged_a_second() -> None:
    assert charge(Lane(mean_s=0.001)) == 1.0
    assert corrected(Lane(), was_charged=1.0, ran_s=0.0, weight=1.0).clock == 0.0


def test_no_lane_starts_before_its_queue() -> None:
    assert start(Lane(clock=3.0), 10.0) == 10.0
    assert start(Lane(clock=12.0), 10.0) == 12.0
    assert charged(Lane(clock=3.0), 10.0, weight=2.0).clock == 10.5


def test_a_turn_is_one_job_unless_they_are_very_short() -> None:
    assert [turn(None), turn(3600.0), turn(0.02), turn(0.0011)] == [1, 1, 1, 1]
    assert [turn(0.001), turn(0.0005), turn(0.00025), turn(0.00005), turn(0.0)] == [2, 4, 8, 8, 8]


@given(st.lists(st.integers(1, 8), min_size=30, max_size=60), st.integers(2, 6))
def test_turns_of_any_length_leave_no_lane_behind_by_more_than_one_of_them(
    jobs: list[int], lanes: int
) -> None:
    queue = Queue({str(n): 1.0 for n in range(lanes)})
    for name in queue.weights:
        queue.add(name)

    for count in jobs:
        queue.take_turn(count)
        assert max(queue.took.values()) - min(queue.took.values()) <= 8


def test_a_lane_that_comes_between_turns_waits_for_one_at_most() -> None:
    queue = Queue({"many": 1.0, "one": 1.0})
    queue.add("many")
    for _ in range(1000):
        queue.take_turn(8)

    queue.add("one")

    assert "one" in (queue.take_turn(8), queue.take_turn(8))


@given(st.integers(0, 9), st.floats(1e9, 4e9))
def test_without_ageing_a_rank_tells_its_priority(priority: int, ready_at: float) -> None:
    assert step(rank(priority, ready_at, ageing_s=0.0)) == 9 - priority


@given(st.integers(0, 9), st.floats(1e9, 4e9), st.floats(0.001, 1e10))
def test_with_ageing_all_ranks_are_on_one_step(priority: int, ready_at: float, ageing_s: float) -> None:
    assert step(rank(priority, ready_at, ageing_s=ageing_s)) == 0
