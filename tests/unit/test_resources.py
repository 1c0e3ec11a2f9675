"""Resources: which units a job is given."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cicely.core.resources import Amounts, fits, free, place

TWO: Amounts = {"gpu": {"0": 1.0, "1": 1.0}}
DEVICES: Amounts = {"gpu_memory_gb": {"0": 80.0, "1": 80.0}}

capacities = st.sampled_from([0.3, 1.0, 2.0, 64.0, 80.0])
offered = st.dictionaries(
    st.sampled_from(["gpu", "memory_gb"]),
    st.dictionaries(st.sampled_from(["", "0", "1", "2"]), capacities, min_size=1),
    min_size=1,
)
wanted = st.lists(
    st.tuples(st.sampled_from(["gpu", "memory_gb"]), st.sampled_from([0.1, 0.5, 1.0, 2.0, 3.0, 24.0, 100.0])),
    min_size=1,
    max_size=2,
    unique_by=lambda want: want[0],
).map(lambda wants: tuple(sorted(wants)))
#: What is asked for, and which of what is held ends before.
steps = st.lists(st.tuples(wanted, st.none() | st.integers(0, 9)), max_size=40)


@given(offered, steps)
def test_no_unit_is_ever_given_beyond_its_capacity(offers: Amounts, steps: list) -> None:
    held: list[Amounts] = []
    for wants, ended in steps:
        if ended is not None and held:
            held.pop(ended % len(held))
        placed = place(wants, free(offers, held), offers)
        if placed is None:
            continue
        held.append(placed)
        for name, units in offers.items():
            for unit, capacity in units.items():
                used = sum(one.get(name, {}).get(unit, 0.0) for one in held)
                assert used <= capacity + 1e-6


@given(offered, wanted)
def test_who_is_placed_gets_at_least_what_it_wants(offers: Amounts, wants: tuple) -> None:
    placed = place(wants, offers, offers)

    if placed is not None:
        assert all(sum(placed[name].values()) >= amount - 1e-6 for name, amount in wants)


@given(offered, steps, wanted)
def test_what_fits_is_placed_once_everything_is_free(offers: Amounts, steps: list, wants: tuple) -> None:
    assert fits(wants, offers) == (place(wants, free(offers, []), offers) is not None)


@given(offered, wanted)
def test_what_was_placed_and_ended_leaves_nothing_behind(offers: Amounts, wants: tuple) -> None:
    placed = place(wants, offers, offers) or {}

    assert free(offers, [placed, {}]) == free(offers, [placed])
    assert free(offers, []) == {name: dict(units) for name, units in offers.items()}


def test_equal_units_are_given_in_their_order() -> None:
    assert place((("gpu", 1.0),), TWO, TWO) == {"gpu": {"0": 1.0}}


def test_a_small_job_goes_where_least_is_left() -> None:
    left = {"gpu_memory_gb": {"0": 80.0, "1": 30.0}}

    assert place((("gpu_memory_gb", 24.0),), left, DEVICES) == {"gpu_memory_gb": {"1": 24.0}}


def test_a_job_is_not_split_over_devices_that_could_hold_it_whole() -> None:
    left = {"gpu_memory_gb": {"0": 40.0, "1": 40.0}}

    assert place((("gpu_memory_gb", 60.0),), left, DEVICES) is None


def test_what_no_device_can_hold_takes_whole_free_ones() -> None:
    assert place((("gpu_memory_gb", 100.0),), DEVICES, DEVICES) == {"gpu_memory_gb": {"0": 80.0, "1": 80.0}}
    left = {"gpu_memory_gb": {"0": 79.0, "1": 80.0}}
    assert place((("gpu_memory_gb", 100.0),), left, DEVICES) is None


@pytest.mark.parametrize("wants", [(("gpu", 3.0),), (("tpu", 1.0),), (("gpu", 1.0), ("tpu", 1.0))])
def test_what_is_not_offered_never_fits(wants: tuple) -> None:
    assert not fits(wants, TWO)


def test_who_wants_nothing_fits_anywhere() -> None:
    assert place((), {}, {}) == {}


def test_what_is_taken_beyond_shrunken_offers_counts_as_none_left() -> None:
    taken = {"gpu": {"0": 1.0, "7": 1.0}, "memory_gb": {"": 64.0}}

    assert free({"gpu": {"0": 0.5}}, [taken]) == {"gpu": {"0": 0.0}}
