"""The one reason why a job does not run, of every kind, and which comes first."""

import json
from typing import Any

import msgspec
import pytest

from cicely.core.breaker import BreakerRule
from cicely.core.flow import Flow, Use
from cicely.core.job import Job, Kind
from cicely.core.limits import NEVER, Gauge, Limit, Rate, Waiter
from cicely.core.reservations import Reservation
from cicely.core.resources import Amounts
from cicely.core.states import State
from cicely.engines.contract import Holder, Kept, Session, SessionRecord, SettingRecord, Surroundings
from cicely.observe.explain import explain
from cicely.observe.reasons import Explanation, Reason

NOW = 1_900_000_000.0
FLOW = Flow(uses=(Use("api", {"tokens": 500.0}),), breakers=("db",), resources=(("gpu", 1.0),))
GPUS: Amounts = {"gpu": {str(n): 1.0 for n in range(4)}}


def job(**options: Any) -> Job:
    first = {"id": "a", "task": "work", "kind": Kind.SYNC, "queue": "main", "state": State.READY}
    return Job(**{**first, **options})


def worker(name: str = "s", *, held: int = 1, silent_s: float = 0.0, **options: Any) -> SessionRecord:
    first = {"id": name, "worker": f"boss of {name}", "tasks": frozenset({"work"}), "queues": ("main",)}
    session = Session(**{**first, **options})
    return SessionRecord(session=session, beat=1, joined_at=0.0, beat_at=NOW - silent_s, held=held)


def around(of: Job | None = None, *sessions: SessionRecord, **options: Any) -> Surroundings:
    return Surroundings(job=of or job(), now=NOW, sessions=sessions or (worker(),), **options)


def limited(limit: Limit, gauge: Gauge = Gauge(), held: int = 0, **options: Any) -> Surroundings:  # noqa: B008
    flow = Flow(uses=(Use("api", {"tokens": 500.0}),))
    return around(job(flow=flow), valves=(SettingRecord(limit, gauge, held, NOW),), **options)


def broken(gauge: Gauge, held: int = 0, **options: Any) -> Surroundings:
    valves = (SettingRecord(BreakerRule("db"), gauge, held, NOW),)
    return around(job(flow=Flow(breakers=("db",))), valves=valves, **options)


def scarce(*sessions: SessionRecord, wants: tuple = (("gpu", 1.0),), **options: Any) -> Surroundings:
    return around(job(flow=Flow(resources=wants)), *sessions, **options)


# --- not in line --------------------------------------------------------------------------
@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELLED, State.EXPIRED])
def test_a_job_that_has_ended_says_how(state: State) -> None:
    found = explain(around(job(state=state, reason="why", ended_at=NOW)))

    assert found.reason is Reason.ENDED
    assert found.text == f"it has ended: {state}: why"


def test_a_running_job_says_where_and_since_when() -> None:
    running = job(state=State.RUNNING, session="s", started_at=NOW - 30)

    found = explain(around(running, worker(name="s", silent_s=999)))

    assert found == Explanation(
        Reason.RUNNING,
        "it runs on s for 30 s",
        {"session": "s", "since": NOW - 30, "cancelling": False},
    )


def test_a_running_job_that_was_asked_to_end_says_so() -> None:
    running = job(state=State.RUNNING, session="s", started_at=NOW, cancelling=True)

    assert explain(around(running)).text.endswith("and was asked to end")


def test_a_scheduled_job_says_when_it_is_due() -> None:
    found = explain(around(job(state=State.SCHEDULED, due_at=NOW + 90)))

    assert (found.reason, found.text, found.until) == (Reason.DUE, "it is due in 90 s", NOW + 90)


def test_a_job_that_will_be_retried_says_why() -> None:
    found = explain(around(job(state=State.SCHEDULED, due_at=NOW + 5, reason="error")))

    assert found.text == "it is due in 5.0 s: error"


def test_a_held_job_waits_for_the_publication() -> None:
    found = explain(around(job(state=State.WAITING, workflow="w", pending=2), is_held=True, parents=("p",)))

    assert (found.reason, found.text) == (Reason.UNPUBLISHED, "its workflow w is not published yet")


