"""Decides which waiting processes a commit wakes: for new work one that can take it, and no other."""

from __future__ import annotations

import zlib
from collections.abc import Collection, Iterator
from typing import Final

from cicely.engines.postgres.gated_work import gated_work
from cicely.engines.postgres.membership import known_member
from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import GATED_WORK, Transaction, Values

_SQL: Final = statements("news")
_PAIRS: Final = statements("claim")["pairs"]

#: Who waits; runs behind the COMMIT in one round trip, so that it sees whoever was armed before it.
WAITING: Final = _SQL["waiting"]

#: A session is woken for a job that is due so soon, and then waits for it by its own clock.
SOON_S: Final = 2.0

_WORDS: Final = 24
_BITS: Final = 64 * _WORDS
#: So many dead bells are passed over at once; the supervisors ring again.
_MOST_TRIED: Final = 16


def sieve_of(job_ids: Collection[str]) -> bytes:
    """Return the sieve that lets these jobs through, and perhaps some others."""
    bits = 0
    for job_id in job_ids:
        bits |= 1 << _bit_of(job_id)
    return bits.to_bytes(_BITS // 8, "little")


def _bit_of(job_id: str) -> int:
    return zlib.crc32(job_id.encode(errors="replace")) % _BITS


def tell(txn: Transaction, waiting: list[Values]) -> None:
    """Ring after a commit: those who wait for what ended, those called, and one for new work."""
    if not waiting:
        return
    rung = [row[0] for row in waiting if row[2] in txn.called and row[3] is None]
    if txn.ended:
        bits = {_bit_of(job_id) for job_id in txn.ended}
        rung += [row[0] for row in waiting if row[3] is not None and _awaits(row[3], bits)]
    if rung:
        _ring(txn, rung)
    if txn.is_stirred:
        _wake_one(txn, [row for row in waiting if row[3] is None and row[0] not in rung])


def _awaits(sieve: bytes, bits: Collection[int]) -> bool:
    return any(sieve[bit >> 3] >> (bit & 7) & 1 for bit in bits)


def _wake_one(txn: Transaction, sessions: list[Values]) -> None:
    """Ring the first live session that can take some of the ready work.

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
    if txn.work is not None and GATED_WORK not in txn.work:
        work, gated = txn.work, None
    else:
        queues = txn.rows(_SQL["queues"])
        work = list(_work(txn, {number: name for number, name, _ in queues}))
        gated = gated_work(txn, {number: name for number, name, is_gated in queues if is_gated})
    fitting = [
        bell
        for bell, member in able
        if any(member.serves(queue) and member.runs(task) for queue, task in work)
        or (gated is not None and gated.has_for(member))
    ]
    for bell in fitting[:_MOST_TRIED]:
        if _ring(txn, [bell]):
            return


def _work(txn: Transaction, queues: dict[int, str]) -> Iterator[tuple[str, str]]:
    """Yield (queue, task) of what is plain and ready in these queues, or due soon."""
    for queue, job_class in txn.rows(_SQL["soon"], {"soon": txn.now + SOON_S}):
        if queue in queues:
            yield queues[queue], txn.class_of(job_class)[0]
    for queue, job_class, *_ in txn.rows(_PAIRS, {"queues": list(queues)}):
        yield queues[queue], txn.class_of(job_class)[0]


def _ring(txn: Transaction, bells: list[str]) -> bool:
    """Ring these bells, and return whether anyone lives who hears it."""
    return bool(txn.rows(_SQL["ring"], {"ids": bells}))
