"""What the core decides, for each case that a script may find when it carries it out.

A script knows the tallies of a job and whether it is being cancelled, the client does not. So the client
sends the core's decision for each case: the usual one, the one where a tally reached its limit, and the
one where the job is being cancelled. No rule is written twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.core.flow import BREAKER_PREFIX
from cicely.core.job import Tallies
from cicely.core.outcome import (
    CANCELLED,
    MAX_CRASHES,
    MAX_FREE_PROBES,
    MAX_LOST,
    PROBED,
    Again,
    Deferred,
    Failed,
    Finish,
    HandedBack,
    Outcome,
    Pause,
    Succeeded,
    Suspended,
    after_loss,
    after_probe,
    after_visibility,
    decide,
    frees_of,
    keeps_of,
    reason_of,
)
from cicely.core.states import State
from cicely.core.traits import traits_of
from cicely.engines.redis.keys import parts_of, quoted

#: State, "" or "suspended", reason, delay_s, is_alone, has_started.
Step = tuple[str, str, float | None, bool, bool]
#: What an outcome tells beside that; see scripts/parts/flow.lua.
Told = tuple[object, ...]
#: The step after a breaker's probe that is free, its outcome, how many are.
Probe = tuple[Step, str, int]
#: Outcome, charge, limit, step, last step, step when cancelling, outcome then, what it tells, and where it
#: blames breakers what holds of a probe: see scripts/parts/decisions.lua.
Plan = (
    tuple[str, int, int, Step, Step | None, Step, str, Told | None]
    | tuple[str, int, int, Step, Step | None, Step, str, Told | None, Probe]
)
#: Stands for the reason that was given when the job was cancelled.
WHY: Final = "\x00"

_NOTHING: Final = 0
_ERRORS, _CRASHES, _LOST = 1, 2, 3
_SHORT: Final = 1 << 16
_PAUSED: Final = "suspended"
_FRESH: Final = Tallies()
_STOPPED: Final = Finish(State.CANCELLED, _FRESH, WHY)

Decision = Again | Finish | Pause
Steps = tuple[Decision, Decision | None, Decision]

encode = msgspec.msgpack.Encoder().encode


class Planned(msgspec.Struct, frozen=True, gc=False):
    """A plan with the bytes that go with its steps: a result or error, and the error of the last step."""

    plan: Plan
    payload: bytes = b""
    last_payload: bytes = b""


def planned(outcome: Outcome) -> Planned:
    """Return what `outcome` makes of a job, whatever its tallies are."""
    word = reason_of(outcome)
    step = decide(outcome, _FRESH, cancelling=False)
    stopped = decide(outcome, _FRESH, cancelling=True, why=WHY)
    charge = _NOTHING if isinstance(step, Pause) else _charge_of(step.tallies)
    if charge != _CRASHES:
        plan = _plan((word, word), charge, _NOTHING, (step, None, stopped), _told(outcome))
        return Planned((*plan, *_probe(outcome)), _payload(step))
    last = decide(outcome, Tallies(crashes=MAX_CRASHES - 1), cancelling=False)
    plan = _plan((word, word), charge, MAX_CRASHES, (step, last, stopped))
    return Planned(plan, _payload(step), _payload(last))


def loss() -> Planned:
    """Return what becomes of the jobs of a session that fell silent."""
    step = after_loss(_FRESH, cancelling=False)
    last = after_loss(Tallies(lost=MAX_LOST - 1), cancelling=False)
    stopped = after_loss(_FRESH, cancelling=True, why=WHY)
    plan = _plan(("lost", "lost"), _LOST, MAX_LOST, (step, last, stopped))
    return Planned(plan, b"", _payload(last))


def hand_back(reason: str) -> Plan:
    """Return what becomes of a claim that is taken away at no cost."""
    return _plan((reason, reason), _NOTHING, _NOTHING, (Again(_FRESH, reason), None, _STOPPED))


def lateness(tallies: Tallies, max_receives: int) -> Planned:
    """Return what becomes of a message with these tallies that was not acknowledged in time."""
    step = after_visibility(tallies, max_receives=max_receives)
    plan = _plan(("timeout", CANCELLED), _ERRORS, _NOTHING, (step, None, _STOPPED))
    return Planned(plan, _payload(step))


def told(outcomes: Sequence[Outcome]) -> list[bytes | int]:
    """Return outcomes as scripts take them: the plans, how many outcomes, and three words for each."""
    plans: list[Plan] = [_SUCCESS]
    words: list[bytes | int] = [b"", len(outcomes)]
    for outcome in outcomes:
        parts = parts_of(outcome.token)
        if isinstance(outcome, Succeeded) and not (outcome.spent or outcome.keeps or outcome.frees):
            words += (_values((*parts, 1)), outcome.result, b"")
            continue
        one = planned(outcome)
        plans.append(one.plan)
        words += (_values((*parts, len(plans))), one.payload, one.last_payload)
    words[0] = _SUCCESS_ALONE if len(plans) == 1 else encode(plans)
    return words


def _values(parts: tuple[object, ...]) -> bytes:
    """Return values one after the other, without the byte that would make them an array."""
    return encode(parts)[1:]


def _plan(words: tuple[str, str], charge: int, limit: int, steps: Steps, told: Told | None = None) -> Plan:
    step, last, stopped = steps
    usual, when_cancelling = words
    return (
        usual,
        charge,
        limit,
        _step(step),
        _step(last) if last is not None else None,
        _step(stopped),
        when_cancelling,
        told,
    )


def _probe(outcome: Outcome) -> tuple[()] | tuple[Probe]:
    """Return what becomes of a job by a failure of a probe, where that may be one."""
    if not isinstance(outcome, Failed) or not outcome.blames:
        return ()
    step = after_probe(outcome, _FRESH, last=())
    return () if step is None else ((_step(step), PROBED, MAX_FREE_PROBES),)


def _told(outcome: Outcome) -> Told | None:
    """Return what an outcome tells valves, where its job is to go, and what that keeps and frees."""
    told = _told_valves(outcome)
    keeps, frees = keeps_of(outcome, cancelling=False), frees_of(outcome)
    if not keeps and not frees:
        return told
    told = told or (False,)
    fill = _NOTHING_TOLD[len(told) :]
    return *told, *fill, list(map(quoted, keeps)) or None, list(map(quoted, frees)) or None


#: Nothing is told of valves; see scripts/parts/flow.lua.
_NOTHING_TOLD: Final[Told] = (False, False, False, None, None, None, 0.0)


def _told_valves(outcome: Outcome) -> Told | None:
    match outcome:
        case Succeeded(spent=spent) | Suspended(spent=spent):
            return (True, False, False, spent) if spent else (True,)
        case Failed(spent=spent, blames=blames, elsewhere=elsewhere):
            return True, False, elsewhere, spent, [quoted(BREAKER_PREFIX + name) for name in blames]
        case Deferred(spent=spent, slows=slows, delay_s=delay_s):
            return False, False, False, spent, None, [quoted(key) for key in slows] or None, delay_s
        case HandedBack(alone=alone, has_started=has_started):
            return False, not (alone or has_started)
        case _:
            return None


def _step(step: Decision) -> Step:
    if isinstance(step, Pause):
        return _PAUSED, step.suspended.reason, None, False, True
    if isinstance(step, Finish):
        return step.state.value, step.reason, None, False, False
    return "", step.reason, step.delay_s, step.alone, step.has_started


def _payload(step: Decision) -> bytes:
    if isinstance(step, Pause):
        return _suspension(step.suspended)
    if isinstance(step, Finish) and step.state is State.SUCCEEDED:
        return step.result
    return step.error


def _suspension(suspended: Suspended) -> bytes:
    """Return what a job waits for, as scripts/parts/suspending.lua reads it."""
    event = suspended.event
    return _values(
        (
            [word for step in suspended.steps for word in (step.key, text(step.value))],
            None if event is None else (event.name, event.key, event.step),
            [word for edge in suspended.edges for word in (edge.parent, traits_of(edge))],
            suspended.publishes,
            suspended.delay_s,
        )
    )


def text(data: bytes) -> msgspec.Raw:
    """Return bytes in the form in which scripts can read them: they know no other than text."""
    size = len(data)
    if size < _SHORT:
        return msgspec.Raw(b"\xda" + size.to_bytes(2, "big") + data)
    return msgspec.Raw(b"\xdb" + size.to_bytes(4, "big") + data)


def _charge_of(tallies: Tallies) -> int:
    """Return which of the tallies was raised: 1 to 3, or 0."""
    raised = (tallies.errors, tallies.crashes, tallies.lost)
    return raised.index(1) + 1 if 1 in raised else _NOTHING


_SUCCESS: Final = planned(Succeeded(b"")).plan
_SUCCESS_ALONE: Final = encode([_SUCCESS])
