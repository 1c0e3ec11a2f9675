"""Hooks run once for each job that failed, whoever decided that it did."""

from __future__ import annotations

import pytest

from cicely import Cicely, ConfigError, Retry, State, current
from cicely.core.hook import Hook, decode, encode, failure_in
from cicely.core.job import Filter, Kind, NewJob
from cicely.core.outcome import Crashed, ErrorRecord, Failed
from cicely.engines.contract import Ask, Demand, Session, Silent
from cicely.engines.memory import MemoryEngine
from cicely.errors import JobNotFound
from cicely.testing.clock import VirtualClock
from cicely.testing.inline import inline
from cicely.upkeep.failures import Hooks
from cicely.upkeep.schedules import kept

TEMPLATE = NewJob(id="", task="hooks.tell", kind=Kind.SYNC, queue="main")


def spec(name="hooks.tell", **given):
    return encode(Hook(name=name, job=TEMPLATE, **given))


class World:
    """An engine, and any number of workers' parts in running hooks."""

    def __init__(self):
        self.clock = VirtualClock()
        self.engine = MemoryEngine(now=self.clock.now)
        self.engine.join(Session(id="s", worker="boss", tasks=frozenset({"work", "other"})))

    def worker(self, *specs):
        hooks = Hooks(self.engine)
        hooks.serve(specs or [spec()])
        return hooks

    def claim(self, job_id, task="work"):
        self.engine.enqueue([NewJob(id=job_id, task=task, kind=Kind.SYNC, queue="main")])
        request = job_id.encode().rjust(8, b"0")[-8:]
        [claim] = self.engine.claim("s", Demand(request, ("main",), (Ask((Kind.SYNC,), 1),))).claims
        return claim

    def fail(self, job_id, task="work", *, error=None):
        record = error or ErrorRecord("ValueError", "no", "", "builtins")
        claim = self.claim(job_id, task)
        self.engine.settle("s", [Failed(claim.token, "error", record.encoded())])

    def hook_jobs(self):
        return sorted(job.id for job in self.engine.find(Filter(task="hooks.tell"), limit=1000).jobs)

    def look(self, *workers):
        swept = self.engine.sweep(100)
        for worker in workers:
            while worker.look(swept):
                pass


@pytest.fixture
def world():
    return World()


# --- in the engine ------------------------------------------------------------------------------
def test_each_failure_gets_one_job(world):
    worker = world.worker()
    world.fail("a")
    world.fail("b")

    world.look(worker)
    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:1:a", "failed:hooks.tell:1:b"]


def test_any_number_of_workers_make_one_job(world):
    workers = [world.worker() for _ in range(5)]
    world.fail("a")
    swept = world.engine.sweep(100)
    for _ in range(3):
        for worker in workers:
            worker.look(swept)

    assert world.hook_jobs() == ["failed:hooks.tell:1:a"]


def test_a_worker_that_comes_later_goes_on_where_the_others_were(world):
    world.worker()
    world.fail("a")

    world.look(world.worker())

    assert world.hook_jobs() == ["failed:hooks.tell:1:a"]


def test_what_failed_before_the_hook_was_known_is_not_told(world):
    world.fail("old")
    worker = world.worker()
    world.fail("new")

    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:1:new"]


def test_failures_that_the_engine_decided_are_told(world):
    worker = world.worker()
    claim = world.claim("poison")
    for n in range(3):
        world.engine.settle("s", [Crashed(claim.token, "killed by signal 9")])
        if n < 2:
            [claim] = world.engine.claim(
                "s", Demand(b"crash%03d" % n, ("main",), (Ask((Kind.SYNC,), 1),))
            ).claims
    for n in range(10):
        session = f"lost{n}"
        world.engine.join(Session(id=session, worker="w", tasks=frozenset({"work"})))
        if not n:
            world.engine.enqueue([NewJob(id="lost", task="work", kind=Kind.SYNC, queue="main")])
        world.engine.claim(session, Demand(b"lost%04d" % n, ("main",), (Ask((Kind.SYNC,), 1),)))
        world.engine.sweep(100, [Silent(session, 0)])

    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:10:lost", "failed:hooks.tell:3:poison"]


def test_a_job_that_is_revived_and_fails_again_is_told_again(world):
    worker = world.worker()
    world.fail("a")
    world.look(worker)
    world.engine.steer("revive", ["a"])
    [claim] = world.engine.claim("s", Demand(b"again000", ("main",), (Ask((Kind.SYNC,), 1),))).claims
    world.engine.settle("s", [Failed(claim.token, "error")])

    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:1:a", "failed:hooks.tell:2:a"]


def test_a_hook_is_for_the_failures_of_its_task(world):
    worker = world.worker(spec(task="other"))
    world.fail("a")
    world.fail("b", "other")

    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:1:b"]


@pytest.mark.parametrize("name", ["ConnectionError", "builtins.ConnectionError"])
def test_a_hook_is_for_the_errors_that_it_names(world, name):
    worker = world.worker(spec(errors=(name,)))
    world.fail("a")
    world.fail("b", error=ErrorRecord("ConnectionError", "gone", "", "builtins"))

    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:1:b"]


def test_an_error_is_known_by_its_attempt_after_the_job_was_revived(world):
    worker = world.worker(spec(errors=("ConnectionError",)))
    world.fail("a", error=ErrorRecord("ConnectionError", "gone"))
    world.engine.steer("revive", ["a"])

    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:1:a"]


