"""Schedules: what is enqueued at each tick, and which ticks count after a pause of the workers.

A plan is the whole of it, the job that each tick makes included, so that any worker can carry it
out without the app's code. Engines keep it as bytes that they do not read.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from hashlib import blake2b
from itertools import islice
from typing import Final

import msgspec

from cicely.core.job import DAY_S, NewJob
from cicely.core.when import When, upcoming
from cicely.errors import ConfigError

#: `next_at` of a schedule that counts from the moment at which a worker sees it first.
FROM_NOW: Final = 0.0

#: A tick is dealt with up to so late, by `catch_up="skip"`, if the one after it is not due yet.
ON_TIME_S: Final = 60.0

#: One call makes jobs for so many ticks at most.
TICKS_PER_TURN: Final = 100

#: Ticks that nobody dealt with are counted up to so many.
MOST_COUNTED: Final = 1_000

MAX_NAME_CHARS: Final = 120

_FORMAT: Final = b"\x01"
_HASH_BYTES: Final = 8


class CatchUp(StrEnum):
    """Which ticks get a job after a time in which nobody dealt with them: none, the last, or each."""

    SKIP = "skip"
    ONE = "one"
    ALL = "all"


class Overlap(StrEnum):
    """Whether a tick gets a job while the job of an earlier one has not ended."""

    ALLOW = "allow"
    SKIP = "skip"


class Source(StrEnum):
    """Where a schedule was declared; one in code is brought up to date whenever a worker starts."""

    CODE = "code"
    COMMAND = "command"


class Plan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A schedule in full. `job` is what each tick enqueues, but for its id and delay.

    `skipped` counts the ticks that got no job because an earlier one had not ended, the last of them
    at `skipped_at`. Of the last tick that got none for being too late, `missed_at` tells.
    """

    when: When
    job: NewJob
    catch_up: CatchUp = CatchUp.ONE
    overlap: Overlap = Overlap.ALLOW
    jitter_s: float = 0.0
    source: Source = Source.CODE
    skipped: int = 0
    skipped_at: float | None = None
    missed_at: float | None = None

    def says_what(self, other: Plan) -> bool:
        """Return whether both declare the same, whatever has happened to them since."""
        return self._declared() == other._declared()

    def _declared(self) -> Plan:
        return msgspec.structs.replace(self, skipped=0, skipped_at=None, missed_at=None)


class Turn(msgspec.Struct, frozen=True):
    """One step of dealing with what is due: the ticks that get a job, and how the schedule stands then.

    `due` counts the ticks that this step deals with, those among them that get no job as well.
    """

    ticks: tuple[float, ...]
    last_at: float | None
    next_at: float | None
    missed_at: float | None = None
    due: int = 0


def turn(plan: Plan, *, next_at: float, last_at: float | None, now: float) -> Turn:
    """Return what is to be done at `now` with a schedule whose next tick is `next_at`.

    The same, whoever asks: it follows from what is stored and from the engine's clock. Where more
    ticks are due than one turn takes, `next_at` of the answer is due as well.
    """
    when = plan.when
    if next_at <= FROM_NOW:
        return Turn((), last_at, when.after(now))
    if next_at > now:
        return Turn((), last_at, next_at)
    if plan.catch_up is CatchUp.ALL:
        ticks = tuple(islice(_due(when, next_at, now), TICKS_PER_TURN))
        return Turn(ticks, ticks[-1], when.after(ticks[-1]), due=len(ticks))
    latest = when.latest(next_at, now)
    is_late = plan.catch_up is CatchUp.SKIP and now - latest > ON_TIME_S
    following = when.after(latest)
    if is_late:
        return Turn((), latest, following, missed_at=latest, due=due_ticks(when, next_at, now))
    return Turn((latest,), latest, following, due=due_ticks(when, next_at, now))


def due_ticks(when: When, first: float, now: float) -> int:
    """Return how many ticks lie from `first` to `now`, up to 1,000."""
    return sum(1 for _ in islice(_due(when, first, now), MOST_COUNTED)) if first <= now else 0