def test_a_job_that_comes_after_others_names_them() -> None:
    found = explain(around(job(state=State.WAITING, pending=3), parents=("p", "q")))

    assert (found.reason, found.text) == (Reason.JOBS, "it waits for 3 jobs: p, q, …")
    assert found.details == {"count": 3, "jobs": ("p", "q")}


def test_a_job_that_waits_for_an_event_names_it_and_how_long() -> None:
    found = explain(around(job(state=State.WAITING, event="paid", due_at=NOW + 600)))

    assert (found.reason, found.until) == (Reason.EVENT, NOW + 600)
    assert found.text == "it waits for the event paid, for 10 min at most"


# --- nobody could run it ------------------------------------------------------------------
def test_a_paused_queue_is_the_reason() -> None:
    found = explain(around(is_paused=True))

    assert (found.reason, found.text) == (Reason.PAUSED, "its queue main is paused")


@pytest.mark.parametrize(
    "other",
    [
        worker(queues=("side",)),
        worker(tasks=frozenset()),
        worker(silent_s=31.0),
    ],
    ids=["another queue", "a supervisor", "a silent one"],
)
def test_a_queue_that_nobody_serves_is_the_reason(other: SessionRecord) -> None:
    found = explain(around(None, other))

    assert (found.reason, found.text) == (Reason.NO_WORKER, "no worker serves its queue main")


def test_a_session_that_names_no_queue_serves_all() -> None:
    assert explain(around(None, worker(queues=()))).reason is Reason.BUSY


def test_a_task_that_nobody_runs_is_the_reason() -> None:
    found = explain(around(None, worker(tasks=frozenset({"other"})), worker(tasks=frozenset({"x.*"}))))

    assert found.reason is Reason.NO_TASK
    assert found.text == "of 2 sessions on its queue main, none runs its task work"


def test_tags_that_nobody_accepts_are_the_reason() -> None:
    of = job(flow=Flow(traits=("model=opus",)))

    found = explain(around(of, worker(accepts={"model": ("haiku",)})))

    assert (found.reason, found.details) == (Reason.NOT_ACCEPTED, {"traits": ("model=opus",)})


def test_more_of_a_resource_than_anybody_has_is_the_reason() -> None:
    found = explain(scarce(worker(offers=GPUS), worker(), wants=(("gpu", 8.0),)))

    assert found.reason is Reason.TOO_LARGE
    assert found.text.endswith("more than any worker that runs it has: the most that one has is 4")
    assert found.details == {"resource": "gpu", "wanted": 8.0, "offered": 4.0}


def test_a_resource_that_nobody_has_is_the_reason() -> None:
    assert explain(scarce(worker())).text.endswith("none has any")


def test_resources_that_nobody_has_together_are_the_reason() -> None:
    memory: Amounts = {"memory_gb": {"": 64.0}}
    wants = (("gpu", 1.0), ("memory_gb", 16.0))

    found = explain(scarce(worker(offers=GPUS), worker(offers=memory), wants=wants))

    assert found.text == "no worker that runs it has gpu 1 and memory_gb 16 together"


# --- a valve ------------------------------------------------------------------------------
def test_a_full_limit_says_who_holds_it() -> None:
    holders = tuple(Holder(f"h{n}", "s", NOW - 60) for n in range(5))

    found = explain(limited(Limit(key="api", concurrency=5), held=5, holders={"api": holders}))

    assert found.reason is Reason.LIMIT
    assert found.text == (
        "limit api is full: 5 of 5 are held by "
        "h0 on s for 60 s, h1 on s for 60 s, h2 on s for 60 s and 2 more"
    )
    assert found.details["holders"][0] == {"job": "h0", "session": "s", "since": NOW - 60, "units": {}}
    assert found.until is None


def test_a_limit_whose_room_is_kept_says_for_whom() -> None:
    gauge = Gauge(first=Waiter(1, NOW - 75, job="both"))

    found = explain(limited(Limit(key="api", concurrency=2), gauge, held=1))

    assert found.reason is Reason.LIMIT
    assert found.text == (
        "limit api may keep the room that it has for job both, which its limits have held back for 75 s: "
        "until that starts, or is held back by something else"
    )
    assert found.details == {"key": "api", "held": 1, "for": "both", "since": NOW - 75}


