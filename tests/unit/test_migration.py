"""A migration of two sides in this process, with a clock that the test sets."""

from __future__ import annotations

import pytest

from cicely import Cicely, EngineUnavailable, UsageError
from cicely.errors import ConfigError
from cicely.migration import FileShares, MemoryAccounts, MemoryShares, Migration, Phase, Standing, Which
from cicely.testing import inline

OLD, NEW = Which.OLD, Which.NEW


class Place:
    """A side that keeps what it is given, until it is told to end it; one that is down refuses."""

    def __init__(self) -> None:
        self.jobs: dict[str, Standing] = {}
        self.is_down = False

    def submit(self, job_id, payload):
        if self.is_down:
            raise ConnectionError("nobody there")
        self.jobs.setdefault(job_id, Standing(state="live"))

    def status(self, job_id):
        if self.is_down:
            raise ConnectionError("nobody there")
        return self.jobs.get(job_id)

    def end(self, output="42"):
        self.jobs = {job_id: Standing(state="succeeded", output=output) for job_id in self.jobs}


class World:
    """Two sides, a clock, and processes that share where the share is stored."""

    def __init__(self, tmp_path) -> None:
        self.old, self.new = Place(), Place()
        self.now = 0.0
        self.shares = MemoryShares()
        self.book = tmp_path / "book"
        self.when_slept = lambda: None

    def process(self, **options):
        given = {"shares": self.shares, "accounts": self.book, "percent": 50}
        return Migration(
            old=(self.old.submit, self.old.status),
            new=(self.new.submit, self.new.status),
            clock=lambda: self.now,
            sleep=self.sleep,
            **(given | options),
        )

    def sleep(self, seconds):
        self.now += seconds
        self.when_slept()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def test_jobs_are_split_by_the_share(world):
    migration = world.process()

    taken = [migration.submit(f"job-{number}", None) for number in range(10_000)]

    assert taken.count(NEW) == pytest.approx(5_000, abs=200)
    assert len(world.new.jobs) == taken.count(NEW)
    assert len(world.old.jobs) == taken.count(OLD)


def test_jobs_of_one_key_stay_together_in_every_process(world):
    sides = {world.process().submit(f"job-{n}", None, key="tenant-7") for n in range(20)}

    assert len(sides) == 1


def test_a_share_is_followed_by_every_process_within_a_second(world):
    here, there = world.process(), world.process()
    there.submit("before", None)
    here.set(0)
    world.now += 1.0

    taken = [there.submit(f"job-{number}", None) for number in range(100)]

    assert set(taken) == {OLD}


def test_a_stored_share_outweighs_the_one_in_the_code(world):
    world.process().set(100)

    assert world.process(percent=0).submit("job", None) is NEW


def test_without_the_stored_share_the_last_one_holds(world):
    class Away(MemoryShares):
        is_away = False

        def read(self):
            if self.is_away:
                raise EngineUnavailable("away")
            return super().read()

    shares = Away()
    migration = world.process(shares=shares)
    migration.set(100)
    shares.is_away = True
    world.now += 10

    assert migration.submit("job", None) is NEW


def test_a_side_that_is_down_says_so_to_the_caller_and_nothing_is_accepted(world):
    world.new.is_down = True
    migration = world.process(percent=100)

    with pytest.raises(ConnectionError):
        migration.submit("job", None)

    assert migration.verify().accepted == 0


@pytest.mark.parametrize(("percent", "down", "taker"), [(100, "new", OLD), (0, "old", NEW)])
def test_in_fallback_the_other_side_takes_what_one_refuses(world, percent, down, taker):
    getattr(world, down).is_down = True
    migration = world.process(percent=percent, mode="fallback")

    assert migration.submit("job", None) is taker
    assert getattr(world, taker).jobs.keys() == {"job"}


def test_where_both_refuse_the_caller_hears_of_the_first(world):
    world.new.is_down = world.old.is_down = True

    with pytest.raises(ConnectionError, match="nobody there"):
        world.process(mode="fallback").submit("job", None)


def test_in_shadow_both_sides_run_the_job_and_are_compared(world):
    migration = world.process(mode="shadow")
    for number in range(10):
        migration.submit(f"job-{number}", None)
    world.old.end()
    world.new.end()

    assert migration.compare().is_alike
    assert migration.verify().is_clean
    world.new.end("43")
    assert len(migration.compare().differing) == 10


