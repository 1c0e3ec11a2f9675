"""Why a job does not run: the one thing that holds it back now, its numbers, and when it may lift.

A job in line is held back by the first of these that applies: its queue is paused, no worker could ever
run it, a valve is shut (of several, the one that opens last), its worker's resources are taken, others
are served before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum

import msgspec

from cicely.core import breaker, valves
from cicely.core.breaker import Phase
from cicely.core.flow import accepts
from cicely.core.job import Job
from cicely.core.limits import NEVER, Limit, Rate, ceiling, meters, opens_at
from cicely.core.resources import Amounts, Wants, fits, free, place
from cicely.core.states import State
from cicely.engines.contract import Holder, SessionRecord, SettingRecord, Surroundings
from cicely.observe.words import Detail, by, counted, limit_name, listed, listing, session_names, span

Details = dict[str, Detail]


class Reason(StrEnum):
    """What holds a job back, or that nothing does."""

    ENDED = "ended"
    RUNNING = "running"
    DUE = "due later"
    UNPUBLISHED = "unpublished"
    JOBS = "waits for jobs"
    EVENT = "waits for an event"
    PAUSED = "paused"
    NO_WORKER = "no worker for its queue"
    NO_TASK = "no worker for its task"
    NOT_ACCEPTED = "not accepted"
    TOO_LARGE = "too large"
    REFUSED = "refused"
    LIMIT = "limit"
    RATE = "rate"
    BREAKER = "breaker"
    PROBE = "probe"
    RESOURCE = "resource"
    LANE = "lane"
    BUSY = "busy"
    STARTING = "starting"


class Explanation(msgspec.Struct, frozen=True):
    """Why a job does not run: a word, a sentence, its numbers as JSON has them, and when it may lift.

    `until` is None where nobody can tell.
    """

    reason: Reason
    text: str
    details: Mapping[str, Detail] = {}
    until: float | None = None


def explain(around: Surroundings) -> Explanation:
    """Return the one reason why a job does not run, or that it does, or did."""
    match around.job.state:
        case State.RUNNING:
            return _running(around)
        case State.SCHEDULED:
            return _due(around)
        case State.WAITING:
            return _waiting(around)
        case State.READY:
            found = (look(around) for look in (_paused, _unserved, _shut, _no_room))
            return next((one for one in found if one is not None), None) or _in_line(around)
        case _:
            return _ended(around.job)


# --- not in line --------------------------------------------------------------------------
def _ended(job: Job) -> Explanation:
    why = f": {job.reason}" if job.reason else ""
    details: Details = {"state": str(job.state), "reason": job.reason, "ended_at": job.ended_at}
    return Explanation(Reason.ENDED, f"it has ended: {job.state}{why}", details)


def _running(around: Surroundings) -> Explanation:
    job = around.job
    since = job.started_at or around.now
    where = session_names(around).get(job.session, job.session)
    asked = ", and was asked to end" if job.cancelling else ""
    text = f"it runs on {where} for {span(around.now - since)}{asked}"
    details: Details = {"session": job.session, "since": since, "cancelling": job.cancelling}
    return Explanation(Reason.RUNNING, text, details)


def _due(around: Surroundings) -> Explanation:
    due_at = around.job.due_at or around.now
    text = f"it is due in {span(due_at - around.now)}" + (
        f": {around.job.reason}" if around.job.reason else ""
    )
    return Explanation(Reason.DUE, text, {"due_at": due_at}, due_at)


def _waiting(around: Surroundings) -> Explanation:
    job = around.job
    if around.is_held:
        return Explanation(
            Reason.UNPUBLISHED,
            f"its workflow {job.workflow} is not published yet",
            {"workflow": job.workflow},
        )
    if job.event:
        until = f", for {span(job.due_at - around.now)} at most" if job.due_at else ""
        text = f"it waits for the event {job.event}{until}"
        return Explanation(Reason.EVENT, text, {"event": job.event}, job.due_at)
    count = max(job.pending, len(around.parents))
    more = ", …" if count > len(around.parents) else ""
    text = f"it waits for {counted(count, 'job')}: {', '.join(around.parents)}{more}"
    return Explanation(Reason.JOBS, text, {"count": count, "jobs": around.parents})


# --- nobody could run it ------------------------------------------------------------------
def _paused(around: Surroundings) -> Explanation | None:
    if not around.is_paused:
        return None
    queue = around.job.queue
    return Explanation(Reason.PAUSED, f"its queue {queue} is paused", {"queue": queue})


def _unserved(around: Surroundings) -> Explanation | None:
    """Return what no open session offers, whatever is busy or shut now."""
    job, wants = around.job, _wants(around.job)
    serving = _serving(around)
    if not serving:
        text = f"no worker serves its queue {job.queue}"
        return Explanation(Reason.NO_WORKER, text, {"queue": job.queue})
    running = [record for record in serving if record.session.runs(job.task)]
    if not running:
        text = (
            f"of {counted(len(serving), 'session')} on its queue {job.queue}, none runs its task {job.task}"
        )
        return Explanation(Reason.NO_TASK, text, {"task": job.task, "sessions": len(serving)})
    accepting = [record for record in running if _accepts(record, job)]
    if not accepting:
        traits = job.flow.traits if job.flow else ()
        text = f"no worker that runs it accepts its tags: {', '.join(traits)}"
        return Explanation(Reason.NOT_ACCEPTED, text, {"traits": traits})
    if any(fits(wants, record.session.offers) for record in accepting):
        return None
    return _too_large(accepting, wants)


def _too_large(able: Sequence[SessionRecord], wants: Wants) -> Explanation:
    offers = [record.session.offers for record in able]
    scarce = _scarce(wants, offers, offers)
    if scarce is None:
        text = f"no worker that runs it has {listing(wants)} together"
        return Explanation(Reason.TOO_LARGE, text, {"wanted": dict(wants)})
    name, amount = scarce
    most = max(sum(one.get(name, {}).values()) for one in offers)
    has = f"the most that one has is {most:g}" if most else "none has any"
    text = f"it wants {name} {amount:g}, more than any worker that runs it has: {has}"
    return Explanation(Reason.TOO_LARGE, text, {"resource": name, "wanted": amount, "offered": most})


def _scarce(wants: Wants, left: Sequence[Amounts], offers: Sequence[Amounts]) -> tuple[str, float] | None:
    """Return the first resource of which no worker has enough, None where only all together are too much."""
    for want in wants:
        if all(place((want,), has, of) is None for has, of in zip(left, offers, strict=True)):
            return want
    return None


def _serving(around: Surroundings) -> list[SessionRecord]:
    """Return the sessions that claim from the job's queue, without those that fell silent."""
    return [
        record
        for record in around.sessions
        if record.session.tasks
        and (not record.session.queues or around.job.queue in record.session.queues)
        and record.beat_at + record.session.lease_s >= around.now
    ]


