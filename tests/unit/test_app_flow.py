"""Limits, breakers, resources, quotas and failure classes as an app's author writes them, in virtual time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest

from cicely import BacklogFull, Breaker, Cicely, JobFailed, RateLimited, Retry, current
from cicely.core.flow import Flow, Use
from cicely.errors import ConfigError, UsageError
from cicely.testing import Inline, inline


@pytest.fixture
def app() -> Cicely:
    return Cicely("flows", accept_by=["model"], quota_by=["user"])


@pytest.fixture
def world(app: Cicely) -> Iterator[Inline]:
    with inline(app) as world:
        yield world


def flow_of(world: Inline, job_id: str) -> Flow | None:
    [record] = world.engine.get([job_id])
    assert record is not None
    return record.flow


def test_a_plain_task_has_nothing_that_holds_it_back(app: Cicely, world: Inline) -> None:
    @app.task(tags=["nightly"])
    def plain() -> None: ...

    assert flow_of(world, plain.delay().id) is None


def test_keys_and_costs_follow_from_the_arguments(app: Cicely, world: Inline) -> None:
    @app.task(
        limits=["anthropic/opus", lambda user, text: f"user/{user}"],
        cost=lambda user, text: {"tokens": len(text)},
        resources={"gpu": 1, "memory_gb": 16},
        tags=["model=opus", "team=a"],
    )
    def ask(user: str, text: str) -> None: ...

    flow = flow_of(world, ask.delay("ann", "four").id)
    assert flow is not None
    assert flow.uses == (Use("anthropic/opus", {"tokens": 4.0}), Use("user/ann", {"tokens": 4.0}))
    assert flow.resources == (("gpu", 1.0), ("memory_gb", 16.0))
    assert flow.traits == ("model=opus",)


def test_a_function_that_answers_no_key_is_named_with_its_task(app: Cicely, world: Inline) -> None:
    @app.task(name="evals.ask", limits=lambda user: user)
    def ask(user: object) -> None: ...

    with pytest.raises(ConfigError, match=r"limits= or cost= of evals\.ask: limits=7: a printable text"):
        ask.delay(7)


def test_a_refused_job_that_acquired_a_limit_slows_it_by_its_key(app: Cicely, world: Inline) -> None:
    limit = app.limit("api", concurrency=10)

    @app.task
    def call(key: str) -> None:
        context = current()
        with limit.acquire():
            if context.fence == 1:
                raise RateLimited(retry_after=5, key=key)

    call.delay("")
    world.run()
    assert not limit.info().gauge.ceiling
    call.delay("api")
    world.run()
    assert limit.info().gauge.ceiling


def test_a_call_may_ask_for_other_resources_than_its_task(app: Cicely, world: Inline) -> None:
    @app.task(resources={"gpu": 1}, limits="api")
    def train() -> None: ...

    flow = flow_of(world, train.options(resources={"gpu": 4}).delay().id)
    assert flow is not None
    assert flow.resources == (("gpu", 4.0),)
    assert flow.keys == ("api",)


def test_a_rate_lets_jobs_pass_one_after_the_other(app: Cicely, world: Inline) -> None:
    app.limit("api", rate="2/m")
    ran: list[float] = []

    @app.task(limits="api")
    def call() -> None:
        ran.append(world.now)

    start = world.now
    call.delay_many([() for _ in range(4)])
    world.run()
    world.advance(120)
    assert [round(at - start) for at in ran] == [0, 30, 60, 90]


def test_a_refused_job_runs_again_and_costs_no_attempt(app: Cicely, world: Inline) -> None:
    @app.task(limits="api")
    def call() -> int:
        context = current()
        if context.fence == 1:
            raise RateLimited(retry_after=12)
        return context.attempt

    job = call.delay()
    world.run()
    world.advance(11)
    assert job.state == "scheduled"
    world.advance(2)
    assert job.get() == 1


def test_while_a_limit_is_refused_nobody_else_on_it_is_started(app: Cicely, world: Inline) -> None:
    started: list[str] = []

    @app.task(limits="api")
    def call(name: str) -> None:
        started.append(name)
        if len(started) == 1:
            raise RateLimited(retry_after=12)

    call.delay_many([("first",), ("second",)])
    world.run()
    assert started == ["first"]
    world.advance(13)
    assert sorted(started) == ["first", "first", "second"]


def test_what_was_really_spent_takes_the_place_of_the_estimate(app: Cicely, world: Inline) -> None:
    limit = app.limit("api", cost={"tokens": "1000/m"})

    @app.task(limits="api", cost={"tokens": 900})
    def call(used: int) -> None:
        context = current()
        context.spend(tokens=used)

    call.delay(97)
    world.run()
    full_in_s = limit.info().gauge.full_at["tokens"] - world.now
    assert full_in_s == pytest.approx(6, abs=0.1)


def test_acquire_waits_inside_a_job_and_is_refused_outside(app: Cicely, world: Inline) -> None:
    limit = app.limit("api", concurrency=1)

    @app.task
    def two() -> int:
        with limit.acquire():
            held = limit.info().held
        with pytest.raises(TimeoutError, match="limit api"), limit.acquire(), limit.acquire(timeout=0.01):
            pass
        return held

    assert two.delay().get() == 1
    assert limit.info().held == 0
    with pytest.raises(UsageError, match="inside a job"), limit.acquire():
        pass


def test_a_job_that_holds_the_only_unit_is_told_at_once_that_it_can_get_no_other(
    app: Cicely, world: Inline
) -> None:
    limit = app.limit("api", concurrency=1)

    @app.task(limits="api")
    def call() -> None:
        with limit.acquire(timeout=2):
            pass

    @app.task(limits="api")
    async def acall() -> None:
        async with limit.aacquire(timeout=2):
            pass

    for job in (call.delay(), acall.delay()):
        with pytest.raises(JobFailed, match=r'take "api" out of limits= of .*call, or leave acquire\(\) out'):
            job.get()


def test_a_job_may_take_more_of_a_limit_that_it_holds_where_there_is_more(app: Cicely, world: Inline) -> None:
    two = app.limit("two", concurrency=2)
    rated = app.limit("rated", rate="1000/m")

    @app.task(limits=["two", "rated"])
    def call() -> int:
        with rated.acquire(), two.acquire():
            return two.info().held

    assert call.delay().get() == 2


def test_a_breaker_opens_after_its_failures_and_one_probe_closes_it(app: Cicely, world: Inline) -> None:
    is_down = True

    @app.task(
        breaker=Breaker("executor", failures=2, cooldown=60, on=ConnectionError),
        retry=Retry(on=ConnectionError, attempts=5, backoff=1),
    )
    def run(n: int) -> int:
        if is_down:
            raise ConnectionError("no route")
        return n

    jobs = run.delay_many([(n,) for n in range(6)])
    world.run()
    assert app.breaker("executor").phase == "open"
    assert len(world.ran) == 2
    is_down = False
    world.advance(59)
    assert len(world.ran) == 2
    world.advance(5)
    assert [job.get() for job in jobs] == list(range(6))
    assert app.breaker("executor").phase == "closed"


def test_while_what_a_breaker_guards_is_down_its_probes_cost_no_job_its_only_attempt(
    app: Cicely, world: Inline
) -> None:
    is_down = True

    @app.task(breaker=Breaker("executor", failures=1, cooldown=60, on=ConnectionError))
    def run(n: int) -> int:
        if is_down:
            raise ConnectionError("no route")
        return n

    jobs = run.delay_many([(n,) for n in range(4)])
    world.run()
    world.advance(15 * 60)
    assert [job.state for job in jobs] == ["failed", "ready", "ready", "ready"]
    assert len(world.ran) > 10
    is_down = False
    world.advance(61)
    assert [job.get() for job in jobs[1:]] == [1, 2, 3]


def test_a_job_that_alone_keeps_its_breaker_open_fails_in_the_end(app: Cicely, world: Inline) -> None:
    @app.task(breaker=Breaker("executor", failures=1, cooldown=60, on=ConnectionError))
    def run(n: int) -> None:
        raise ConnectionError("no route")

    first, second = run.delay_many([(n,) for n in range(2)])
    world.run()
    world.advance(9.5 * 60)
    assert (first.state, second.state) == ("failed", "ready")
    world.advance(3 * 60)
    assert second.state == "failed"
    [job] = world.engine.get([second.id])
    assert job is not None
    assert [attempt.reason for attempt in job.attempts] == ["probe"] * 10 + ["error"]


def test_a_breaker_is_tripped_and_reset_by_hand(app: Cicely, world: Inline) -> None:
    @app.task(breaker=Breaker("executor"))
    def run() -> str:
        return "ran"

    app.breaker("executor").trip()
    job = run.delay()
    world.advance(10_000)
    assert job.state == "ready"
    app.breaker("executor").reset()
    assert job.get() == "ran"


def test_failures_are_told_apart_by_one_table(app: Cicely, world: Inline) -> None:
    class Broken(Exception): ...

    class Toxic(Exception): ...

    @app.task(
        retry=Retry(attempts=3, backoff=1),
        failures={ConnectionError: "infrastructure", Broken: "bug", Toxic: "poison"},
    )
    def run(kind: str) -> None:
        raise {"net": ConnectionError, "bug": Broken, "toxic": Toxic, "other": ValueError}[kind]("no")

    jobs = {kind: run.delay(kind) for kind in ("net", "bug", "toxic", "other")}
    world.run()
    world.advance(100)
    ran = {kind: sum(one.job_id == job.id for one in world.ran) for kind, job in jobs.items()}
    assert ran == {"net": 3, "bug": 1, "toxic": 1, "other": 3}
    assert jobs["toxic"].info()["reason"] == "poison"


def test_infrastructure_is_tried_again_where_the_task_has_no_retry(app: Cicely, world: Inline) -> None:
    @app.task(failures={ConnectionError: "infrastructure"})
    def run() -> None:
        raise ConnectionError("no route")

    job = run.delay()
    world.run()
    world.advance(1000)
    with pytest.raises(JobFailed):
        job.get()
    assert world.waits(job.id) == [30, 60, 120]


def test_memory_that_ran_out_is_tried_once_more(app: Cicely, world: Inline) -> None:
    @app.task(memory="1G", memory_again="2G")
    def run() -> None:
        raise MemoryError

    job = run.delay()
    world.run()
    world.advance(100)
    assert sum(one.job_id == job.id for one in world.ran) == 2
    assert job.info()["reason"] == "out of memory"


def test_a_job_is_told_which_units_it_was_given(
    app: Cicely, world: Inline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    seen: list[object] = []

    @app.task(resources={"gpu": 1})
    def train() -> None:
        import os

        context = current()
        seen.extend([context.resources, os.environ.get("CUDA_VISIBLE_DEVICES")])

    train.delay().get()
    assert seen == [{"gpu": ["0"]}, "0"]


def test_a_cap_refuses_what_goes_over_a_backlog(app: Cicely, world: Inline) -> None:
    app.queue("batch")
    app.cap(queue="batch", backlog=2)
    app.configure(app.declared_settings()[0])

    @app.task(queue="batch")
    def run() -> None: ...

    run.delay_many([(), ()])
    with pytest.raises(BacklogFull, match="queue:batch"):
        run.delay()


def test_a_quota_is_set_for_any_value_of_its_tag(app: Cicely, world: Inline) -> None:
    @app.task
    def run() -> None: ...

    flow = flow_of(world, run.options(tags=["user=7", "x"]).delay().id)
    assert flow is not None
    assert flow.keys == ("tag:user=7",)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"concurrency": 0}, "concurrency=0"),
        ({"concurrency": -1}, "concurrency=-1"),
        ({"rate": "0/m"}, "lets something pass"),
        ({"rate": "fast"}, "write an amount and a time"),
        ({"rate": "-5/m"}, "write an amount and a time"),
        ({"cost": {"tokens": "200k"}}, "write an amount and a time"),
        ({"cost": "200k/m"}, "a dict"),
        ({"backlog": 0}, "backlog=0"),
        ({"cost": {5: "5/m"}}, "a meter's name"),
        ({"cost": {"": "5/m"}}, "a meter's name"),
    ],
)
def test_a_limit_that_makes_no_sense_is_refused(app: Cicely, options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        app.limit("api", **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"limits": 5}, "limits=5"),
        ({"limits": {"api": 1}}, "limits={'api': 1}: one, or a list of them"),
        ({"limits": "breaker:x"}, "begins the keys of breakers"),
        ({"limits": ""}, "limits=''"),
        ({"cost": {"tokens": -1}}, "a number from 0"),
        ({"cost": {5: 1}}, "a meter's name"),
        ({"resources": {"gpu": -1}}, "a number from 0"),
        ({"resources": ["gpu"]}, "a dict"),
        ({"breaker": "executor"}, "write Breaker"),
        ({"failures": {ValueError: "bag"}}, "one of"),
        ({"failures": [ValueError]}, "a dict"),
        ({"memory_again": "2G"}, "memory_again="),
        ({"memory": "2G", "memory_again": "1G"}, "memory_again="),
    ],
)
def test_an_option_that_makes_no_sense_is_refused(app: Cicely, options: dict[str, object], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        app.task(**options)  # type: ignore[call-overload]


def test_breakers_and_rates_are_checked_where_they_are_written() -> None:
    with pytest.raises(ConfigError, match="failures=0"):
        Breaker("executor", failures=0)
    with pytest.raises(ConfigError, match="cooldown=0"):
        Breaker("executor", cooldown=0)
    for on in ("ConnectionError", 5, (), [ConnectionError], (ConnectionError, 5)):
        with pytest.raises(ConfigError, match="an exception class, or a tuple"):
            Breaker("executor", on=on)  # type: ignore[arg-type]


def test_two_breakers_of_one_name_have_one_rule(app: Cicely, world: Inline) -> None:
    @app.task(breaker=[Breaker("executor"), Breaker("executor", on=ConnectionError)])
    def run() -> None: ...

    flow = flow_of(world, run.delay().id)
    assert flow is not None
    assert flow.breakers == ("executor",)

    @app.task(breaker=Breaker("executor", failures=2))
    def other() -> None: ...

    with pytest.raises(ConfigError, match=r"other has a Breaker\('executor'\) with other failures="):
        app.declared_settings()


def test_a_call_can_have_none_of_what_its_task_needs(app: Cicely, world: Inline) -> None:
    needs = {"limits": "api", "resources": {"gpu": 1}, "breaker": Breaker("executor")}
    work = app.task(name="t", **needs)(len)  # type: ignore[call-overload]

    free = flow_of(world, work.options(limits=(), resources={}, breaker=()).delay([]).id)
    unlimited = flow_of(world, work.options(limits=()).delay([]).id)
    as_declared = flow_of(world, work.options(limits=None).delay([]).id)

    assert free is None
    assert (unlimited.keys, unlimited.resources) == (("breaker:executor",), (("gpu", 1.0),))
    assert as_declared.keys == ("api", "breaker:executor")


@pytest.mark.parametrize("move", ["trip", "reset"])
def test_an_unknown_breaker_is_refused_with_the_nearest_one(app: Cicely, world: Inline, move: str) -> None:
    with pytest.raises(ConfigError, match="there is no breaker executor; there are none yet"):
        getattr(app.breaker("executor"), move)()

    app.task(name="t", breaker=Breaker("executor"))(len)

    with pytest.raises(ConfigError, match=r"there is no breaker exector; did you mean executor\?"):
        getattr(app.breaker("exector"), move)()
    assert world.engine.settings("breaker") == []


def test_a_breaker_is_tripped_before_any_worker_has_started_and_keeps_its_rule(
    app: Cicely, world: Inline
) -> None:
    app.task(name="t", breaker=Breaker("executor", failures=3))(len)

    app.breaker("executor").trip()

    assert app.breaker("executor").phase == "open"
    assert [one.setting.failures for one in world.engine.settings("breaker")] == [3]  # type: ignore[union-attr]


def test_weights_and_caps_of_a_queue_that_is_not_declared_are_refused() -> None:
    weighed, capped = Cicely("weighed", "memory://"), Cicely("capped", "memory://")
    weighed.queue("evaluation")
    weighed.lane("evalaution", "user", weight=2)
    capped.cap(queue="batch", backlog=5)

    with pytest.raises(
        ConfigError, match=r"app.lane\('evalaution', 'user', ...\): .*did you mean evaluation"
    ):
        weighed.declared_settings()
    with pytest.raises(ConfigError, match=r"app.cap\(queue='batch', ...\): no queue is called batch"):
        capped.declared_settings()
    capped.queue("batch")
    assert len(capped.declared_settings()) == 1


def test_weights_and_caps_are_checked_where_they_are_written(app: Cicely) -> None:
    with pytest.raises(ConfigError, match="'/' in its name"):
        app.lane("a/b", "c", weight=2)
    with pytest.raises(ConfigError, match="lane=5"):
        app.lane("a", 5, weight=2)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tag=5"):
        app.cap(tag=5, running=1)  # type: ignore[arg-type]
    app.lane("a", "b/c", weight=2)


@pytest.mark.parametrize("option", ["accept_by", "quota_by"])
@pytest.mark.parametrize("given", [5, "model", ["model="], [""], [5]])
def test_names_of_tags_are_checked_where_they_are_written(option: str, given: object) -> None:
    with pytest.raises(ConfigError, match="a list of the names of tags"):
        Cicely("flows", **{option: given})  # type: ignore[arg-type]


@pytest.mark.parametrize(("given", "seconds"), [(None, 1.0), (2, 2.0), ("30", 30.0), (-5, 0.0)], ids=str)
def test_a_refusal_takes_the_wait_as_libraries_have_it(given: float | str | None, seconds: float) -> None:
    assert RateLimited(retry_after=given).retry_after == seconds


def test_a_refusal_takes_the_date_of_a_header() -> None:
    at = time.time() + 90

    assert 85 < RateLimited(retry_after=formatdate(at, usegmt=True)).retry_after <= 90
    assert RateLimited(retry_after="Wed, 21 Oct 2015 07:28:00 GMT").retry_after == 0.0


@pytest.mark.parametrize(
    "given", ["soon", "Wed, 41 Oct 2015 07:28:00 GMT", float("inf"), float("nan"), [], "inf"], ids=str
)
def test_a_refusal_without_an_end_is_no_wait(given: object) -> None:
    with pytest.raises(ConfigError, match="a number of seconds, a date, or None"):
        RateLimited(retry_after=given)  # type: ignore[arg-type]


def test_a_refusal_names_its_limit_by_a_text() -> None:
    with pytest.raises(ConfigError, match=r"RateLimited\(key=5\)"):
        RateLimited(key=5)  # type: ignore[arg-type]


def test_a_job_that_waits_says_for_what(app: Cicely, world: Inline) -> None:
    app.limit("api", rate="1/m")

    @app.task(limits="api")
    def call() -> None: ...

    first, second = call.delay_many([(), ()])
    world.run()
    assert first.explain().reason == "ended"
    told = app.explain(second)
    assert told.reason == "rate"
    assert "api" in told.text
    assert told.until == pytest.approx(world.now + 60, abs=1)


def test_a_librarys_refusal_without_a_sensible_wait_is_tried_again_soon(app: Cicely, world: Inline) -> None:
    class TooMany(Exception):
        retry_after = float("inf")

    @app.task(failures={TooMany: "rate limited"})
    def call() -> str:
        context = current()
        if context.fence == 1:
            raise TooMany
        return "answered"

    job = call.delay()
    world.run()
    world.advance(6)
    assert job.get() == "answered"


def test_a_librarys_refusal_may_carry_the_date_of_a_header(app: Cicely, world: Inline) -> None:
    class TooMany(Exception):
        retry_after = "Wed, 21 Oct 2015 07:28:00 GMT"

    @app.task(failures={TooMany: "rate limited"})
    def call() -> int:
        if current().fence == 1:
            raise TooMany
        return current().attempt

    job = call.delay()
    world.run()
    world.advance(1)
    assert job.get() == 1
