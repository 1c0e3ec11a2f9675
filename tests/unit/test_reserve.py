"""What a workflow keeps of a worker: what is drawn of it, and how a job says so."""

from __future__ import annotations

import msgspec
import pytest

from cicely import Cicely, Retry, UsageError, chain, current
from cicely.core.flow import Needs
from cicely.core.outcome import Crashed, Failed, HandedBack, Outcome, Succeeded, frees_of, keeps_of
from cicely.core.reservations import EVERYTHING, Reservation, added, drawn, only, place_drawing, without
from cicely.testing import inline

TWO_GPUS = {"gpu": {"0": 1.0, "1": 1.0}}
OFFERS = {**TWO_GPUS, "memory_gb": {"": 64.0}}


def reserved(units=None, *, used=None, offers=None) -> Reservation:
    return Reservation("w", "boss", "first", 0.0, units or {"gpu": {"0": 1.0}}, used or {}, offers or OFFERS)


# --- what is drawn ------------------------------------------------------------------------
def test_a_job_draws_of_what_it_wants_what_is_reserved():
    assert drawn((("gpu", 1.0), ("memory_gb", 8.0)), reserved()) == ("gpu",)


@pytest.mark.parametrize(
    "wants",
    [
        (("memory_gb", 8.0),),
        (("gpu", 2.0),),
        (("gpu", 1.0), ("memory_gb", 65.0)),
        (("disk", 1.0), ("gpu", 1.0)),
        (),
    ],
    ids=str,
)
def test_it_draws_nothing_where_that_is_not_enough_or_never_could_be(wants):
    assert drawn(wants, reserved()) == ()


def test_all_of_what_it_wants_must_be_enough():
    both = reserved({"gpu": {"0": 1.0}, "memory_gb": {"": 8.0}})

    assert drawn((("gpu", 1.0), ("memory_gb", 9.0)), both) == ()
    assert drawn((("gpu", 1.0), ("memory_gb", 8.0)), both) == ("gpu", "memory_gb")


def test_parts_of_two_devices_are_no_whole():
    offers = {"gpu_memory_gb": {"0": 80.0, "1": 80.0}}
    parts = reserved({"gpu_memory_gb": {"0": 24.0, "1": 24.0}}, offers=offers)

    assert drawn((("gpu_memory_gb", 24.0),), parts) == ("gpu_memory_gb",)
    assert drawn((("gpu_memory_gb", 48.0),), parts) == ()


def test_the_rest_comes_from_what_is_left_of_the_worker():
    left = {"gpu": {"0": 0.0, "1": 1.0}, "memory_gb": {"": 10.0}}

    placed = place_drawing((("gpu", 1.0), ("memory_gb", 8.0)), left, OFFERS, reserved())

    assert placed == {"gpu": {"0": 1.0}, "memory_gb": {"": 8.0}}


@pytest.mark.parametrize("left", [{"memory_gb": {"": 7.0}}, {"memory_gb": {}}], ids=str)
def test_nothing_is_placed_where_the_rest_is_not_there(left):
    assert place_drawing((("gpu", 1.0), ("memory_gb", 8.0)), left, OFFERS, reserved()) is None


def test_what_is_in_use_is_not_given_again():
    left = {"gpu": {"0": 0.0, "1": 1.0}, "memory_gb": {"": 64.0}}

    assert place_drawing((("gpu", 1.0),), left, OFFERS, reserved(used={"gpu": {"0": 1.0}})) is None


def test_amounts_are_added_and_chosen_by_name():
    sums = added({"gpu": {"0": 1.0}}, {"gpu": {"1": 1.0}, "memory_gb": {"": 8.0}}, {"memory_gb": {"": 8.0}})

    assert sums == {"gpu": {"0": 1.0, "1": 1.0}, "memory_gb": {"": 16.0}}
    assert only(sums, ["gpu"]) == without(sums, ["memory_gb"]) == TWO_GPUS
    assert without(sums, [EVERYTHING]) == {}


def test_only_a_success_that_counts_keeps():
    assert keeps_of(Succeeded(b"", keeps=("gpu",)), cancelling=False) == ("gpu",)
    assert keeps_of(Succeeded(b"", keeps=("gpu",)), cancelling=True) == ()
    assert keeps_of(Failed(b"", "error"), cancelling=False) == ()


def test_what_was_handed_back_or_crashed_frees_nothing():
    assert frees_of(Failed(b"", "error", frees=("gpu",))) == ("gpu",)
    assert frees_of(HandedBack(b"")) == frees_of(Crashed(b"", "signal 9")) == ()


def test_outcomes_and_needs_that_were_written_before_are_read():
    told = msgspec.msgpack.encode({"type": "Succeeded", "token": b"t", "result": b"r", "spent": {"usd": 1.0}})
    needs = msgspec.msgpack.encode({"resources": [["gpu", 1.0]], "shuns": "boss"})

    assert msgspec.msgpack.decode(told, type=Outcome) == Succeeded(b"t", b"r", {"usd": 1.0})
    assert msgspec.msgpack.decode(needs, type=Needs) == Needs((), (("gpu", 1.0),), (), "boss")