def _able(around: Surroundings) -> list[SessionRecord]:
    """Return those of them that could run the job, if they had room."""
    job = around.job
    return [
        record
        for record in _serving(around)
        if record.session.runs(job.task)
        and _accepts(record, job)
        and fits(_wants(job), record.session.offers)
    ]


def _accepts(record: SessionRecord, job: Job) -> bool:
    return job.flow is None or accepts(record.session.accepts, job.flow.traits)


def _wants(job: Job) -> Wants:
    return job.flow.resources if job.flow else ()


# --- a valve is shut ----------------------------------------------------------------------
def _shut(around: Surroundings) -> Explanation | None:
    """Return the valve that opens last, of those that are shut."""
    opening = [(_opens_at(around, record), record) for record in around.valves]
    latest = max((at for at, _ in opening), default=around.now)
    if latest <= around.now:
        return None
    record = next(record for at, record in opening if at == latest)
    if isinstance(record.setting, Limit):
        return _limited(around, record, record.setting)
    return _broken(around, record)


def _opens_at(around: Surroundings, record: SettingRecord) -> float:
    if not isinstance(record.setting, valves.Valve):
        return around.now
    held = _held(around, record)
    cost = _cost(around.job, valves.key_of(record.setting))
    return valves.opens_at(record.setting, record.gauge, cost, now=around.now, held=held)


def _held(around: Surroundings, record: SettingRecord) -> Callable[[float], int]:
    holders = _holders(around, record)

    def count(since: float) -> int:
        # The holders that are not listed are the youngest.
        return record.held - sum(holder.since < since for holder in holders)

    return count


def _holders(around: Surroundings, record: SettingRecord) -> tuple[Holder, ...]:
    if not isinstance(record.setting, valves.Valve):
        return ()
    return around.holders.get(valves.key_of(record.setting), ())


def _cost(job: Job, key: str) -> Mapping[str, float]:
    uses = job.flow.uses if job.flow else ()
    return next((use.cost for use in uses if use.key == key), {})


def _limited(around: Surroundings, record: SettingRecord, limit: Limit) -> Explanation:
    now, gauge = around.now, record.gauge
    most = ceiling(limit, gauge, now=now)
    details: Details = {"key": limit.key, "held": record.held, "concurrency": limit.concurrency}
    details["ahead"] = around.ahead
    if gauge.shut_until > now:
        text = f"{limit_name(limit.key)} was refused: nobody passes for {span(gauge.shut_until - now)}"
        return Explanation(
            Reason.REFUSED, text, {**details, "shut_until": gauge.shut_until}, gauge.shut_until
        )
    if record.held >= most:
        holders = _holders(around, record)
        cut = "" if most == limit.concurrency else "; that is fewer than usual, after refusals"
        text = (
            f"{limit_name(limit.key)} is full: {record.held} of {most:g} are held{by(around, holders)}{cut}"
        )
        return Explanation(
            Reason.LIMIT, text, {**details, "ceiling": most, "holders": [listed(one) for one in holders]}
        )
    return _rated(around, record, limit, details)


