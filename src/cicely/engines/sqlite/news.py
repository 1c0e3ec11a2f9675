"""Decides which waiting session a commit wakes: one that can take what is ready, and no other."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Final

import msgspec

from cicely.core.flow import NO_NEEDS, Needs
from cicely.engines.sqlite.bands import Bands
from cicely.engines.sqlite.bells import SESSION_ARMED, Bells, Slot, owner_key
from cicely.engines.sqlite.gates import gates_of
from cicely.engines.sqlite.member import Member
from cicely.engines.sqlite.openings import look_over, opening
from cicely.engines.sqlite.room import Room
from cicely.engines.sqlite.sessions import known_member
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.streams import wants_of
from cicely.engines.sqlite.transaction import Transaction

_SQL: Final = statements("news")

#: A session is woken for a job that is due so soon, and then waits for it by its own clock.
_SOON_S: Final = 2.0

#: So many kinds of ready work are looked at; a ring is a hint.
_KINDS_LOOKED_AT: Final = 64

Ring = tuple[int, Slot]


def rings(txn: Transaction, bells: Bells) -> list[Ring]:
    """Return the slots to ring for ready work, best first: the first that answers is enough."""
    if not txn.is_stirred or not bells.are_here:
        return []
    armed = bells.armed(SESSION_ARMED)
    if not armed:
        return []
    slots = [(index, slot) for index in armed if (slot := bells.slot(index)) is not None]
    candidates = _after_lookers(slots, txn, bells)
    if not candidates:
        return []
    work = list(itertools.islice(_work(txn), _KINDS_LOOKED_AT))
    return [ring for ring in candidates if _is_for(txn, ring[1], work)] if work else []


def _after_lookers(slots: list[Ring], txn: Transaction, bells: Bells) -> list[Ring]:
    """Leave out the sessions that have just looked.

    Where nothing became ready and none of them took anything, the ring is passed on to the slots
    behind theirs only: so a job that nobody can take now wakes each session once, and not for ever.
    """
    if not txn.lookers:
        return slots
    own = {owner_key(looker) for looker in txn.lookers}
    others = [ring for ring in slots if ring[1].owner not in own]
    if txn.is_fresh or any(txn.lookers.values()):
        return others
    at = min(bells.index_of(owner) for owner in own)
    return [ring for ring in others if ring[0] > at]


#: Something that may be started: its queue and task, and what its worker must have.
_Work = tuple[str, str, Needs]


def _work(txn: Transaction) -> Iterator[_Work]:
    """Yield what is ready in queues that are not paused, or due soon."""
    queues: dict[int, str] = dict(txn.rows(_SQL["queues"]))
    for number, class_id in txn.rows(_SQL["soon"], (txn.now + _SOON_S,)):
        if number in queues:
            yield queues[number], txn.names.class_of(class_id)[0], NO_NEEDS
    for number, name in queues.items():
        found = txn.row(_SQL["next_class"], (number, -1))
        while found is not None:
            yield name, txn.names.class_of(found[0])[0], NO_NEEDS
            found = txn.row(_SQL["next_class"], (number, found[0]))
    if txn.row(_SQL["has_gates"]) is not None:
        yield from _gated_work(txn, queues)


def _gated_work(txn: Transaction, queues: dict[int, str]) -> Iterator[_Work]:
    """Yield what valves let pass now, or soon."""
    gates = gates_of(txn)
    seen: set[int] = set()
    soon = txn.now + _SOON_S
    look_over(txn)
    found = txn.rows(_SQL["gates"], (_KINDS_LOOKED_AT,))
    for band, queue, class_id, wants, flow, _ in found + txn.rows(_SQL["opening"], (soon, _KINDS_LOOKED_AT)):
        if queue not in queues or band in seen:
            continue
        shut = opening(gates, flow)
        if shut is None or shut[0] <= soon:
            seen.add(band)
            needs = msgspec.structs.replace(wants_of(wants), keys=())
            yield queues[queue], txn.names.class_of(class_id)[0], needs


def _is_for(txn: Transaction, slot: Slot, work: list[_Work]) -> bool:
    member: Member | None = known_member(txn, slot.owner)
    return member is not None and any(_could_start(txn, member, *one) for one in work)


def _could_start(txn: Transaction, member: Member, queue: str, task: str, needs: Needs) -> bool:
    if not member.serves(queue) or not member.runs(task):
        return False
    if needs == NO_NEEDS:
        return True
    if not Bands(txn, member).suits(needs, task, queue):
        return False
    return not needs.resources or Room(txn, member.session).has(needs)