def _due(when: When, first: float, now: float) -> Iterator[float]:
    yield first
    for tick in upcoming(when, first):
        if tick > now:
            return
        yield tick


def job_of(plan: Plan, name: str, tick: float) -> NewJob:
    """Return the job of one tick: its id is the schedule's name and the instant."""
    job = at_once(plan, name, tick_id(name, tick))
    if not plan.jitter_s:
        return job
    return msgspec.structs.replace(job, delay_s=job.delay_s + plan.jitter_s * _share(job.id))


def at_once(plan: Plan, name: str, job_id: str) -> NewJob:
    """Return the job of a schedule under an id of its own, without jitter."""
    job = plan.job
    return msgspec.structs.replace(
        job,
        id=job_id,
        tags=tuple(dict.fromkeys((*job.tags, tag_of(name)))),
        unique=job.unique or (tag_of(name) if plan.overlap is Overlap.SKIP else ""),
        # The stored schedule guards each tick; a day of ids covers the case that it is put back.
        remember_s=DAY_S,
    )


def tick_id(name: str, tick: float) -> str:
    """Return the id of a tick's job, such as "nightly@2030-01-31T05:00:00Z"."""
    return f"{name}@{in_utc(tick)}"


def tag_of(name: str) -> str:
    """Return the tag that all jobs of a schedule have."""
    return f"schedule:{name}"


def in_utc(instant: float) -> str:
    """Return an instant as text, with milliseconds where it has some."""
    moment = datetime.fromtimestamp(round(instant * 1000) / 1000, UTC)
    precision = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=precision).removesuffix("+00:00") + "Z"


def _share(text: str) -> float:
    """Return a number from 0 to 1, exclusive, that follows from `text`."""
    digest = blake2b(text.encode(), digest_size=_HASH_BYTES).digest()
    return int.from_bytes(digest) / float(1 << 8 * _HASH_BYTES)


def checked_name(name: object) -> str:
    """Return the name of a schedule, or raise ConfigError."""
    is_text = isinstance(name, str) and 0 < len(name) <= MAX_NAME_CHARS and name.isprintable()
    if isinstance(name, str) and is_text and not set(name) & set(" ,=*@") and name[0] != "-":
        return name
    raise ConfigError(
        f"schedule {name!r}: a printable name of up to {MAX_NAME_CHARS} characters without spaces, ',', '=', "
        "'*' and '@' that does not begin with '-'"
    )


def catch_up_of(value: object) -> CatchUp:
    """Return a policy by its name, or raise ConfigError."""
    try:
        return CatchUp(str(value))
    except ValueError:
        raise ConfigError(
            f'catch_up={value!r}: after downtime, "skip" makes no job for the ticks that were missed, '
            '"one" makes one for the last of them, "all" makes one for each'
        ) from None


def overlap_of(value: object) -> Overlap:
    """Return a policy by its name, or raise ConfigError."""
    try:
        return Overlap(str(value))
    except ValueError:
        raise ConfigError(
            f'overlap={value!r}: "allow", or "skip" for no job while that of an earlier tick has not ended'
        ) from None


# --- plans as bytes -----------------------------------------------------------------------------
def encode(plan: Plan) -> bytes:
    """Return a plan as an engine keeps it."""
    return _FORMAT + msgspec.msgpack.encode(plan)


def decode(spec: bytes, *, name: str) -> Plan:
    """Return the plan of the schedule `name`. Raises ConfigError for what this version cannot read."""
    if spec[:1] != _FORMAT:
        raise ConfigError(
            f"schedule {name} is stored in the format {spec[:1].hex() or 'of nothing'}, and this version of "
            "Cicely reads 01: upgrade it, or declare the schedule anew"
        )
    try:
        return _decoder.decode(spec[1:])
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise ConfigError(f"schedule {name} cannot be read ({error}): remove it and add it again") from error


_decoder: Final = msgspec.msgpack.Decoder(Plan)