def test_a_copy_that_is_refused_does_not_concern_the_caller(world):
    world.new.is_down = True
    migration = world.process(percent=0, mode="shadow")

    assert migration.submit("job", None) is OLD
    world.new.is_down = False
    assert migration.compare().waiting == ("job",)


def test_draining_closes_the_old_side_and_waits_for_it(world):
    here, there = world.process(percent=0), world.process(percent=0)
    for number in range(5):
        there.submit(f"job-{number}", None)
    world.when_slept = world.old.end

    assert here.drain() == []
    assert there.submit("late", None) is NEW
    assert here.traffic().phase is Phase.DRAINING


def test_what_was_sent_by_a_process_that_did_not_know_yet_is_waited_for_as_well(world):
    here, there = world.process(percent=0), world.process(percent=0)
    there.submit("early", None)

    def between():
        world.when_slept = lambda: None
        world.old.end()
        world.now -= 1.0  # the other process looks just before it would follow
        assert there.submit("late", None) is OLD
        world.now += 1.0

    world.when_slept = between

    assert here.drain(timeout=3) == ["late"]


def test_what_the_old_side_does_not_end_is_listed(world):
    migration = world.process(percent=0)
    migration.submit("stuck", None)

    assert migration.drain(timeout="10s") == ["stuck"]


def test_an_old_side_that_is_away_for_a_while_is_asked_again(world):
    migration = world.process(percent=0)
    migration.submit("job", None)
    world.old.is_down = True

    def back():
        if world.now > 5:
            world.old.is_down = False
            world.old.end()

    world.when_slept = back

    assert migration.drain(timeout="10s") == []


def test_an_old_side_that_stays_away_is_heard_when_the_time_is_over(world):
    migration = world.process(percent=0)
    migration.submit("job", None)
    world.old.is_down = True

    with pytest.raises(ConnectionError, match="nobody there"):
        migration.drain(timeout="10s")
    assert migration.traffic().phase is Phase.DRAINING


def test_a_share_calls_draining_off(world):
    migration = world.process(percent=0)
    migration.drain()

    migration.set(0)

    assert migration.submit("job", None) is OLD


def test_finish_takes_the_old_side_out_of_use_when_all_is_accounted_for(world):
    migration = world.process(mode="fallback")
    for number in range(10):
        migration.submit(f"job-{number}", None)
    with pytest.raises(UsageError, match="drain"):
        migration.finish()
    world.when_slept = world.old.end
    migration.drain()

    found = migration.finish()

    assert found.is_settled
    with pytest.raises(UsageError, match="finished"):
        migration.set(0)
    world.new.is_down = True
    with pytest.raises(ConnectionError):
        migration.submit("later", None)


def test_finish_names_the_jobs_that_were_lost(world):
    migration = world.process(percent=0)
    migration.submit("gone", None)
    world.old.jobs.clear()
    migration.drain(timeout=1)

    with pytest.raises(UsageError, match="lost: gone"):
        migration.finish()


def test_a_status_is_asked_of_the_side_that_knows_the_job(world):
    migration = world.process(percent=0)
    migration.submit("job", None)

    assert migration.status("job").state == "live"
    assert migration.status("other").state == "unknown"


def test_in_fallback_the_side_that_knows_a_job_is_heard_while_the_other_is_down(world):
    migration = world.process(percent=0, mode="fallback")
    migration.submit("job", None)
    world.new.is_down = True

    assert migration.status("job").state == "live"
    with pytest.raises(ConnectionError, match="nobody there"):
        migration.status("other")
    with pytest.raises(ConnectionError, match="nobody there"):
        world.process(mode="track").status("job")


# --- sides of Cicely's ----------------------------------------------------------------------------


class Forgetful(MemoryAccounts):
    """The book of a process that dies before it writes its first entry."""

    def add(self, entries):
        raise SystemExit


def test_a_job_that_was_given_to_a_side_and_not_written_down_is_when_it_is_sent_again(world):
    with pytest.raises(SystemExit):
        world.process(percent=0, accounts=Forgetful()).submit("a", "payload")
    process = world.process(percent=100)

    assert process.verify().accepted == 0
    assert process.holder("a") is OLD
    assert process.holder("b") is None
    assert (process.verify().accepted, process.verify().pending_old) == (1, ("a",))


