"""How an attempt ended, and what that does to its job: decisions that every engine carries out.

The three cut-offs live here. `errors` is judged by the task's Retry before the outcome is made;
`crashes` and `lost` are judged by `decide`, because they are settled by others than the attempt.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec

from cicely.core.edge import Edge
from cicely.core.job import Tallies
from cicely.core.states import State
from cicely.core.units import FOR_EVER_S

MAX_CRASHES: Final = 3
MAX_LOST: Final = 10

#: So many probes of a breaker, one after the other, may fail at no cost to the job.
MAX_FREE_PROBES: Final = 10

#: Why a job was cancelled where nobody said.
CANCELLED: Final = "cancelled"

CAUSE_ERROR: Final = "error"
CAUSE_TIMEOUT: Final = "timeout"
CAUSE_STALLED: Final = "stalled"
CAUSE_MEMORY: Final = "out of memory"
CAUSE_MALFORMED: Final = "malformed"
CAUSE_POISON: Final = "poison"
CAUSE_RECEIVES: Final = "max_receives"
#: The word under which an attempt is recorded that cost nothing, because it was a breaker's probe.
PROBED: Final = "probe"


class ErrorRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """A failure as text: nothing in it is ever imported or executed again."""

    type_name: str
    message: str
    traceback: str = ""
    module: str = ""

    def encoded(self) -> bytes:
        """Return the bytes that engines keep."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decoded(cls, data: bytes) -> ErrorRecord:
        """Read what `encoded` wrote; bytes edited by hand become a record that says so."""
        try:
            return msgspec.msgpack.decode(data, type=cls)
        except (msgspec.DecodeError, msgspec.ValidationError):
            return cls("Malformed", "the stored error record cannot be read")