@pytest.mark.parametrize(
    ("first", "held"),
    [
        (Waiter(1, NOW - 59, job="both"), 1),
        (Waiter(1, NOW - 75, job="a"), 1),
        (Waiter(1, NOW - 75, job="both"), 0),
    ],
    ids=["young", "itself", "room beside it"],
)
def test_a_limit_that_keeps_no_room_from_it_is_no_reason(first: Waiter, held: int) -> None:
    found = explain(limited(Limit(key="api", concurrency=2), Gauge(first=first), held=held))

    assert found.reason is not Reason.LIMIT


def test_a_limit_that_refusals_have_cut_says_so() -> None:
    gauge = Gauge(ceiling=4.0, ceiling_at=NOW)

    found = explain(limited(Limit(key="api", concurrency=5), gauge, held=4))

    assert found.text == "limit api is full: 4 of 4 are held; that is fewer than usual, after refusals"


@pytest.mark.parametrize(
    ("key", "name"),
    [("queue:main", "the cap of queue main"), ("tag:user=7", "the quota of tag user=7")],
)
def test_caps_and_quotas_are_called_so(key: str, name: str) -> None:
    of = job(flow=Flow(uses=(Use(key),)))
    valves = (SettingRecord(Limit(key=key, concurrency=1), Gauge(), 1, NOW),)

    assert explain(around(of, valves=valves)).text == f"{name} is full: 1 of 1 are held"


def test_a_rate_says_when_it_lets_the_job_pass() -> None:
    found = explain(limited(Limit(key="api", rate=Rate(10, 10.0)), Gauge(full_at={"": NOW + 12.0})))

    assert (found.reason, found.until) == (Reason.RATE, NOW + 12.0)
    assert found.text == "limit api lets it pass in 12 s (10/10s)"


def test_of_several_meters_the_last_to_open_is_named() -> None:
    limit = Limit(key="api", rate=Rate(10, 10.0), costs={"tokens": Rate(6000, 60.0)})
    gauge = Gauge(full_at={"": NOW + 2.0, "tokens": NOW + 30.0})

    found = explain(limited(limit, gauge))

    assert found.text == "limit api lets it pass in 30 s (6000/m of tokens, of which it wants 500)"
    assert (found.details["meter"], found.details["cost"]) == ("tokens", 500.0)


def test_a_refused_limit_says_until_when() -> None:
    found = explain(limited(Limit(key="api", concurrency=1), Gauge(shut_until=NOW + 12.0), held=1))

    assert (found.reason, found.until) == (Reason.REFUSED, NOW + 12.0)
    assert found.text == "limit api was refused: nobody passes for 12 s"


def test_an_open_breaker_says_until_when() -> None:
    found = explain(broken(Gauge(opened_at=NOW - 10, shut_until=NOW + 50)))

    assert (found.reason, found.until) == (Reason.BREAKER, NOW + 50)
    assert found.text == "breaker db is open for 50 s more: then one job probes"


def test_a_tripped_breaker_waits_for_a_person() -> None:
    found = explain(broken(Gauge(opened_at=NOW - 600, shut_until=NEVER)))

    assert (found.reason, found.until) == (Reason.BREAKER, None)
    assert found.text == "breaker db was tripped by hand 10 min ago, until it is reset"


def test_a_half_open_breaker_names_its_probe() -> None:
    holders = (Holder("old", "s", NOW - 100), Holder("probe", "s", NOW - 5))
    gauge = Gauge(opened_at=NOW - 70, shut_until=NOW - 10)

    found = explain(broken(gauge, 2, holders={"breaker:db": holders}))

    assert found.reason is Reason.PROBE
    assert found.text == "breaker db is half-open, and probed by probe on s for 5.0 s"


def test_a_half_open_breaker_without_a_probe_is_no_reason() -> None:
    holders = (Holder("old", "s", NOW - 100),)
    gauge = Gauge(opened_at=NOW - 70, shut_until=NOW - 10)

    assert explain(broken(gauge, 1, holders={"breaker:db": holders})).reason is Reason.BUSY


