"""What a running job adds: a workflow that it goes on as, and members of the group it is in."""

from __future__ import annotations

import pytest

from cicely import Cicely, JobFailed, UsageError, chain, chord, group
from cicely.core.edge import Role
from cicely.core.job import Kind
from cicely.core.outcome import Failed, Succeeded, Suspended
from cicely.core.values.inputs import Inputs
from cicely.engines.contract import Ask, Demand, Session
from cicely.engines.memory import MemoryEngine
from cicely.worker.attempt import arguments
from cicely.worker.inputs import Uncalled, called_value, count_calls, parents_of, resolved_claim
from cicely.workflow.dynamic import MAX_CALLED


class Site:
    """An app on a memory engine, whose claims the test carries out itself."""

    def __init__(self):
        self.engine = MemoryEngine()
        self.app = app = Cicely("tests")
        app.use(self.engine)
        self.requests = 0
        self.called = {}

        @app.task(name="same")
        def same(value):
            return value

        @app.task(name="fail")
        def fail():
            raise OSError("no power")

        @app.task(name="total")
        def total(values):
            return sum(values)

        @app.task(name="start")
        def start():
            return self.returned

        self.same, self.fail, self.total, self.start = same, fail, total, start
        self.values = app.values(self.engine)
        self.engine.join(Session(id="s", worker="s", tasks=frozenset(app.runnable_tasks())))

    def claim(self):
        self.requests += 1
        ask = Ask(kinds=(Kind.SYNC, Kind.ASYNC), slots=1)
        demand = Demand(request=self.requests.to_bytes(8), queues=("default",), asks=(ask,))
        claims = self.engine.claim("s", demand).claims
        return claims[0] if claims else None

    def settle(self, outcome):
        self.engine.settle("s", [outcome])

    def additions(self, claim):
        return self.app.additions(claim, self.values, self.engine.enqueue)

    def suspend(self, claim, canvas):
        """Let a job go on as `canvas`, as its worker would."""
        called = self.additions(claim).called(canvas, calls=count_calls(claim, self.values))
        self.called[claim.job_id] = called.inputs
        self.settle(Suspended(claim.token, edges=called.edges, publishes=called.workflow))

    def run(self):
        """Run what is ready until nothing is."""
        while claim := self.claim():
            self.run_one(claim)

    def run_one(self, claim):
        if claim.job_id in self.called:
            value = called_value(self.called[claim.job_id], claim, self.values)
        else:
            task = self.app.resolve(claim.task)
            args, kwargs = arguments(claim, task, self.values)
            try:
                value = task.function(*args, **kwargs)
            except OSError:
                self.settle(Failed(claim.token, "error"))
                return
        if self.app.is_canvas(value):
            self.suspend(claim, value)
        else:
            self.settle(Succeeded(claim.token, self.values.pack_result(claim.job_id, value, where="x")))


@pytest.fixture
def site():
    site = Site()
    yield site
    site.app.use(None)


@pytest.mark.parametrize(
    ("compose", "result"),
    [
        (lambda s: s.same.s(1), 1),
        (lambda s: s.same.s(1) | s.same.s(), 1),
        (lambda s: group(s.same.s(1), group(s.same.s(2), s.same.s(3))), [1, [2, 3]]),
        (lambda s: group(s.same.s(i) for i in range(300)), list(range(300))),
        (lambda s: chord([s.same.s(1), s.same.s(2)], s.total.s()), 3),
        (lambda _: group([]), []),
    ],
)
def test_a_job_goes_on_as_the_workflow_that_it_returns(site, compose, result):
    site.returned = compose(site)
    job = chain(site.start.s(), site.same.s()).delay()
    site.run()

    assert job.parent.get(timeout=0) == result
    assert job.get(timeout=0) == result


def test_nothing_of_it_begins_before_the_job_has_let_go(site):
    site.same.delay(1)
    claim = site.claim()

    site.additions(claim).called(site.same.s(2), calls=0)

    assert site.claim() is None


def test_what_an_attempt_wrote_that_was_cut_short_is_never_published(site):
    job = site.same.delay(1)
    first = site.claim()
    cut = site.additions(first).called(site.same.s(2), calls=0)
    site.engine.retire("s")
    site.engine.join(Session(id="t", worker="t", tasks=frozenset(site.app.runnable_tasks())))
    demand = Demand(request=b"xxxxxxxx", queues=("default",), asks=(Ask(kinds=(Kind.SYNC,), slots=9),))
    [second] = site.engine.claim("t", demand).claims

    again = site.additions(second).called(site.same.s(2), calls=0)

    assert job.id == second.job_id
    assert again.workflow != cut.workflow
    assert again.edges != cut.edges


def test_repeating_it_within_one_attempt_adds_nothing(site):
    site.same.delay(1)
    claim = site.claim()
    canvas = group(site.same.s(1), site.same.s(2))

    once = site.additions(claim).called(canvas, calls=0)
    again = site.additions(claim).called(canvas, calls=0)

    assert once == again
    assert len(list(site.app.jobs())) == 3


def test_the_failure_of_what_was_called_is_known_by_its_job(site):
    job = site.same.delay(1)
    claim = site.claim()
    site.suspend(claim, site.fail.s() | site.same.s())
    failing = site.claim()
    site.run_one(failing)

    claim = site.claim()

    assert claim.job_id == job.id
    with pytest.raises(Uncalled, match=f"job {failing.job_id}, which this one called"):
        called_value(site.called[job.id], claim, site.values)