def test_hooks_do_not_hear_of_each_other(world):
    worker = world.worker()
    world.fail("a")
    world.look(worker)
    world.engine.join(Session(id="h", worker="boss", tasks=frozenset({"hooks.tell"})))
    [claim] = world.engine.claim("h", Demand(b"hookhook", ("main",), (Ask((Kind.SYNC,), 1),))).claims
    world.engine.settle("h", [Failed(claim.token, "error")])

    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:1:a"]


def test_a_thousand_failures_are_told_in_pages(world):
    worker = world.worker()
    for n in range(250):
        world.fail(f"j{n}")

    world.look(worker)

    assert len(world.hook_jobs()) == 250


def test_an_idle_engine_is_not_asked_again(world):
    worker = world.worker()
    world.fail("a")
    swept = world.engine.sweep(100)
    while worker.look(swept):
        pass
    world.engine.history = None

    assert worker.look(world.engine.sweep(100)) is False


def test_cursors_of_hooks_are_no_schedules(world):
    world.worker()

    assert kept(world.engine) == []


def test_a_hook_of_a_newer_version_is_left_to_others(world, caplog):
    worker = Hooks(world.engine)

    worker.serve([b"\x02?", b"\x01?", spec()])
    world.fail("a")
    world.look(worker)

    assert world.hook_jobs() == ["failed:hooks.tell:1:a"]
    assert "left to other workers" in caplog.text


def test_a_job_says_whose_failure_it_is_for():
    assert failure_in("failed:pkg.tell:12:a:b", "pkg.tell") == ("a:b", 12)
    with pytest.raises(ConfigError, match="is for none"):
        failure_in("by-hand", "pkg.tell")


def test_hooks_are_kept_as_bytes():
    hook = Hook(name="n", job=TEMPLATE, task="t", errors=("E",))

    assert decode(encode(hook)) == hook


# --- in an app ----------------------------------------------------------------------------------
class Wrong(Exception):
    """What the tests' jobs raise."""


class VeryWrong(Wrong):
    """A kind of it."""


@pytest.fixture
def app():
    app = Cicely("hooked", "memory://")
    app.told = []

    @app.task(name="hooked.work", retry=Retry(attempts=2, backoff=5, jitter=0))
    def work(kind):
        raise {"wrong": Wrong, "very": VeryWrong, "other": KeyError}[kind]("why 7")

    app.work = work
    return app


def test_a_handler_gets_what_failed(app):
    @app.on_failed()
    def tell(letter):
        app.told.append((letter, current().job_id))

    with inline(app) as world:
        job = app.work.delay("wrong")
        world.advance(10)

    [(letter, own_id)] = app.told
    assert (letter.job_id, letter.task, letter.queue) == (job.id, "hooked.work", "default")
    assert (letter.error.type_name, letter.error.message, letter.attempt) == ("Wrong", "why 7", 2)
    assert "raise" in letter.error.traceback
    assert own_id == f"failed:{tell.__module__}.{tell.__qualname__}:2:{job.id}"


def test_handlers_choose_by_class_and_task(app):
    @app.on_failed(task=app.work, error=Wrong)
    def by_class(letter):
        app.told.append(letter.error.type_name)

    @app.on_failed(task="elsewhere")
    def by_task(letter):
        app.told.append("never")

    with inline(app) as world:
        for kind in ("wrong", "very", "other"):
            app.work.delay(kind)
        world.advance(10)

    assert sorted(app.told) == ["VeryWrong", "Wrong"]


def test_coroutines_are_handlers_as_well(app):
    @app.on_failed
    async def tell(letter):
        app.told.append(letter.job_id)

    with inline(app) as world:
        job = app.work.delay("wrong")
        world.advance(10)

    assert app.told == [job.id]


def test_a_handler_that_fails_is_repeated_as_its_options_say(app):
    @app.on_failed(retry=Retry(attempts=3, backoff=1, jitter=0), queue="maintenance")
    def tell(letter):
        app.told.append(current().attempt)
        if len(app.told) < 3:
            raise OSError("not now")

    with inline(app) as world:
        app.work.delay("wrong")
        world.advance(60)
        [record] = app.records(Filter(queue="maintenance"))

    assert app.told == [1, 2, 3]
    assert record.state is State.SUCCEEDED


def test_a_function_can_still_be_called(app):
    @app.on_failed()
    def tell(letter):
        return f"told of {letter}"

    assert tell("it") == "told of it"


def test_a_task_of_a_hook_cannot_be_enqueued_by_hand(app):
    @app.on_failed(name="hooked.tell")
    def tell(letter):
        app.told.append(letter)

    with inline(app) as world:
        job = app.signature("hooked.tell").delay()
        world.run()

        assert job.state is State.FAILED


@pytest.mark.parametrize("given", [{"isolate": True}, {"error": 3}, {"task": 3}, {"colour": "red"}])
def test_what_can_never_work_is_refused(app, given):
    with pytest.raises(ConfigError):
        app.on_failed(**given)


def test_hooks_stand_in_the_manifest(app):
    @app.on_failed(error=Wrong)
    def tell(letter):
        """Do nothing."""

    [hook] = map(decode, app.manifest()["hooks"])

    assert hook.job.task == hook.name
    assert set(hook.errors) == {f"{__name__}.Wrong", f"{__name__}.VeryWrong"}


def test_a_letter_of_a_job_that_was_deleted_is_refused(app):
    with inline(app), pytest.raises(JobNotFound, match="was deleted before"):
        app._letter_for("n", "failed:n:1:gone")