def test_of_several_valves_the_one_that_opens_last_is_the_reason() -> None:
    rated = SettingRecord(Limit(key="api", rate=Rate(10, 10.0)), Gauge(full_at={"": NOW + 12.0}), 0, NOW)
    opened = SettingRecord(BreakerRule("db"), Gauge(opened_at=NOW, shut_until=NOW + 60), 0, NOW)
    full = SettingRecord(Limit(key="disk", concurrency=1), Gauge(), 1, NOW)
    of = job(flow=Flow(uses=(Use("api"), Use("disk")), breakers=("db",)))

    assert explain(around(of, valves=(rated,))).reason is Reason.RATE
    assert explain(around(of, valves=(rated, opened))).reason is Reason.BREAKER
    assert explain(around(of, valves=(rated, opened, full))).reason is Reason.LIMIT


# --- no room ------------------------------------------------------------------------------
def test_a_taken_resource_says_who_has_it() -> None:
    users = tuple(Holder(f"h{n}", "s", NOW - 60, {"gpu": {str(n): 1.0}}) for n in range(4))

    found = explain(scarce(worker(offers=GPUS), taken={"s": users}))

    assert found.reason is Reason.RESOURCE
    assert found.text.startswith("resource gpu: 0 of 4 free, and it wants 1; taken by h0 on s for 60 s, ")
    assert (found.details["free"], found.details["offered"]) == (0.0, 4.0)


def test_what_another_session_of_the_worker_uses_is_taken() -> None:
    one = worker("s", worker="boss", offers={"gpu": {"0": 1.0}})
    two = worker("t", worker="boss", offers={"gpu": {"0": 1.0}})
    users = (Holder("h", "t", NOW, {"gpu": {"0": 1.0}}),)

    assert explain(scarce(one, two, taken={"t": users})).details["offered"] == 1.0


def test_room_that_is_kept_for_another_job_says_for_which_and_how_much() -> None:
    used = {"s": (Holder("h", "s", NOW, {"gpu": {"0": 1.0, "1": 1.0}}),)}
    waiter = Kept("boss of s", "big", NOW - 75, (("gpu", 4.0), ("memory_gb", 16.0)))

    found = explain(scarce(worker(offers=GPUS, held=0), taken=used, kept=(waiter,)))

    assert found.reason is Reason.KEPT
    assert found.text == (
        "resource gpu: 2 of 4 free, but kept for job big, which wants gpu 4 and memory_gb 16 "
        "and has waited 75 s for that"
    )
    assert found.details == {
        "worker": "boss of s",
        "for": "big",
        "kept": {"gpu": 2.0},
        "since": NOW - 15,
        "passed_over_at": NOW - 75,
        "wanted": {"gpu": 4.0, "memory_gb": 16.0},
    }


def test_room_that_one_worker_keeps_is_no_reason_where_another_has_some() -> None:
    one, two = (worker(name, offers=GPUS) for name in ("s", "t"))
    waiter = Kept("boss of s", "big", NOW - 75, (("gpu", 4.0),))

    assert explain(scarce(one, two, kept=(waiter,))).reason is Reason.BUSY
    assert explain(scarce(one, kept=(waiter,))).reason is Reason.KEPT


def test_of_several_that_keep_their_room_the_one_that_does_so_for_longest_is_named() -> None:
    one, two = (worker(name, offers=GPUS) for name in ("s", "t"))
    waiters = (
        Kept("boss of s", "big", NOW - 75, (("gpu", 4.0),)),
        Kept("boss of t", "huge", NOW - 80, (("gpu", 4.0),)),
    )

    assert explain(scarce(one, two, kept=waiters)).details["for"] == "huge"


def test_room_that_is_kept_where_there_is_none_is_not_the_reason() -> None:
    used = {"s": (Holder("h", "s", NOW, {"gpu": {str(n): 1.0 for n in range(4)}}),)}
    waiter = Kept("boss of s", "big", NOW - 75, (("gpu", 4.0),))

    assert explain(scarce(worker(offers=GPUS), taken=used, kept=(waiter,))).reason is Reason.RESOURCE


def test_where_one_worker_has_room_resources_are_no_reason() -> None:
    users = (Holder("h", "s", NOW, {"gpu": {"0": 1.0}}),)
    one, two = (worker(name, offers={"gpu": {"0": 1.0}}) for name in ("s", "t"))

    assert explain(scarce(one, two, taken={"s": users})).reason is Reason.BUSY


