"""The verbs `claim` and `settle`, and what else concerns claims: `save` and taking back late ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.job import Claim, Tallies
from cicely.core.outcome import CAUSE_MALFORMED, ErrorRecord, Failed, Outcome
from cicely.engines.contract import Ask, Demand, Intake, Save, Settled, Verdict
from cicely.engines.redis.caller import Caller
from cicely.engines.redis.keys import parts_of, quoted, token_of
from cicely.engines.redis.line import Reply, Word
from cicely.engines.redis.plans import Plan, encode, lateness, text, told
from cicely.engines.redis.records import UNREADABLE, Beside, claim_of, fence_in
from cicely.errors import SessionClosed

_VERDICTS: Final = {
    ord("a"): Verdict.ACCEPTED,
    ord("k"): Verdict.ALREADY,
    ord("s"): Verdict.STALE,
}
_PER_CLAIM: Final = 4
_PER_EXTRA: Final = 5
_DAMAGED: Final = ErrorRecord(
    "Malformed", "its stored record cannot be read; it was edited by hand?"
).encoded()
_NO_CLAIMS: Final = Intake()


def claim(run: Caller, session_id: str, demand: Demand) -> Intake:
    """Hand out ready jobs to a session. Raises SessionClosed."""
    reply = run("claim", session_id, demanded(demand), "")
    _refuse_closed(reply, session_id)
    return _intake(run, session_id, demand, reply)


def settle(run: Caller, session_id: str, outcomes: Sequence[Outcome], demand: Demand | None) -> Settled:
    """Record how attempts ended, then claim. Raises SessionClosed."""
    reply = run("settle", session_id, demanded(demand) if demand else b"", *told(outcomes))
    _refuse_closed(reply, session_id)
    verdicts = tuple([_VERDICTS[letter] for letter in reply[1]])
    if demand is None:
        return Settled(verdicts)
    return Settled(verdicts, _intake(run, session_id, demand, reply[2:]))


def _refuse_closed(reply: Reply, session_id: str) -> None:
    if reply[0] == b"closed":
        raise SessionClosed(f"session {session_id} was retired or never joined")


def _intake(run: Caller, session_id: str, demand: Demand, reply: Reply) -> Intake:
    if reply[0] == b"late":
        take_back(run, reply[1])
        reply = run("claim", session_id, demanded(demand), "1")
        _refuse_closed(reply, session_id)
    due_in, *values = reply[1]
    if not values and not due_in:
        return _NO_CLAIMS
    extras = values.pop() if len(values) % _PER_CLAIM else []
    claims, damaged = _claims(demand.request, values, extras)
    if damaged:
        run("settle", session_id, b"", *told([Failed(token, CAUSE_MALFORMED, _DAMAGED) for token in damaged]))
    return Intake(claims, float(due_in) if due_in else None)


def _claims(
    request: bytes, values: list[bytes], extras: list[Reply]
) -> tuple[tuple[Claim, ...], list[bytes]]:
    """Return the claims, and the tokens of those whose records somebody damaged."""
    more = {extras[i]: Beside(*extras[i + 1 : i + _PER_EXTRA]) for i in range(0, len(extras), _PER_EXTRA)}
    claims, damaged = [], []
    for i in range(0, len(values), _PER_CLAIM):
        n, record, checkpoint, body = values[i : i + _PER_CLAIM]
        try:
            beside = more.get(i // _PER_CLAIM) if more else None
            claims.append(claim_of(request, n, record, checkpoint=checkpoint, body=body, beside=beside))
        except UNREADABLE:
            damaged.append(token_of(request, int(n), fence_in(record) + 1))
    return tuple(claims), damaged


def demanded(demand: Demand) -> bytes:
    """Return a demand as scripts take it."""
    queues = [quoted(queue) for queue in demand.queues]
    return encode((demand.request.hex(), queues, [_asked(ask) for ask in demand.asks], demand.visibility_s))


def _asked(ask: Ask) -> tuple[object, ...]:
    pace = {quoted(task): seconds for task, seconds in ask.pace.items()}
    return ask.kinds, ask.slots, pace, ask.buffer_s, ask.limit, most(ask)


def most(ask: Ask) -> int:
    """Return the largest number of jobs that an ask can take."""
    if not ask.pace:
        return ask.slots
    shortest_s = max(min(ask.pace.values()), 1e-6)
    return ask.slots + min(max(0, ask.limit - ask.slots), int(ask.buffer_s / shortest_s))


def take_back(run: Caller, late: Sequence[Sequence[Reply]]) -> int:
    """Take back claims past their deadline, as `overdue` lists them; return how many."""
    plans: list[Plan] = []
    words: list[Word] = []
    for n, request, fence, errors, crashes, lost, max_receives in late:
        one = lateness(Tallies(errors, crashes, lost), max_receives)
        plans.append(one.plan)
        words += (encode((n.decode(), request.decode(), fence, len(plans)))[1:], one.payload)
    return int(run("take_back", encode(plans), len(plans), *words))


def save(run: Caller, saves: Sequence[Save]) -> list[bool]:
    """Keep what running attempts leave."""
    words = [word for one in saves for word in _saved(one)]
    return [holds == 1 for holds in run("save", *words)]


def _saved(one: Save) -> tuple[bytes, ...]:
    place = msgspec.msgpack.encode((*parts_of(one.token), one.visibility_s))[1:]
    steps = (
        encode([word for step in one.steps for word in (step.key, text(step.value))]) if one.steps else b""
    )
    return (place, *_optional(one.progress), *_optional(one.checkpoint), steps)


def _optional(data: bytes | None) -> tuple[bytes, bytes]:
    return (b"0", b"") if data is None else (b"1", data)