# --- how a job says so --------------------------------------------------------------------
@pytest.fixture
def app() -> Cicely:
    return Cicely("tests")


def test_what_a_job_reserved_is_for_its_workflow_until_it_is_released(app):
    ran = []

    @app.task(name="hold", resources={"gpu": 1})
    def hold() -> None:
        current().reserve("gpu")

    @app.task(name="work", resources={"gpu": 1})
    def work(whose: str) -> None:
        ran.append((whose, current().resources["gpu"]))

    @app.task(name="let_go")
    def let_go() -> None:
        current().release("gpu")
        ran.append(("released", []))

    with inline(app) as world:
        chain(hold.si(), work.si("mine"), let_go.si()).delay()
        work.delay("foreign")
        world.run()

    assert ran == [("mine", ["0"]), ("released", []), ("foreign", ["0"])]


def test_what_nobody_released_is_there_for_others_when_the_workflow_has_ended(app):
    @app.task(name="hold", resources={"gpu": 1})
    def hold() -> None:
        current().reserve()

    @app.task(name="fails")
    def fails() -> None:
        raise ValueError("for good")

    @app.task(name="work", resources={"gpu": 1})
    def work() -> str:
        return "done"

    with inline(app):
        chain(hold.si(), fails.si()).delay()
        foreign = work.delay()

        assert foreign.get() == "done"


def test_a_failure_releases_as_well(app):
    @app.task(name="hold", resources={"gpu": 1})
    def hold() -> None:
        current().reserve("gpu")

    @app.task(name="let_go", retry=Retry(attempts=2, backoff=60))
    def let_go() -> None:
        current().release()
        raise ValueError("after that")

    @app.task(name="work", resources={"gpu": 1})
    def work() -> str:
        return "done"

    with inline(app) as world:
        workflow = chain(hold.si(), let_go.si()).delay()
        world.run()
        foreign = work.delay()
        world.run()

        assert foreign.get() == "done"
        assert workflow.state == "scheduled"


def test_what_is_released_after_it_was_reserved_is_not_kept(app):
    @app.task(name="hold", resources={"gpu": 1, "memory_gb": 8})
    def hold() -> None:
        current().reserve()
        current().release("gpu")

    @app.task(name="end")
    def end() -> None: ...

    with inline(app) as world:
        last = chain(hold.si(), end.si().set(countdown=60)).delay()
        world.run()

        [kept] = world.engine.surroundings(last.id).reserved
        assert kept.units == {"memory_gb": {"0": 8.0}}


def test_what_is_reserved_is_there_for_a_task_that_is_declared_later(app):
    @app.task(name="hold", resources={"gpu": 1})
    def hold() -> None:
        current().reserve("gpu")

    @app.task(name="work", resources={"gpu": 1})
    def work() -> list[str]:
        return current().resources["gpu"]

    with inline(app) as world:
        later = chain(hold.si(), work.si().set(countdown=60)).delay()
        world.run()

        @app.task(name="another", resources={"gpu": 1})
        def another() -> str:
            return "done"

        foreign = another.delay()
        world.run()
        waiting = foreign.state
        world.advance(60)

        assert (waiting, later.get(), foreign.get()) == ("ready", ["0"], "done")


def test_nothing_is_reserved_outside_a_workflow(app):
    refused = []

    @app.task(name="hold", resources={"gpu": 1})
    def hold() -> None:
        with pytest.raises(UsageError) as error:
            current().reserve("gpu")
        refused.append(str(error.value))
        current().release("gpu")

    with inline(app) as world:
        job = hold.delay()
        world.run()

        assert job.state == "succeeded"
        assert refused == [
            f"job {job.id} is in no workflow, so that no later job could have what it reserves: "
            "enqueue it in a chain, group, chord or flow"
        ]


@pytest.mark.parametrize(
    ("resources", "names", "said"),
    [
        ({"gpu": 1}, ("tpu", "gpu"), "cannot reserve tpu: it was given gpu; reserve what its task names"),
        ({}, (), "cannot reserve anything: it was given no resource; reserve what its task names"),
        ({}, ("gpu",), "cannot reserve gpu: it was given no resource; reserve what its task names"),
    ],
    ids=str,
)
def test_nothing_is_reserved_that_a_job_was_not_given(app, resources, names, said):
    refused = []

    @app.task(name="hold", resources=resources)
    def hold() -> None:
        with pytest.raises(UsageError) as error:
            current().reserve(*names)
        refused.append(str(error.value))

    with inline(app) as world:
        chain(hold.si(), hold.si()).delay()
        world.run()

    assert all(said in one for one in refused)
    assert len(refused) == 2
