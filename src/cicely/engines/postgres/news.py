"""Decides which waiting processes a commit wakes: for new work one that can take it, and no other."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterable
from itertools import compress
from typing import Final

from cicely.engines.postgres.arrays import ints
from cicely.engines.postgres.gated_work import gated_work
from cicely.engines.postgres.member import Member
from cicely.engines.postgres.membership import known_member
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import GATED_WORK, Transaction
from cicely.engines.postgres.wire import Answer, Values

_SQL: Final = statements("news")

#: A session is woken for a job that is due so soon, and then waits for it by its own clock.
SOON_S: Final = 2.0

_WORDS: Final = 24
_BITS: Final = 64 * _WORDS
#: So many dead bells are passed over at once; the supervisors ring again.
_MOST_TRIED: Final = 16
#: Of so many sessions that are known those that fit are named at once; and so few jobs that ended.
_MOST_CONSIDERED: Final = 256
_FEW_ENDED: Final = 16


def sieve_of(job_ids: Collection[str]) -> bytes:
    """Return the sieve that lets these jobs through, and perhaps some others."""
    bits = 0
    for job_id in job_ids:
        bits |= 1 << _bit_of(job_id)
    return bits.to_bytes(_BITS // 8, "little")


def _bit_of(job_id: str) -> int:
    return zlib.crc32(job_id.encode(errors="replace")) % _BITS


class Custom:
    """Who waited when somebody of this process looked last: for them is asked along. It is a guess."""

    __slots__ = ("for_ends", "for_work")

    def __init__(self) -> None:
        self.for_ends = self.for_work = True


class News:
    """What is asked behind a commit, in its message, so that it sees whoever was armed before it."""

    __slots__ = ("_custom", "_ended", "_first", "_txn", "_waiting", "_work")

    def __init__(self, txn: Transaction, custom: Custom) -> None:
        self._txn = txn
        self._custom = custom
        self._first = _ringing_first(txn)
        self._ended = _ringing_ended(txn) if custom.for_ends else None
        self._waiting = txn.later(_SQL["waiting"])
        self._work: Answer | None = None
        if custom.for_work and txn.is_stirred and _is_to_be_looked_up(txn):
            self._work = _looking_up(txn)

    def tell(self) -> None:
        """Ring, now that the answers are there, for what ended, for those called, and one for new work."""
        txn = self._txn
        waiting = self._waiting.rows
        self._custom.for_work = any(row[3] is None and row[2] != txn.claimer for row in waiting)
        if self._is_awaited(waiting) or txn.ended:
            self._custom.for_ends = self._is_awaited(waiting)
        if not waiting:
            return
        rung = [row[0] for row in waiting if row[2] in txn.called and row[3] is None]
        if txn.ended and self._ended is None:
            bits = {_bit_of(job_id) for job_id in txn.ended}
            rung += [row[0] for row in waiting if row[3] is not None and _awaits(row[3], bits)]
        if rung:
            _ring(txn, rung)
        if txn.is_stirred and not (self._first and self._first.rows):
            sessions = [row for row in waiting if row[3] is None and row[0] not in rung]
            _wake_one(txn, sessions, self._work)

    def _is_awaited(self, waiting: list[Values]) -> bool:
        has_rung = self._ended is not None and bool(self._ended.rows)
        return has_rung or any(row[3] is not None for row in waiting)


def _ringing_first(txn: Transaction) -> Answer | None:
    """Ring one of the sessions that are known here to take the new work, where that is known, too."""
    if not txn.work or _is_to_be_looked_up(txn) or len(txn.members) > _MOST_CONSIDERED:
        return None
    owners = [
        owner
        for owner, member in txn.members.items()
        if owner != txn.claimer and _takes_any(member, txn.work)
    ]
    return txn.later(_SQL["ring_first"], {"owners": owners}) if owners else None


def _ringing_ended(txn: Transaction) -> Answer | None:
    """Ring those who wait for what ended, where that is not much."""
    if not 0 < len(txn.ended) <= _FEW_ENDED:
        return None
    return txn.later(_SQL["ring_ended"], {"bits": ints([_bit_of(job_id) for job_id in txn.ended])})


def _looking_up(txn: Transaction) -> Answer:
    return txn.later(_SQL["work"], {"claimer": txn.claimer, "soon": txn.now + SOON_S})


def _is_to_be_looked_up(txn: Transaction) -> bool:
    return txn.work is None or GATED_WORK in txn.work


def _takes_any(member: Member, work: Iterable[tuple[str, str]]) -> bool:
    return any(member.serves(queue) and member.runs(task) for queue, task in work)


def _awaits(sieve: bytes, bits: Collection[int]) -> bool:
    return any(sieve[bit >> 3] >> (bit & 7) & 1 for bit in bits)


def _wake_one(txn: Transaction, sessions: list[Values], found: Answer | None) -> None:
    """Ring the first live session that can take some of the ready work: what was `found`, or is known.

    A session that has just looked and took nothing passes the ring on to those behind it only: so a
    job that nobody can take now wakes each once, and not for ever.
    """
    candidates = sorted(
        (row[2], row[0])
        for row in sessions
        if row[2] != txn.claimer and not (txn.passed_on and row[2] < txn.claimer)
    )
    able = [
        (bell, member)
        for owner, bell in candidates
        if (member := known_member(txn, owner)) is not None and member.session.tasks
    ]
    if not able:
        return
    if _is_to_be_looked_up(txn):
        [(numbers, names, gates, *pairs)] = txn.heard(found or _looking_up(txn))
        queues = dict(zip(numbers, names, strict=True))
        work = [
            (queues[queue], txn.class_of(job_class)[0])
            for queue, job_class in zip(*pairs, strict=True)
            if queue in queues
        ]
        gated = gated_work(txn, {number: queues[number] for number in compress(numbers, gates)})
    else:
        work, gated = txn.work or [], None
    fitting = [
        bell
        for bell, member in able
        if _takes_any(member, work) or (gated is not None and gated.has_for(member))
    ]
    for bell in fitting[:_MOST_TRIED]:
        if _ring(txn, [bell]):
            return


def _ring(txn: Transaction, bells: list[str]) -> bool:
    """Ring these bells, and return whether anyone lives who hears it."""
    return bool(txn.rows(_SQL["ring"], {"ids": bells}))
