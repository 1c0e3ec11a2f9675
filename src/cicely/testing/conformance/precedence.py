"""Others pass a job of several limits, or of a high cost, but not for ever: then limits keep room for it."""

from __future__ import annotations

from collections.abc import Sequence

from cicely.core.breaker import BreakerRule
from cicely.core.flow import Flow, Use
from cicely.core.job import Claim, NewJob
from cicely.core.limits import Limit, Rate
from cicely.core.outcome import Deferred, HandedBack, Succeeded
from cicely.core.patience import LOOK_S
from cicely.core.resources import PATIENCE_S
from cicely.engines.contract import Engine, Session
from cicely.testing.conformance.bench import TICK_S, demand, ids, job, session, settle, using, wanting
from cicely.testing.conformance.harness import Capability, Harness

REQUIRES = frozenset({Capability.FLOW})

#: Longer than a job is passed over.
LONG_S = PATIENCE_S + 1.0
QUEUES = ("main", "side")
BOTH = (Use("api"), Use("disk"))
DISK_AND_API = (Limit(key="disk", concurrency=1), Limit(key="api", concurrency=2))


# --- several limits -----------------------------------------------------------------------
def test_others_pass_a_job_of_two_limits_for_a_while(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    crowd.end("disk0")

    assert crowd.take() == ["disk1"]


def test_after_a_while_a_limit_keeps_room_for_it(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")

    assert crowd.take() == []


def test_it_starts_when_its_other_limit_has_room(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")
    assert crowd.take() == []

    crowd.end("api0")

    assert crowd.take() == ["both"]


def test_the_wider_limit_keeps_no_room_while_the_narrower_one_has_none(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)

    crowd.end("api0")

    assert crowd.take() == ["api2"]


def test_others_pass_where_room_is_left_beside_them(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.engine.configure([Limit(key="disk", concurrency=3)])

    assert crowd.take() == ["disk1"]


def test_it_runs_though_the_others_never_cease(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    started = []

    for step in range(20):
        crowd.engine.enqueue([_use(f"api-{step:02}", "api"), _use(f"disk-{step:02}", "disk")])
        harness.advance(5)
        crowd.end(next(iter(crowd.running)))
        started += crowd.take()

    assert "both" not in started[:10]
    assert "both" in started


def test_when_it_runs_others_pass_again(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    for one in ("disk0", "api0", "api1"):
        crowd.end(one)

    assert crowd.take() == ["both", "api2"]


def test_one_that_comes_back_waits_anew(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")
    crowd.end("api0")
    assert crowd.take() == ["both"]
    crowd.engine.enqueue([job(id="urgent", priority=9, flow=using("api"))])

    settle(crowd.engine, HandedBack(crowd.running["both"].token))

    assert crowd.take() == ["urgent", "disk1"]


def test_one_like_it_that_goes_before_it_takes_the_room(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.engine.enqueue([job(id="twin", priority=9, flow=using("api", "disk"))])
    crowd.end("disk0")
    crowd.end("api0")

    assert crowd.take() == ["twin"]


def test_of_two_that_wait_the_one_that_has_waited_longer_goes_first(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(5)
    crowd.engine.enqueue([job(id="later", priority=9, task="other", flow=using("api", "disk"))])
    assert crowd.take() == []
    harness.advance(LONG_S)
    crowd.end("disk0")
    crowd.end("api0")

    assert crowd.take() == ["both"]


def test_jobs_that_wait_for_limits_of_each_other_all_run(harness: Harness) -> None:
    keys = ("a", "b", "c")
    crowd = _Crowd(harness, [Limit(key=key, concurrency=1) for key in keys])
    crowd.start(*(_use(f"{key}0", key) for key in keys))
    pairs = [("a", "b"), ("b", "c"), ("a", "c")]
    crowd.engine.enqueue([job(id="-".join(pair), flow=using(*pair)) for pair in pairs])
    started = crowd.take()

    for step in range(1, 40):
        crowd.engine.enqueue([_use(f"{key}{step}", key, priority=9) for key in keys])
        harness.advance(10)
        for one in list(crowd.running):
            crowd.end(one)
        started += crowd.take()

    assert {"a-b", "b-c", "a-c"} <= set(started)


def test_meanwhile_jobs_of_other_limits_and_of_none_pass(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")
    crowd.engine.enqueue([_use("mail", "mail"), job(id="plain", queue="side")])

    assert crowd.take() == ["mail", "plain"]


def test_meanwhile_a_running_job_acquires_what_is_kept(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")
    assert crowd.take() == []
    token = crowd.running["api0"].token

    assert crowd.engine.acquire("s", token, b"request1", [Use("disk")]).given


def test_a_claim_that_leaves_room_says_to_look_again_soon(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")

    due_in_s = crowd.engine.claim("s", demand(5, queues=QUEUES)).next_due_in_s

    assert due_in_s is not None
    assert due_in_s <= LOOK_S + TICK_S


# --- whom nothing is kept for -------------------------------------------------------------
def test_when_it_is_cancelled_others_pass_again(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")
    assert crowd.take() == []

    crowd.engine.steer("cancel", ["both"])

    assert crowd.take() == ["disk1"]


def test_nothing_is_kept_for_a_job_of_a_paused_queue(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")

    crowd.engine.pause("main")

    assert crowd.take() == ["disk1"]


def test_nothing_is_kept_while_another_limit_was_refused(harness: Harness) -> None:
    crowd = _waiting_for_both(harness)
    harness.advance(LONG_S)
    crowd.end("disk0")

    settle(crowd.engine, Deferred(crowd.running["api0"].token, 900.0, "refused", slows=("api",)))

    assert crowd.take() == ["disk1"]


def test_nothing_is_kept_while_a_breaker_is_open(harness: Harness) -> None:
    crowd = _waiting_for_both(harness, breakers=("host",))
    crowd.engine.configure([BreakerRule("host")])
    harness.advance(LONG_S)
    crowd.end("disk0")

    crowd.engine.turn("host", "trip")

    assert crowd.take() == ["disk1"]


def test_nothing_is_kept_for_a_job_for_which_its_worker_has_no_room(harness: Harness) -> None:
    offers = {"gpu": {"0": 1.0}}
    crowd = _Crowd(harness, DISK_AND_API, session(id="s", queues=QUEUES, offers=offers))
    crowd.start(job(id="trains", flow=wanting(gpu=1)))
    crowd.add_both(Flow(uses=BOTH, resources=(("gpu", 1.0),)))
    harness.advance(LONG_S)
    crowd.end("disk0")

    assert crowd.take() == ["disk1"]


def test_what_is_kept_for_a_job_that_nobody_starts_is_given_up(harness: Harness) -> None:
    crowd = _Crowd(harness, DISK_AND_API, session(id="s", queues=QUEUES, tasks=frozenset({"work"})))
    crowd.engine.join(session(id="t", worker="other", tasks=frozenset({"other"}), queues=QUEUES))
    crowd.start(_use("disk0", "disk"))
    crowd.engine.enqueue([job(id="both", task="other", flow=using("api", "disk"))])
    assert crowd.engine.claim("t", demand(1)).claims == ()
    crowd.engine.retire("t", [])
    crowd.engine.enqueue([_use("disk1", "disk")])
    harness.advance(LONG_S)
    crowd.end("disk0")
    assert crowd.take() == []

    harness.advance(LONG_S)

    assert crowd.take() == ["disk1"]


# --- costs --------------------------------------------------------------------------------
def test_cheap_jobs_pass_a_dear_one_for_a_while(harness: Harness) -> None:
    crowd = _waiting_for_tokens(harness)

    taken = crowd.take_often(harness, steps=100)

    assert set(taken) == {f"cheap{n}" for n in range(len(taken))}
    assert len(taken) > 90


def test_after_a_while_cheap_jobs_wait_until_the_dear_one_has_run(harness: Harness) -> None:
    crowd = _waiting_for_tokens(harness)
    crowd.take_often(harness, steps=121)

    taken = crowd.take_often(harness, steps=8)

    assert taken[0] == "dear"
    assert len(taken) > 1


# --- arranging ----------------------------------------------------------------------------
def _use(name: str, key: str, *, priority: int = 5) -> NewJob:
    return job(id=name, queue="side", priority=priority, flow=using(key))


class _Crowd:
    """An engine whose session "s" claims of both queues, and what it runs."""

    def __init__(self, harness: Harness, limits: Sequence[Limit], by: Session | None = None) -> None:
        self.engine: Engine = harness.engine()
        self.engine.join(by or session(id="s", queues=QUEUES))
        self.engine.configure(limits)
        self.running: dict[str, Claim] = {}

    def take(self, count: int = 9) -> list[str]:
        """Claim what may start; return the ids."""
        claims = self.engine.claim("s", demand(count, queues=QUEUES)).claims
        self.running |= {claim.job_id: claim for claim in claims}
        return ids(claims)

    def start(self, *jobs: NewJob) -> None:
        """Enqueue jobs and claim them."""
        self.engine.enqueue(jobs)
        assert sorted(self.take()) == sorted(one.id for one in jobs)

    def end(self, name: str) -> None:
        """Settle a job that runs."""
        settle(self.engine, Succeeded(self.running.pop(name).token))

    def take_often(self, harness: Harness, *, steps: int) -> list[str]:
        """Claim one job every half second."""
        taken = []
        for _ in range(steps):
            harness.advance(0.5)
            taken += self.take(1)
        return taken

    def add_both(self, flow: Flow) -> None:
        """Fill two limits, and have a job wait for both, and others for each."""
        self.start(_use("disk0", "disk"), _use("api0", "api"), _use("api1", "api"))
        self.engine.enqueue([job(id="both", flow=flow)])
        assert self.take() == []
        self.engine.enqueue([_use("disk1", "disk"), _use("api2", "api")])


def _waiting_for_both(harness: Harness, *, breakers: tuple[str, ...] = ()) -> _Crowd:
    crowd = _Crowd(harness, DISK_AND_API)
    crowd.add_both(Flow(uses=BOTH, breakers=breakers))
    return crowd


def _waiting_for_tokens(harness: Harness) -> _Crowd:
    """Return a crowd where a job waits for 170 tokens of 180 at most, of which 97 come in a second."""
    crowd = _Crowd(harness, [Limit(key="api", costs={"tokens": Rate(6000, 60.0)})])
    crowd.start(job(id="first", flow=using("api", tokens=250.0)))
    crowd.engine.enqueue([job(id="dear", flow=using("api", tokens=170.0))])
    assert crowd.take() == []
    crowd.engine.enqueue(
        [job(id=f"cheap{n}", task="other", flow=using("api", tokens=50.0)) for n in range(140)]
    )
    return crowd
