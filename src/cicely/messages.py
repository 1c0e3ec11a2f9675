"""Plain queues: messages and not functions, under the same roof and with the same durability."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any, Final, Protocol

from cicely.connection import Connection
from cicely.core import task as core
from cicely.core.identity import Stable
from cicely.core.job import DAY_S, DEFAULT_PRIORITY, Claim, Kind, NewJob
from cicely.core.outcome import CAUSE_ERROR, CAUSE_MALFORMED, CAUSE_RECEIVES, ErrorRecord, Failed, Succeeded
from cicely.core.units import Duration, duration_s
from cicely.engines.contract import Ask, Demand, Intake, Save, Verdict
from cicely.errors import ConfigError, Malformed
from cicely.handles import Job
from cicely.orders import fresh_id
from cicely.receiver import MESSAGES
from cicely.settings import id_of, priority_of
from cicely.waiting import LOOK_S, rung

VISIBILITY_S: Final = 60.0
MAX_RECEIVE: Final = 1_000

_REQUEST_BYTES: Final = 8
_SHORTEST_WAIT_S: Final = 0.005
_REMEMBER_S: Final = 90 * DAY_S


class ReceivedMessage(Protocol):
    """A message that its receiver holds until its visibility has passed."""

    @property
    def data(self) -> Any:
        """What was sent."""

    @property
    def id(self) -> str:
        """What `send` returned."""

    @property
    def attempt(self) -> int:
        """How often it was received, this time among them."""

    def ack(self) -> bool:
        """Say that it is done with, for good. False: it was no longer held, and others may have it."""

    def nack(self, *, delay: Duration = 0) -> bool:
        """Give it back, to be received again after `delay`. False as in `ack`."""

    def extend(self, visibility: Duration | None = None) -> bool:
        """Hold it for so long from now. False as in `ack`."""


class QueueBackend(Protocol):
    """A queue of messages: what `app.queue` returns, and what an adapter to another queue has.

    Each message goes to one receiver at a time. One that is neither acknowledged nor extended
    within its visibility goes to the next, at most `max_receives` times in all.
    """

    def send(
        self, data: Any, *, delay: Duration = 0, id: str | None = None, priority: int = DEFAULT_PRIORITY
    ) -> str:
        """Keep `data` and return its id. A known `id` is not sent again."""

    def receive(
        self, max: int = 1, *, wait: Duration = 0, visibility: Duration = VISIBILITY_S
    ) -> Sequence[ReceivedMessage]:
        """Return up to `max` messages; with none there, wait for the first."""


class Message:
    """A message that this process holds."""

    __slots__ = ("_claim", "_queue", "_visibility_s", "data")

    def __init__(self, queue: Queue, claim: Claim, data: Any, *, visibility_s: float) -> None:
        self.data = data
        self._queue = queue
        self._claim = claim
        self._visibility_s = visibility_s

    def __repr__(self) -> str:
        """Name the message."""
        return f"Message({self.id!r}, attempt={self.attempt})"

    @property
    def id(self) -> str:
        """What `send` returned."""
        return self._claim.job_id

    @property
    def attempt(self) -> int:
        """How often it was received, this time among them."""
        return self._claim.attempt

    def ack(self) -> bool:
        """Say that it is done with, for good. False: it was no longer held, and others may have it."""
        return self._queue.settle(Succeeded(self._claim.token))

    def nack(self, *, delay: Duration = 0) -> bool:
        """Give it back, to be received again after `delay`; at `max_receives` it fails instead."""
        return self._queue.give_back(self._claim, delay_s=duration_s(delay, name="delay"))

    def extend(self, visibility: Duration | None = None) -> bool:
        """Hold it for so long from now, by default for as long as it was received for."""
        visibility_s = self._visibility_s
        if visibility is not None:
            visibility_s = _visibility_s(visibility)
        return self._queue.hold(self._claim, visibility_s=visibility_s)


class Queue:
    """A queue by name: tasks are routed to it, messages are sent and received."""

    def __init__(self, connection: Connection, name: str) -> None:
        self.name = name
        self._connection = connection

    def __repr__(self) -> str:
        """Name the queue."""
        return f"Queue({self.name!r})"

    def send(
        self, data: Any, *, delay: Duration = 0, id: str | None = None, priority: int = DEFAULT_PRIORITY
    ) -> str:
        """Keep `data` as a message and return its id. A known `id` is not sent again."""
        connection = self._connection
        chosen_id = "" if id is None else _chosen(id)
        message_id = chosen_id or fresh_id()
        settings = self._settings
        where = f"a message to {self.name}"
        new = NewJob(
            id=message_id,
            task=MESSAGES,
            kind=Kind.MESSAGE,
            queue=self.name,
            body=connection.values.pack(message_id, data, where=where),
            priority=priority_of(priority),
            delay_s=duration_s(delay, name="delay"),
            ageing_s=settings.ageing_s,
            keep_s=settings.keep_s,
            keep_failed_s=settings.keep_failed_s,
            remember_s=_REMEMBER_S if chosen_id else 0.0,
            max_receives=settings.max_receives,
        )
        handle: Job[None] = Job(connection, message_id)
        connection.send(new, handle)
        return handle.id

    def receive(
        self, max: int = 1, *, wait: Duration = 0, visibility: Duration = VISIBILITY_S
    ) -> list[Message]:
        """Return up to `max` messages, highest priority and oldest first; with none there, wait.

        Each is held for `visibility`; not acknowledged by then, it goes to the next receiver. One
        whose stored bytes cannot be read is parked as failed, and not returned.
        """
        if isinstance(max, bool) or not isinstance(max, int) or not 1 <= max <= MAX_RECEIVE:
            raise ConfigError(f"receive(max={max!r}): a whole number from 1 to {MAX_RECEIVE:,}")
        visibility_s = _visibility_s(visibility)
        give_up_at = time.monotonic() + duration_s(wait, name="wait")
        messages, _ = self._claim(max, visibility_s)
        if messages or time.monotonic() >= give_up_at:
            return messages
        return self._await(max, visibility_s, give_up_at)

    def _await(self, count: int, visibility_s: float, give_up_at: float) -> list[Message]:
        bell = self._connection.receiver.bell()
        try:
            while True:
                bell.arm()
                messages, due_in_s = self._claim(count, visibility_s)
                left_s = give_up_at - time.monotonic()
                if messages or left_s <= 0:
                    return messages
                rung(bell, min(left_s, _until(due_in_s)))
                bell.disarm()
        finally:
            bell.close()

    def _claim(self, count: int, visibility_s: float) -> tuple[list[Message], float | None]:
        demand = Demand(
            request=os.urandom(_REQUEST_BYTES),
            queues=(self.name,),
            asks=(Ask(kinds=(Kind.MESSAGE,), slots=count),),
            visibility_s=visibility_s,
        )
        intake: Intake = self._connection.receiver.claim(demand)
        found = [self._message(claim, visibility_s) for claim in intake.claims]
        return [message for message in found if message is not None], intake.next_due_in_s

    def _message(self, claim: Claim, visibility_s: float) -> Message | None:
        try:
            data = self._connection.values.unpack(claim.job_id, claim.body)
        except Malformed as malformed:
            record = ErrorRecord("Malformed", malformed.message)
            self.settle(Failed(claim.token, CAUSE_MALFORMED, record.encoded()))
            return None
        return Message(self, claim, data, visibility_s=visibility_s)

    def pause(self) -> None:
        """Hand out nothing of this queue, to workers and receivers; what runs goes on."""
        self._connection.call(lambda engine: engine.pause(self.name))

    def resume(self) -> None:
        """Hand out what is in this queue again."""
        self._connection.call(lambda engine: engine.resume(self.name))

    @property
    def _settings(self) -> core.Queue:
        return self._connection.registry.queue(self.name)

    # --- called by messages -------------------------------------------------------------------
    def settle(self, outcome: Succeeded | Failed) -> bool:
        """Record what became of a message; False where it was no longer held."""
        return self._connection.receiver.settle(outcome) is not Verdict.STALE

    def give_back(self, claim: Claim, *, delay_s: float) -> bool:
        """Hand a message out again after `delay_s`, or give it up."""
        record = ErrorRecord("NotAcknowledged", f"given back by its receiver, time {claim.attempt}")
        is_last = claim.tallies.errors + 1 >= self._settings.max_receives
        cause, wait_s = (CAUSE_RECEIVES, None) if is_last else (CAUSE_ERROR, delay_s)
        return self.settle(Failed(claim.token, cause, record.encoded(), wait_s))

    def hold(self, claim: Claim, *, visibility_s: float) -> bool:
        """Move a message's deadline; False where it was no longer held."""
        return self._connection.receiver.save(Save(claim.token, visibility_s=visibility_s))


def _until(due_in_s: float | None) -> float:
    return LOOK_S if due_in_s is None else min(LOOK_S, max(_SHORTEST_WAIT_S, due_in_s))


def _visibility_s(visibility: Duration) -> float:
    visibility_s = duration_s(visibility, name="visibility")
    if visibility_s <= 0:
        raise ConfigError(f"visibility={visibility!r}: more than nothing, or it comes back at once")
    return visibility_s


def _chosen(id: str) -> str:
    chosen = id_of(id)
    if isinstance(chosen, Stable):
        raise ConfigError("a message's id is a text; stable(...) is for tasks")
    return chosen