def test_in_fallback_the_accounts_speak_for_a_side_that_is_down(world):
    world.process(percent=0, mode="fallback").submit("early", "payload")
    world.old.is_down = True
    process = world.process(percent=0, mode="fallback")

    assert process.holder("early") is OLD
    assert process.holder("late") is None
    assert process.submit("late", "payload") is NEW
    assert process.holder("late") is NEW


def test_a_side_that_cannot_be_asked_says_so_to_the_caller_in_the_other_modes(world):
    world.old.is_down = True

    with pytest.raises(ConnectionError, match="nobody there"):
        world.process(mode="track").holder("job")


def test_a_copy_is_not_taken_for_a_job_that_was_not_written_down(world):
    process = world.process(percent=0, mode="shadow")
    process.submit("a", "payload")
    world.old.end()
    world.new.end()

    process.holder("a")

    assert (process.verify().old, process.verify().both) == (1, ())


def test_a_task_an_app_with_one_task_and_a_queue_are_sides():
    app = Cicely("moved")

    @app.task
    def evaluate(code: str) -> dict:
        return {"output": code.upper(), "peak_bytes": 7}

    def reading(value):
        return Standing(output=value["output"], memory_bytes=value["peak_bytes"])

    with inline(app) as world:
        shares = MemoryShares()
        migration = Migration(old=evaluate, new=app.queue("raw"), percent=0, shares=shares, reading=reading)
        migration.submit("by-name", {"code": "a"})
        Migration(old=app, new=app.queue("raw"), shares=shares).submit("alone", "b")
        migration.set(100)
        migration.submit("message", {"code": "c"})
        world.run()

        assert migration.status("by-name").output == "A"
        assert migration.status("by-name").memory_bytes == 7
        assert migration.status("alone").state == "succeeded"
        assert migration.status("message").state == "live"
        [message] = app.queue("raw").receive()
        message.ack()
        assert migration.status("message").state == "succeeded"


def test_two_sides_in_one_engine_do_not_take_each_others_jobs_for_their_own():
    app = Cicely("moved")

    @app.task
    def evaluate(code: str) -> str:
        return code

    with inline(app) as world:
        queue = app.queue("raw")
        migration = Migration(old=queue, new=evaluate, shares=MemoryShares())
        migration.submit("message", "a")
        migration.set(100)
        migration.submit("job", "b")
        world.run()
        queue.receive()[0].ack()

        verification = migration.verify()

    assert verification.is_clean
    assert (verification.old, verification.new) == (1, 1)


def test_the_engine_keeps_the_share_where_a_side_has_one():
    app = Cicely("moved")

    @app.task
    def evaluate(code: str) -> str:
        return code

    with inline(app):
        sides = {"old": (lambda *_: None, lambda _: None), "new": evaluate}
        Migration(**sides, name="evals").set(90)

        assert Migration(**sides, name="evals").traffic().percent == 90
        assert Migration(**sides, name="others").traffic().percent == 0


def test_shares_in_a_folder_are_seen_by_others(tmp_path):
    FileShares(tmp_path / "traffic").write("a/b", b"1")

    assert FileShares(tmp_path / "traffic").read() == {"a/b": b"1"}


def test_an_app_with_several_tasks_is_asked_for_one():
    app = Cicely("moved")
    app.task(name="one")(lambda: None)
    app.task(name="two")(lambda: None)

    with pytest.raises(ConfigError, match="2 tasks"):
        Migration(old=(print, print), new=app)


def test_what_is_no_side_is_refused():
    with pytest.raises(ConfigError, match="no side"):
        Migration(old="celery", new=(print, print), shares=MemoryShares())


def test_sides_without_an_engine_need_a_place_for_the_share():
    with pytest.raises(ConfigError, match="FileShares"):
        Migration(old=(print, print), new=(print, print))


def test_a_mode_that_does_not_exist_is_refused():
    with pytest.raises(ConfigError, match="track, shadow, fallback"):
        Migration(old=(print, print), new=(print, print), shares=MemoryShares(), mode="mirror")