def _rated(around: Surroundings, record: SettingRecord, limit: Limit, details: Details) -> Explanation:
    """Return which meter of a limit lets the job pass last."""
    now, cost = around.now, _cost(around.job, limit.key)
    alone = {meter: _only(limit, meter, rate) for meter, rate in meters(limit).items()}
    until = {
        meter: opens_at(one, record.gauge, cost, now=now, held=lambda _: 0) for meter, one in alone.items()
    }
    meter = max(until, key=lambda name: until[name])
    rate = meters(limit)[meter]
    of = f"{rate.text} of {meter}" if meter else rate.text
    wants = f", of which it wants {cost[meter]:g}" if meter in cost else ""
    text = f"{limit_name(limit.key)} lets it pass in {span(until[meter] - now)} ({of}{wants})"
    details |= {"meter": meter, "rate": rate.text, "cost": cost.get(meter)}
    return Explanation(Reason.RATE, text, details, until[meter])


def _only(limit: Limit, meter: str, rate: Rate) -> Limit:
    return Limit(key=limit.key, costs={meter: rate}) if meter else Limit(key=limit.key, rate=rate)


def _broken(around: Surroundings, record: SettingRecord) -> Explanation:
    now, gauge = around.now, record.gauge
    name = valves.key_of(record.setting) if isinstance(record.setting, valves.Valve) else ""
    details: Details = {"key": name, "opened_at": gauge.opened_at}
    words = name.replace(":", " ", 1)
    if breaker.phase(gauge, now=now) is Phase.HALF_OPEN:
        probes = [holder for holder in _holders(around, record) if holder.since >= gauge.shut_until]
        text = f"{words} is half-open, and probed{by(around, probes)}"
        return Explanation(Reason.PROBE, text, {**details, "probe": [listed(one) for one in probes]})
    if gauge.shut_until == NEVER:
        text = f"{words} was tripped by hand {span(now - gauge.opened_at)} ago, until it is reset"
        return Explanation(Reason.BREAKER, text, details)
    text = f"{words} is open for {span(gauge.shut_until - now)} more: then one job probes"
    return Explanation(Reason.BREAKER, text, {**details, "shut_until": gauge.shut_until}, gauge.shut_until)


# --- no room ------------------------------------------------------------------------------
def _no_room(around: Surroundings) -> Explanation | None:
    """Return the first resource of which no worker that could run the job has enough left."""
    wants = _wants(around.job)
    able = {record.session.worker: record for record in _able(around)}.values()
    offers = [record.session.offers for record in able]
    left = [_left(around, record) for record in able]
    if any(place(wants, has, of) is not None for has, of in zip(left, offers, strict=True)):
        return None
    scarce = _scarce(wants, left, offers)
    if scarce is None:
        text = f"no worker has {listing(wants)} free together"
        return Explanation(Reason.RESOURCE, text, {"wanted": dict(wants)})
    name, amount = scarce
    is_free, has_all = (sum(sum(one.get(name, {}).values()) for one in part) for part in (left, offers))
    users = [one for used in around.taken.values() for one in used if name in one.units]
    taken = f"; taken{by(around, users)}" if users else ""
    text = f"resource {name}: {is_free:g} of {has_all:g} free, and it wants {amount:g}{taken}"
    details: Details = {"resource": name, "wanted": amount, "free": is_free, "offered": has_all}
    return Explanation(Reason.RESOURCE, text, {**details, "holders": [listed(one) for one in users]})


def _left(around: Surroundings, record: SessionRecord) -> dict[str, dict[str, float]]:
    """Return what is left of the resources of a session's worker."""
    worker = record.session.worker
    sessions = [one.session.id for one in around.sessions if one.session.worker == worker]
    used = [holder.units for name in sessions for holder in around.taken.get(name, ())]
    return free(record.session.offers, used)


# --- others before it ---------------------------------------------------------------------
def _in_line(around: Surroundings) -> Explanation:
    able = _able(around)
    held = sum(record.held for record in able)
    details: Details = {
        "ahead": around.ahead,
        "lane": around.job.lane,
        "lanes": around.lanes,
        "lanes_before": around.lane_behind,
        "sessions": len(able),
        "held": held,
    }
    if any(record.held == 0 for record in able):
        text = (
            f"it is about to start: {counted(around.ahead, 'job')} before it, and a worker has nothing to do"
        )
        return Explanation(Reason.STARTING, text, details)
    busy = f"{counted(len(able), 'session')} that could run it hold {counted(held, 'job')}"
    if around.lane_behind:
        text = (
            f"{counted(around.lane_behind, 'lane')} of {around.lanes} are served before its own, "
            f"which has {counted(around.ahead, 'job')} before it; {busy}"
        )
        return Explanation(Reason.LANE, text, details)
    position = around.ahead + 1
    text = f"every worker is busy, and it is number {position:,} in line: {busy}"
    return Explanation(Reason.BUSY, text, {**details, "position": position})
