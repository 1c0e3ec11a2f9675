"""The verb `surroundings`: what stands between a job and its start."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cicely.core.flow import NO_NEEDS
from cicely.core.resources import is_kept
from cicely.engines.contract import (
    SEEN_AHEAD,
    SEEN_HOLDERS,
    SEEN_PARENTS,
    Holder,
    Kept,
    SessionRecord,
    SettingRecord,
    Surroundings,
)
from cicely.engines.postgres.controls import record_of
from cicely.engines.postgres.limiting import Valves, read_flow
from cicely.engines.postgres.reading import get
from cicely.engines.postgres.reservations import Reservations
from cicely.engines.postgres.sessions import sessions
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.streams import wants_of
from cicely.engines.postgres.transaction import Transaction
from cicely.engines.postgres.units import units_in

_SQL: Final = statements("surroundings")
_VALVE: Final = statements("valve")
_SESSIONS: Final = statements("sessions")


def surroundings(txn: Transaction, job_id: str) -> Surroundings | None:
    """Return what stands between a job and its start; None for an unknown one."""
    [job] = get(txn, (job_id,))
    row = txn.row(_SQL["job"], {"id": job_id})
    if job is None or row is None:
        return None
    n, queue, lane, order, is_paused, is_held = row
    clocks = _clocks(txn, queue)
    own = clocks.get(lane, 0.0)
    valves, holders = _valves(txn, job.flow.keys if job.flow else ())
    open_sessions = sessions(txn.rows(_SESSIONS["open_sessions"]))
    parents = txn.rows(_SQL["parents"], {"n": n, "limit": SEEN_PARENTS})
    return Surroundings(
        job=job,
        now=txn.now,
        is_paused=is_paused,
        is_held=is_held,
        ahead=_ahead(txn, queue, lane, (order, n)),
        lanes=min(SEEN_AHEAD, len(clocks)),
        lane_behind=min(SEEN_AHEAD, sum(clock < own for clock in clocks.values())),
        valves=valves,
        holders=holders,
        parents=tuple(parent for (parent,) in parents),
        sessions=tuple(open_sessions),
        taken=_taken(txn, [record.session.id for record in open_sessions]),
        reserved=tuple(Reservations(txn).all()),
        kept=tuple(_kept(txn, n, open_sessions)),
    )


def _clocks(txn: Transaction, queue: int) -> dict[str, float]:
    """Return the clocks of the lanes that have ready jobs."""
    clocks: dict[str, float] = dict(txn.rows(_SQL["lanes"], {"queue": queue, "limit": SEEN_AHEAD}))
    if "" not in clocks and txn.row(_SQL["has_plain"], {"queue": queue}) is not None:
        clocks[""] = (txn.row(_SQL["clock"], {"queue": queue, "lane": ""}) or (0.0,))[0]
    return clocks


def _ahead(txn: Transaction, queue: int, lane: str, place: tuple[int, int]) -> int:
    order, n = place
    where = {"queue": queue, "lane": lane, "rank": order, "n": n, "limit": SEEN_AHEAD}
    [(ahead,)] = txn.rows(_SQL["ahead"], where)
    if not lane:
        ahead += txn.rows(_SQL["ahead_plain"], where)[0][0]
    return min(SEEN_AHEAD, int(ahead))


def _valves(
    txn: Transaction, keys: tuple[str, ...]
) -> tuple[tuple[SettingRecord, ...], dict[str, tuple[Holder, ...]]]:
    valves = Valves(txn)
    valves.read(keys)
    holders = {}
    for key in keys:
        where = {"valve": valves.guard(key).number, "limit": SEEN_HOLDERS}
        holders[key] = tuple(Holder(*row) for row in txn.rows(_VALVE["holders"], where))
    return tuple(record_of(valves, key) for key in keys), holders


def _kept(txn: Transaction, n: int, open_sessions: list[SessionRecord]) -> Iterator[Kept]:
    """Yield for whom workers keep free what a ready job wants; the claim decides so in `Room`."""
    place = txn.row(_SQL["place"], {"n": n})
    needs = NO_NEEDS if place is None else wants_of(place[1])
    if place is None or not needs.resources:
        return
    reservations, valves = Reservations(txn), Valves(txn)
    workers = {record.session.worker for record in open_sessions}
    rows = [] if reservations.drawn_by(needs) else txn.rows(_SQL["passed_over"], {"stream": place[0]})
    for worker, job_id, since, stored, wanted in rows:
        if worker not in workers or reservations.drawn_by(wants_of(wanted)):
            continue
        wants = read_flow(stored)[0].resources
        may_start = valves.opening(stored) is None
        if may_start and is_kept(needs.resources, wants, since=since, now=txn.now):
            yield Kept(worker, job_id, since, wants)


def _taken(txn: Transaction, open_sessions: list[str]) -> dict[str, tuple[Holder, ...]]:
    """Return, by session, what its jobs use of its worker's resources."""
    users: dict[str, list[Holder]] = {session: [] for session in open_sessions}
    for session, job_id, since, units in txn.rows(_SQL["taken"]):
        if session in users:
            users[session].append(Holder(job_id, session, since, units_in(units)))
    return {session: tuple(held) for session, held in users.items()}
