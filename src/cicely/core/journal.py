"""What a job remembers of itself: the steps it took, in the order in which it asked for them.

A function with durable steps runs from the top each time it goes on. It asks for the same steps in
the same order, and those that were recorded answer at once. An order that differs means that the
code has changed since: nobody can tell then what a recorded value stands for.

The n-th step that is asked for has the ordinal n. Its key is made of its kind, its name and how
often that pair was asked for, so it is the same in every attempt.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Final

import msgspec

from cicely.core.outcome import Step
from cicely.errors import Malformed, StepMismatch

#: A job that asks for more steps is refused: each of them is read again by every attempt.
MAX_STEPS: Final = 10_000

#: The value that an event brought is recorded by the engine, under this before the wait's key.
_EVENT: Final = "event "


#: Under this key a job that returned a workflow remembers which jobs have its result.
_RETURNED: Final = "return"


class StepKind(StrEnum):
    """What was asked for: a function's value, a time to pass, an event, or another job's end."""

    STEP = "step"
    SLEEP = "sleep"
    WAIT = "wait_for"
    CALL = "call"
    ADD = "add"


class Note(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is recorded of a step. `value` is encoded; `detail` is what must not change with the code."""

    ordinal: int
    value: bytes = b""
    detail: str = ""


class Asked(msgspec.Struct, frozen=True):
    """A step that was asked for, and its note, None where it is new."""

    key: str
    ordinal: int
    detail: str = ""
    note: Note | None = None

    @property
    def event_key(self) -> str:
        """The key under which the engine records the value of the event that this step waits for."""
        return _EVENT + self.key

    def noted(self, value: bytes = b"") -> Step:
        """Return what to record of it."""
        return Step(self.key, msgspec.msgpack.encode(Note(self.ordinal, value, self.detail)))


def with_value(step: Step, change: Callable[[bytes], bytes]) -> Step:
    """Return a step with what `change` makes of the user's value that it holds. Raises Malformed."""
    if step.key.startswith(_EVENT):
        return Step(step.key, change(step.value)) if step.value else step
    if not step.key.startswith(f"{StepKind.STEP}:"):
        return step
    note = _read(step)
    return Step(step.key, msgspec.msgpack.encode(msgspec.structs.replace(note, value=change(note.value))))


def returned(value: bytes) -> Step:
    """Return what a job is to remember that ends by returning a workflow."""
    return Step(_RETURNED, value)


def _read(step: Step) -> Note:
    try:
        return msgspec.msgpack.decode(step.value, type=Note)
    except (msgspec.DecodeError, msgspec.ValidationError) as error:
        raise Malformed(f"the record of step {step.key!r} cannot be read: {error}") from error


class Journal:
    """The recorded steps of one job, and how far its function has asked for them again."""

    def __init__(self, job_id: str, steps: Iterable[Step] = ()) -> None:
        self._job_id = job_id
        self._notes: dict[str, Note] = {}
        self._events: dict[str, bytes] = {}
        self._asked: Counter[tuple[StepKind, str]] = Counter()
        self._ordinal = 0
        #: What was remembered when the function returned a workflow: it does not run again.
        self.returned: bytes | None = None
        for step in steps:
            if step.key.startswith(_EVENT):
                self._events[step.key] = step.value
            elif step.key == _RETURNED:
                self.returned = step.value
            else:
                self._notes[step.key] = _read(step)
        self._keys = {note.ordinal: key for key, note in self._notes.items()}

    def ask(self, kind: StepKind, name: str, *, detail: str = "") -> Asked:
        """Return the next step. Raises StepMismatch where another one was recorded in its place."""
        occurrence = self._asked[kind, name]
        self._asked[kind, name] += 1
        ordinal = self._ordinal
        self._ordinal += 1
        key = f"{kind}:{name}:{occurrence}"
        note = self._notes.get(key)
        recorded = self._keys.get(ordinal, key if note is None else "")
        if recorded != key:
            raise self._mismatch(ordinal, asked=key, recorded=recorded or f"another step than {key}")
        if note is not None and note.detail != detail:
            raise self._mismatch(ordinal, asked=f"{key} ({detail})", recorded=f"{key} ({note.detail})")
        return Asked(key, ordinal, detail, note)

    def event(self, asked: Asked) -> bytes | None:
        """Return what the event of a wait brought: nothing (b"") where its time passed, None before."""
        return self._events.get(asked.event_key)

    def _mismatch(self, ordinal: int, *, asked: str, recorded: str) -> StepMismatch:
        return StepMismatch(
            f"step {ordinal + 1} of job {self._job_id} was recorded as {recorded}, and the code asks for "
            f"{asked}: it has changed since the job began. Run it with the code that it began with, or "
            "cancel it and enqueue it anew"
        )