@pytest.mark.parametrize("count", [3, MAX_CALLED + 1])
def test_a_job_that_goes_on_as_a_group_waits_for_all_of_it_also_when_one_fails(site, count):
    site.returned = group([site.fail.s(), *(site.same.s(n) for n in range(1, count))])
    job = site.start.delay()
    site.run_one(site.claim())
    failing = site.claim()
    site.run_one(failing)
    for _ in range(count - 2):
        site.run_one(site.claim())
    before_the_last = job.state

    site.run_one(site.claim())

    assert (before_the_last, job.state) == ("waiting", "ready")
    with pytest.raises(Uncalled, match=f"job {failing.job_id}, which this one called"):
        called_value(site.called[job.id], site.claim(), site.values)


def test_what_is_added_to_a_large_group_is_waited_for_as_its_members_are(site):
    site.returned = group(site.same.s(n) for n in range(MAX_CALLED + 1))
    job = site.start.delay()
    site.run_one(site.claim())
    member = site.claim()
    site.additions(member).added(site.fail.s(), number=0)
    site.additions(member).added(site.same.s("added"), number=1)
    site.run_one(member)

    states = [(site.run_one(site.claim()), job.state)[1] for _ in range(MAX_CALLED + 2)]

    assert states == ["waiting"] * (MAX_CALLED + 1) + ["ready"]


def test_a_second_call_is_told_from_the_first(site):
    job = site.same.delay(0)
    site.suspend(site.claim(), site.same.s("first"))
    site.run_one(site.claim())
    claim = site.claim()
    assert called_value(site.called[job.id], claim, site.values) == "first"

    site.suspend(claim, group(site.same.s("second"), site.same.s("third")))
    site.run()

    assert job.get(timeout=0) == ["second", "third"]


def test_an_isolated_attempt_has_its_inputs_and_what_it_called_at_hand(site):
    large = "x" * 100_000
    job = chain(site.same.s(large), site.same.s()).delay()
    site.run_one(site.claim())
    claim = site.claim()
    bare = site.app.values(site.engine)
    without_engine = resolved_claim(claim, bare)

    alone = type(bare)(bare.codec, None)
    assert alone.unpack_call(job.id, without_engine.body) == ((large,), {})
    assert without_engine.joins == 0

    site.suspend(claim, site.same.s(large))
    site.run_one(site.claim())
    alone_claim = resolved_claim(site.claim(), bare)
    assert [end.role for end in parents_of(alone_claim, alone)] == [Role.CALL]
    assert called_value(Inputs(0), alone_claim, alone) == large


# --- into the group -----------------------------------------------------------------------------


def test_a_member_adds_members_and_the_body_waits_for_them(site):
    job = chord([site.same.s(1), site.same.s(2)], site.total.s()).delay()
    claim = site.claim()

    site.additions(claim).added(site.same.s(10), number=0)
    site.additions(claim).added(site.same.s(50) | site.same.s(), number=1)
    site.run_one(claim)
    site.run()

    assert job.get(timeout=0) == 63


def test_a_second_attempt_adds_nothing_twice(site):
    job = chord([site.same.s(1), site.same.s(2)], site.total.s()).delay()
    claim = site.claim()

    for _ in range(2):
        site.additions(claim).added(site.same.s(10), number=0)
    site.run_one(claim)
    site.run()

    assert job.get(timeout=0) == 13


def test_a_plain_group_takes_members_too(site):
    jobs = group(site.same.s(1), site.same.s(2)).delay()
    claim = site.claim()

    site.additions(claim).added(site.same.s(3), number=0)
    site.run_one(claim)
    site.run()

    assert site.app.group(jobs.id).get(timeout=0) == [1, 2, 3]


@pytest.mark.parametrize(
    ("compose", "sentence"),
    [
        (lambda s: s.same.s(1), "is in no group"),
        (lambda s: s.same.s(1) | s.same.s(), "is in no group"),
        (
            lambda s: group(s.same.s(1), s.same.s(2)) | group(s.same.s(), s.same.s()),
            "not one job but several",
        ),
    ],
)
def test_where_there_is_no_group_or_no_one_body_it_is_refused(site, compose, sentence):
    compose(site).delay()

    with pytest.raises(UsageError, match=sentence):
        site.additions(site.claim()).added(site.same.s(1), number=0)


def test_what_is_added_fails_as_any_member(site):
    job = chord([site.same.s(1), site.same.s(2)], site.total.s()).delay()
    claim = site.claim()

    site.additions(claim).added(site.fail.s(), number=0)
    site.run_one(claim)
    site.run()

    assert job.state == "cancelled"
    with pytest.raises(JobFailed):
        raise job_error(job)


def job_error(job):
    try:
        job.get(timeout=0)
    except Exception as error:  # noqa: BLE001
        return error.__cause__


# --- waiting for several ------------------------------------------------------------------------


def test_waiting_for_a_group_ends_with_the_timeout(site):
    jobs = group(site.same.s(1), site.same.s(2)).delay()
    site.run_one(site.claim())

    with pytest.raises(TimeoutError, match="it goes on"):
        jobs.get(timeout=0.01)
    with pytest.raises(TimeoutError, match="it goes on"):
        list(jobs.as_completed(timeout=0.01))


def test_jobs_are_yielded_before_the_last_of_them_has_ended(site):
    jobs = group(site.same.s(1), site.same.s(2), site.same.s(3)).delay()
    first = site.claim()
    site.run_one(site.claim())
    ended = jobs.as_completed()

    assert next(ended).get(timeout=0) == 2
    site.run_one(first)
    assert next(ended).get(timeout=0) == 1


def test_a_failure_is_raised_as_soon_as_all_before_it_have_ended(site):
    jobs = group(site.same.s(1), site.fail.s(), site.same.s(3)).delay()
    site.run_one(site.claim())
    site.run_one(site.claim())

    with pytest.raises(JobFailed):
        jobs.get(timeout=0)