def test_resources_that_are_free_but_not_together_are_the_reason() -> None:
    both: Amounts = {"gpu": {"0": 1.0}, "memory_gb": {"": 64.0}}
    one, two = (worker(name, offers=both) for name in ("s", "t"))
    taken = {
        "s": (Holder("h", "s", NOW, {"gpu": {"0": 1.0}}),),
        "t": (Holder("i", "t", NOW, {"memory_gb": {"": 64.0}}),),
    }

    found = explain(scarce(one, two, wants=(("gpu", 1.0), ("memory_gb", 16.0)), taken=taken))

    assert found.text == "no worker has gpu 1 and memory_gb 16 free together"


# --- what workflows reserved --------------------------------------------------------------
def kept(workflow: str = "w", *, used: Amounts | None = None, on: str = "boss of s") -> Reservation:
    one_gpu = {"gpu": {"0": 1.0}}
    return Reservation(workflow, on, "first", NOW - 60, one_gpu, used or {}, {"gpu": {"0": 1.0}})


def of_workflow(*sessions: SessionRecord, workflow: str = "w", **options: Any) -> Surroundings:
    return around(job(flow=Flow(resources=(("gpu", 1.0),)), workflow=workflow), *sessions, **options)


ONE_GPU: Amounts = {"gpu": {"0": 1.0}}


def test_what_a_workflow_reserved_is_taken_for_others_and_says_by_whom() -> None:
    found = explain(scarce(worker(offers=ONE_GPU), reserved=(kept(),)))

    assert found.reason is Reason.RESOURCE
    assert found.text == "resource gpu: 0 of 1 free, and it wants 1; reserved by workflow w for 60 s"
    assert found.details["reserved"] == [
        {"workflow": "w", "worker": "boss of s", "job": "first", "since": NOW - 60, "units": ONE_GPU}
    ]


def test_what_is_drawn_of_a_reservation_is_taken_once() -> None:
    users = (Holder("h", "s", NOW - 60, ONE_GPU),)
    offers: Amounts = {"gpu": {"0": 1.0, "1": 1.0}}

    found = explain(scarce(worker(offers=offers), reserved=(kept(used=ONE_GPU),), taken={"s": users}))

    assert found.reason is Reason.BUSY


def test_a_job_that_may_draw_is_not_held_back_by_its_own_reservation() -> None:
    found = explain(of_workflow(worker(offers=ONE_GPU, held=0), reserved=(kept(),)))

    assert found.reason is Reason.STARTING


def test_a_job_that_waits_for_what_its_workflow_reserved_says_who_uses_it() -> None:
    users = (Holder("h", "s", NOW - 30, ONE_GPU),)
    here, free_one = worker(offers=ONE_GPU), worker("t", offers=ONE_GPU, held=0)

    found = explain(of_workflow(here, free_one, reserved=(kept(used=ONE_GPU),), taken={"s": users}))

    assert (
        found.text == "its workflow w has reserved gpu on boss of s, and it is used there by h on s for 30 s"
    )
    assert found.details["wanted"] == {"gpu": 1.0}


def test_a_job_says_where_nobody_runs_it_beside_its_reservation() -> None:
    here, other = worker(tasks=frozenset({"other"}), offers=ONE_GPU), worker("t", offers=ONE_GPU)

    found = explain(of_workflow(here, other, reserved=(kept(),)))

    assert found.text == "its workflow w has reserved gpu on boss of s, and no session there could run it"


def test_a_job_says_that_the_rest_is_not_free_beside_its_reservation() -> None:
    both: Amounts = {"gpu": {"0": 1.0}, "memory_gb": {"": 8.0}}
    reserved = Reservation("w", "boss of s", "first", NOW, {"gpu": {"0": 1.0}}, {}, both)
    wants = Flow(resources=(("gpu", 1.0), ("memory_gb", 8.0)))
    users = (Holder("h", "s", NOW, {"memory_gb": {"": 8.0}}),)

    found = explain(
        around(job(flow=wants, workflow="w"), worker(offers=both), reserved=(reserved,), taken={"s": users})
    )

    assert found.text == (
        "its workflow w has reserved gpu on boss of s, and the rest that it wants is not free there"
    )