class Succeeded(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """The attempt returned; `result` is its encoded value, `spent` what it used, by cost meter.

    `keeps` are the resources of which it leaves what it holds to its workflow, `frees` those of which
    its workflow's reservations end first (core/reservations.py). A job that is cancelled keeps nothing.
    """

    token: bytes
    result: bytes = b""
    spent: Mapping[str, float] = {}
    keeps: tuple[str, ...] = ()
    frees: tuple[str, ...] = ()


class Failed(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """The attempt ended in an error or over a limit.

    `retry_in_s` is the wait before the next attempt; None gives the job up. `blames` are the breakers
    that count this failure; `elsewhere` asks for another worker next. `frees`: as of `Succeeded`.
    """

    token: bytes
    cause: str
    error: bytes = b""
    retry_in_s: float | None = None
    spent: Mapping[str, float] = {}
    blames: tuple[str, ...] = ()
    elsewhere: bool = False
    frees: tuple[str, ...] = ()


class Crashed(msgspec.Struct, frozen=True, gc=False, tag=True):
    """Its process died while only this attempt could be the cause; `reason` says how it died."""

    token: bytes
    reason: str


class HandedBack(msgspec.Struct, frozen=True, gc=False, tag=True):
    """The attempt did not start, or was stopped through no fault of its own: ready again, free.

    `alone` marks a suspect: one of several jobs that ran in a process that died. It next runs in
    a process of its own. `has_started` says that its code had begun to run; a suspect's had.
    """

    token: bytes
    reason: str = ""
    alone: bool = False
    has_started: bool = False


class Deferred(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """The attempt asks to run again after `delay_s`, at no cost.

    `slows` are the limits on behalf of which it was refused: nobody passes them for as long, and
    then fewer at once. `frees`: as of `Succeeded`.
    """

    token: bytes
    delay_s: float
    reason: str = ""
    spent: Mapping[str, float] = {}
    slows: tuple[str, ...] = ()
    frees: tuple[str, ...] = ()


class Stopped(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """The attempt ended because the job was asked to cancel. `frees`: as of `Succeeded`."""

    token: bytes
    reason: str = ""
    frees: tuple[str, ...] = ()


class Step(msgspec.Struct, frozen=True, gc=False):
    """What a job remembers of itself for as long as it lives: the first value of a key stays."""

    key: str
    value: bytes


class Await(msgspec.Struct, frozen=True, gc=False):
    """The event that a job waits for, and the key of the step under which its value is recorded.

    An empty value is recorded where the time for it passed first.
    """

    name: str
    key: str
    step: str


class Suspended(msgspec.Struct, frozen=True, gc=False, tag=True, omit_defaults=True):
    """The attempt let go of its slot and goes on from the top, at no cost, when its wait is over.

    It waits for the parents of `edges` (whose child it is) and for `event`; else for `delay_s` to
    pass, at once when that is None. Beside an event, `delay_s` is how long it waits at most.
    `publishes` names a workflow that begins with this outcome ("" for none). `frees`: as of `Succeeded`.
    """

    token: bytes
    steps: tuple[Step, ...] = ()
    delay_s: float | None = None
    event: Await | None = None
    edges: tuple[Edge, ...] = ()
    publishes: str = ""
    reason: str = ""
    spent: Mapping[str, float] = {}
    frees: tuple[str, ...] = ()


Outcome = Succeeded | Failed | Crashed | HandedBack | Deferred | Stopped | Suspended


class Finish(msgspec.Struct, frozen=True):
    """The job ends in `state`, with these tallies, for this reason."""

    state: State
    tallies: Tallies
    reason: str
    result: bytes = b""
    error: bytes = b""


class Again(msgspec.Struct, frozen=True):
    """The job runs again: after `delay_s`, or at once in its old place when that is None.

    One that `has_started` met its deadline to start by, and expires no more.
    """

    tallies: Tallies
    reason: str
    delay_s: float | None = None
    alone: bool = False
    error: bytes = b""
    has_started: bool = False


class Pause(msgspec.Struct, frozen=True):
    """The job waits as `suspended` says. It met its deadline to start by, and expires no more."""

    suspended: Suspended


def keeps_of(outcome: Outcome, *, cancelling: bool) -> tuple[str, ...]:
    """Return the resources that a job leaves to its workflow by ending so."""
    return outcome.keeps if isinstance(outcome, Succeeded) and not cancelling else ()


def frees_of(outcome: Outcome) -> tuple[str, ...]:
    """Return the resources of which an outcome ends its workflow's reservations."""
    return () if isinstance(outcome, Crashed | HandedBack) else outcome.frees


def reason_of(outcome: Outcome) -> str:
    """Return the word under which an attempt that ended so is recorded."""
    match outcome:
        case Succeeded():
            return "succeeded"
        case Failed(cause=cause):
            return cause
        case Crashed():
            return "crashed"
        case HandedBack():
            return "handed back"
        case Deferred():
            return "deferred"
        case Stopped():
            return "cancelled"
        case Suspended():
            return "suspended"


def decide(
    outcome: Outcome, tallies: Tallies, *, cancelling: bool, why: str = CANCELLED
) -> Finish | Again | Pause:
    """Return what `outcome` makes of a running job.

    A job that was asked to cancel ends as cancelled for the reason `why` that was given then,
    whatever its attempt reports.
    """
    if cancelling:
        return Finish(State.CANCELLED, tallies, why)
    match outcome:
        case Succeeded(result=result):
            return Finish(State.SUCCEEDED, tallies, "", result=result)
        case Failed():
            return _after_failure(outcome, tallies)
        case Crashed(reason=reason):
            return after_crash(tallies, reason)
        case Stopped(reason=reason):
            return Finish(State.CANCELLED, tallies, reason)
        case Suspended():
            return Pause(outcome)
        case HandedBack() | Deferred():
            return _for_free(outcome, tallies)


def _for_free(outcome: HandedBack | Deferred, tallies: Tallies) -> Again:
    if isinstance(outcome, Deferred):
        return Again(tallies, outcome.reason, delay_s=min(outcome.delay_s, FOR_EVER_S), has_started=True)
    has_started = outcome.alone or outcome.has_started
    return Again(tallies, outcome.reason, alone=outcome.alone, has_started=has_started)


def _after_failure(outcome: Failed, tallies: Tallies) -> Finish | Again:
    charged = msgspec.structs.replace(tallies, errors=tallies.errors + 1)
    if outcome.retry_in_s is None:
        return Finish(State.FAILED, charged, outcome.cause, error=outcome.error)
    wait_s = min(outcome.retry_in_s, FOR_EVER_S)
    return Again(charged, outcome.cause, delay_s=wait_s, error=outcome.error, has_started=True)


def after_probe(outcome: Failed, tallies: Tallies, *, last: Sequence[str]) -> Again | None:
    """Return what becomes of a breaker's probe that failed as this counts; None: as of any other failure.

    A breaker opens because of what it guards, and to find out costs the job nothing. It goes behind the
    others, so that one of these probes next: if that succeeds, the breaker closes, and should the job itself
    be the cause, it fails on its own account next time. Where no other is there, nobody can tell the one from
    the other: when the `last` MAX_FREE_PROBES attempts were probes, by the words under which they are
    recorded, the job is charged.
    """
    if len(last) >= MAX_FREE_PROBES and all(word == PROBED for word in last):
        return None
    reason = f"a probe of breaker {', '.join(outcome.blames)}, which failed"
    return Again(tallies, reason, delay_s=0.0, error=outcome.error, has_started=True)


def after_crash(tallies: Tallies, reason: str) -> Finish | Again:
    """Return what becomes of a job whose process died while only it could be the cause."""
    charged = msgspec.structs.replace(tallies, crashes=tallies.crashes + 1)
    if charged.crashes < MAX_CRASHES:
        crashed = ErrorRecord("Crashed", reason)
        return Again(charged, f"crashed: {reason}", error=crashed.encoded(), has_started=True)
    poison = ErrorRecord("Poison", f"its process died {charged.crashes} times; the last: {reason}")
    return Finish(State.FAILED, charged, CAUSE_POISON, error=poison.encoded())


def after_loss(tallies: Tallies, *, cancelling: bool, why: str = CANCELLED) -> Finish | Again:
    """Return what becomes of a job whose session fell silent."""
    if cancelling:
        return Finish(State.CANCELLED, tallies, why)
    charged = msgspec.structs.replace(tallies, lost=tallies.lost + 1)
    if charged.lost < MAX_LOST:
        return Again(charged, "its worker was lost", has_started=True)
    error = ErrorRecord("Lost", f"its worker was lost {charged.lost} times")
    return Finish(State.FAILED, charged, "lost", error=error.encoded())


def after_visibility(tallies: Tallies, *, max_receives: int) -> Finish | Again:
    """Return what becomes of a message whose deadline passed before it was acknowledged."""
    charged = msgspec.structs.replace(tallies, errors=tallies.errors + 1)
    if charged.errors < max_receives:
        return Again(charged, "not acknowledged in time", has_started=True)
    error = ErrorRecord("TooManyReceives", f"received {charged.errors} times, never acknowledged")
    return Finish(State.FAILED, charged, CAUSE_RECEIVES, error=error.encoded())
