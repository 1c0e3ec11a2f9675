"""Why a job does not run: the one thing that holds it back now, its numbers, and when it may lift.

A job in line is held back by the first of these that applies: its queue is paused, no worker could ever
run it, a valve is shut (of several, the one that opens last), its worker's resources are taken, or kept
free for another, others are served before it.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cicely.core.flow import accepts
from cicely.core.job import Job
from cicely.core.reservations import place_drawing
from cicely.core.resources import Amounts, Wants, fits, free, place
from cicely.core.states import State
from cicely.engines.contract import SessionRecord, Surroundings
from cicely.observe.keeping import kept
from cicely.observe.reasons import Details, Explanation, Reason
from cicely.observe.reserved import drawable, keepers_of, listed_keeper, reserved_by, waits_for_its_own
from cicely.observe.shut import shut
from cicely.observe.words import by, counted, listed, listing, session_names, span


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
            found = (look(around) for look in (_paused, _unserved, shut, _no_room))
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
    there = serving(around)
    if not there:
        text = f"no worker serves its queue {job.queue}"
        return Explanation(Reason.NO_WORKER, text, {"queue": job.queue})
    running = [record for record in there if record.session.runs(job.task)]
    if not running:
        text = f"of {counted(len(there), 'session')} on its queue {job.queue}, none runs its task {job.task}"
        return Explanation(Reason.NO_TASK, text, {"task": job.task, "sessions": len(there)})
    accepting = [record for record in running if _accepts(record, job)]
    if not accepting:
        traits = job.flow.traits if job.flow else ()
        text = f"no worker that runs it accepts its tags: {', '.join(traits)}"
        return Explanation(Reason.NOT_ACCEPTED, text, {"traits": traits})
    if any(fits(wants, record.session.offers) for record in accepting):
        return None
    return _too_large(accepting, wants)


def _too_large(accepting: Sequence[SessionRecord], wants: Wants) -> Explanation:
    offers = [record.session.offers for record in accepting]
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


def serving(around: Surroundings) -> list[SessionRecord]:
    """Return the sessions that claim from the job's queue, without those that fell silent."""
    return [
        record
        for record in around.sessions
        if record.session.tasks
        and (not record.session.queues or around.job.queue in record.session.queues)
        and record.beat_at + record.session.lease_s >= around.now
    ]


def able(around: Surroundings) -> list[SessionRecord]:
    """Return the sessions that could run the job, if they had room."""
    job, mine = around.job, drawable(around)
    return [
        record
        for record in serving(around)
        if record.session.runs(job.task)
        and _accepts(record, job)
        and (not mine or record.session.worker in mine)
        and fits(_wants(job), record.session.offers)
    ]


def _accepts(record: SessionRecord, job: Job) -> bool:
    return job.flow is None or accepts(record.session.accepts, job.flow.traits)


def _wants(job: Job) -> Wants:
    return job.flow.resources if job.flow else ()


# --- no room ------------------------------------------------------------------------------
def _no_room(around: Surroundings) -> Explanation | None:
    """Return the first resource of which no worker that could run the job has enough left."""
    wants = _wants(around.job)
    workers = {record.session.worker: record for record in able(around)}.values()
    if drawable(around):
        return _no_room_in_its_own(around, workers)
    offers = [record.session.offers for record in workers]
    left = [_left(around, record) for record in workers]
    roomy = [
        (record, has)
        for record, has in zip(workers, left, strict=True)
        if place(wants, has, record.session.offers) is not None
    ]
    if roomy:
        return kept(around, roomy)
    scarce = _scarce(wants, left, offers)
    if scarce is None:
        text = f"no worker has {listing(wants)} free together"
        return Explanation(Reason.RESOURCE, text, {"wanted": dict(wants)})
    name, amount = scarce
    is_free, has_all = (sum(sum(one.get(name, {}).values()) for one in part) for part in (left, offers))
    users = [one for used in around.taken.values() for one in used if name in one.units]
    taken = f"; taken{by(around, users)}" if users else ""
    keepers = keepers_of(around, name)
    reserved = reserved_by(around, keepers)
    text = f"resource {name}: {is_free:g} of {has_all:g} free, and it wants {amount:g}{taken}{reserved}"
    details: Details = {"resource": name, "wanted": amount, "free": is_free, "offered": has_all}
    details["reserved"] = [listed_keeper(one) for one in keepers]
    return Explanation(Reason.RESOURCE, text, {**details, "holders": [listed(one) for one in users]})


def _no_room_in_its_own(around: Surroundings, workers: Collection[SessionRecord]) -> Explanation | None:
    """Return why a job waits that is to run where its workflow has reserved what it wants."""
    job, mine = around.job, drawable(around)
    for record in workers:
        session = record.session
        own = mine[session.worker]
        if place_drawing(_wants(job), _left(around, record), session.offers, own) is not None:
            return None
    text = waits_for_its_own(around, [record.session.worker for record in workers])
    details: Details = {"workflow": job.workflow, "wanted": dict(_wants(job))}
    reserved = [listed_keeper(one) for one in mine.values()]
    return Explanation(Reason.RESOURCE, text, {**details, "reserved": reserved})


def _left(around: Surroundings, record: SessionRecord) -> dict[str, dict[str, float]]:
    """Return what is left of the resources of a session's worker."""
    worker = record.session.worker
    sessions = [one.session.id for one in around.sessions if one.session.worker == worker]
    used = [holder.units for name in sessions for holder in around.taken.get(name, ())]
    kept = [one.left for one in around.reserved if one.worker == worker]
    return free(record.session.offers, used + kept)


# --- others before it ---------------------------------------------------------------------
def _in_line(around: Surroundings) -> Explanation:
    takers = able(around)
    held = sum(record.held for record in takers)
    details: Details = {
        "ahead": around.ahead,
        "lane": around.job.lane,
        "lanes": around.lanes,
        "lanes_before": around.lane_behind,
        "sessions": len(takers),
        "held": held,
    }
    if any(record.held == 0 for record in takers):
        text = (
            f"it is about to start: {counted(around.ahead, 'job')} before it, and a worker has nothing to do"
        )
        return Explanation(Reason.STARTING, text, details)
    holds = "holds" if len(takers) == 1 else "hold"
    busy = f"{counted(len(takers), 'session')} that could run it {holds} {counted(held, 'job')}"
    if around.lane_behind:
        served = "is" if around.lane_behind == 1 else "are"
        text = (
            f"{counted(around.lane_behind, 'lane')} of {around.lanes} {served} served before its own, "
            f"which has {counted(around.ahead, 'job')} before it; {busy}"
        )
        return Explanation(Reason.LANE, text, details)
    position = around.ahead + 1
    text = f"every worker is busy, and it is number {position:,} in line: {busy}"
    return Explanation(Reason.BUSY, text, {**details, "position": position})