def test_another_workflow_does_not_draw() -> None:
    found = explain(of_workflow(worker(offers=ONE_GPU), workflow="v", reserved=(kept(),)))

    assert found.text.endswith("; reserved by workflow w for 60 s")


# --- in line ------------------------------------------------------------------------------
def test_a_worker_with_nothing_to_do_is_about_to_take_it() -> None:
    found = explain(around(None, worker(held=3), worker("t", held=0), ahead=2, lanes=3, lane_behind=1))

    assert found.reason is Reason.STARTING
    assert found.text == "it is about to start: 2 jobs before it, and a worker has nothing to do"


def test_lanes_that_go_first_are_the_reason() -> None:
    found = explain(around(None, worker(held=3), ahead=2, lanes=3, lane_behind=2))

    assert found.reason is Reason.LANE
    assert found.text.startswith("2 lanes of 3 are served before its own, which has 2 jobs before it; ")
    assert found.details["lanes_before"] == 2


def test_one_lane_and_one_session_are_said_as_one() -> None:
    found = explain(around(None, worker(held=1), ahead=2, lanes=2, lane_behind=1))

    assert found.text == (
        "1 lane of 2 is served before its own, which has 2 jobs before it; "
        "1 session that could run it holds 1 job"
    )


def test_where_all_are_busy_its_place_in_line_is_named() -> None:
    found = explain(around(None, worker(held=3), worker("t", held=4), ahead=6, lanes=1))

    assert found.reason is Reason.BUSY
    assert found.text == (
        "every worker is busy, and it is number 7 in line: 2 sessions that could run it hold 7 jobs"
    )
    assert found.details["position"] == 7


# --- which comes first --------------------------------------------------------------------
def test_of_several_reasons_the_first_is_named() -> None:
    of = job(flow=msgspec.structs.replace(FLOW, traits=("model=opus",)), task="work")
    everything = around(
        of,
        worker(queues=("side",)),
        is_paused=True,
        ahead=3,
        lanes=2,
        lane_behind=1,
        valves=(
            SettingRecord(Limit(key="api", concurrency=1), Gauge(), 1, NOW),
            SettingRecord(BreakerRule("db"), Gauge(), 0, NOW),
        ),
    )
    fits = worker("s", offers={"gpu": {"0": 1.0}})
    taken = {"s": (Holder("h", "s", NOW, {"gpu": {"0": 1.0}}),)}
    steps = [
        ({}, Reason.PAUSED),
        ({"is_paused": False}, Reason.NO_WORKER),
        ({"sessions": (worker(tasks=frozenset({"other"})),)}, Reason.NO_TASK),
        ({"sessions": (worker(accepts={"model": ()}),)}, Reason.NOT_ACCEPTED),
        ({"sessions": (worker(),)}, Reason.TOO_LARGE),
        ({"sessions": (fits,), "taken": taken}, Reason.LIMIT),
        ({"valves": ()}, Reason.RESOURCE),
        ({"taken": {}}, Reason.LANE),
        ({"lane_behind": 0}, Reason.BUSY),
        ({"sessions": (worker(held=0, offers=GPUS),)}, Reason.STARTING),
    ]

    for change, reason in steps:
        everything = msgspec.structs.replace(everything, **change)
        assert explain(everything).reason is reason


def test_every_explanation_is_a_sentence_and_can_be_said_in_json() -> None:
    users = (Holder("h", "s", NOW, {"gpu": {"0": 1.0}}),)
    for shown in (
        around(),
        around(is_paused=True),
        limited(Limit(key="api", concurrency=1), held=1, holders={"api": users}),
        limited(Limit(key="api", rate=Rate(10, 10.0)), Gauge(full_at={"": NOW + 12.0})),
        broken(Gauge(opened_at=NOW, shut_until=NEVER)),
        scarce(worker(offers={"gpu": {"0": 1.0}}), taken={"s": users}),
        scarce(worker(), wants=(("gpu", 1.0), ("memory_gb", 16.0))),
    ):
        found = explain(shown)
        assert "\n" not in found.text
        assert json.loads(json.dumps(msgspec.to_builtins(found), allow_nan=False))["reason"] == found.reason
