"""Bells: how a script wakes a waiting process.

An ear is a connection that is subscribed to a channel of its own. Scripts publish on it when there is
news for whoever armed it, one ear for a new job. All of it is a hint: a lost ring delays work until the
waiter looks for itself, and nothing else.

An ear's descriptor stays the same number for life, because its owner waits on it: where the server hung
up, another connection takes its place, and until there is one, silence.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Collection, Sequence
from typing import Final, Protocol

from cicely.engines.redis.line import Line, Reply, Word
from cicely.engines.redis.place import Target
from cicely.errors import EngineError

_SPARE_EARS: Final = 4
#: How often bells that could not be armed are tried again, at most.
_RECOVERY_S: Final = 0.25


class Exchange(Protocol):
    """What bells need of their engine."""

    def run(self, verb: str, *arguments: Word) -> Reply:
        """Run a verb's script. Raises EngineError."""

    @property
    def target(self) -> Target | None:
        """Which server the jobs are on."""

    def dialled(self) -> Line:
        """Return a new line. Raises EngineError."""

    def channel(self, ear: str) -> str:
        """Return the channel of an ear."""


class Ear:
    """A subscribed connection, or silence."""

    def __init__(self, exchange: Exchange) -> None:
        self.name = os.urandom(8).hex()
        self._exchange = exchange
        self._line: Line | None = None
        self._target: Target | None = None
        self._silence, self._keep_silent = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.fd = os.dup(self._silence)

    @property
    def listens(self) -> bool:
        """Whether it is connected, as far as is known."""
        return self._line is not None

    def listen(self) -> None:
        """Connect, unless it is, to where scripts publish. Raises EngineError."""
        if self._line is not None and self._target == self._exchange.target:
            return
        self._fall_silent()
        line = self._exchange.dialled()
        try:
            line.ask("SUBSCRIBE", self._exchange.channel(self.name))
        except OSError as error:
            line.close()
            raise EngineError("the server hung up on a bell") from error
        os.dup2(line.fileno(), self.fd, inheritable=False)
        self._line, self._target = line, self._exchange.target

    def drain(self) -> bool:
        """Forget what was heard; return whether there was any. Falls silent where the server hung up."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._silence, 64)
        heard = self._line.drain() if self._line is not None else False
        if heard is None:
            self._fall_silent()
        return bool(heard)

    def break_silence(self) -> None:
        """Wake whoever began to wait before the connection was there: that wait is on the silence."""
        with contextlib.suppress(BlockingIOError):
            os.write(self._keep_silent, b"!")

    def _fall_silent(self) -> None:
        os.dup2(self._silence, self.fd, inheritable=False)
        if self._line is not None:
            self._line.close()
            self._line = None

    def close(self) -> None:
        """Hang up."""
        self._fall_silent()
        for fd in (self.fd, self._silence, self._keep_silent):
            os.close(fd)
        self.fd = -1


class Bells:
    """The bells of one process. Those that could not be armed are armed when the server is back."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._spare: list[Ear] = []
        self._deaf: list[RedisBell] = []
        self._recover_at = 0.0

    @property
    def are_deaf(self) -> bool:
        """Whether a bell waits to be armed."""
        return bool(self._deaf)

    def ear(self) -> Ear:
        """Lend an ear."""
        try:
            return self._spare.pop()
        except IndexError:
            return Ear(self._exchange)

    def give_back(self, ear: Ear) -> None:
        """Take an ear back."""
        ear.drain()
        if ear.listens and len(self._spare) < _SPARE_EARS:
            self._spare.append(ear)
        else:
            ear.close()

    def is_deaf(self, bell: RedisBell) -> None:
        """Note a bell that could not be armed."""
        if bell not in self._deaf:
            self._deaf.append(bell)

    def hears_again(self, bell: RedisBell) -> None:
        """Forget that a bell could not be armed."""
        if bell in self._deaf:
            self._deaf.remove(bell)

    def recover(self) -> None:
        """Arm the bells that could not be, and ring them: what they missed must be looked for."""
        now = time.monotonic()
        if now < self._recover_at:
            return
        self._recover_at = now + _RECOVERY_S
        for bell in list(self._deaf):
            bell.arm_again()

    def close(self) -> None:
        """Let go of all ears that are not lent."""
        while self._spare:
            self._spare.pop().close()
        self._deaf.clear()


class RedisBell:
    """An ear, armed for a session's news or for the ends of jobs."""

    def __init__(
        self, bells: Bells, exchange: Exchange, session_id: str, job_ids: Collection[str] = ()
    ) -> None:
        self._bells = bells
        self._exchange = exchange
        self._session_id = session_id
        self._job_ids: Sequence[str] = tuple(job_ids)
        self._pid = os.getpid()
        self._is_armed = False
        # Whoever finds the server back arms the bells of others.
        self._lock = threading.RLock()
        self._ear: Ear | None = bells.ear()
        # Connected now, so that arming costs one call; where that fails, arming tries again.
        with contextlib.suppress(EngineError):
            self._ear.listen()

    def fileno(self) -> int:
        """Return the ear's descriptor."""
        return self._ear.fd if self._ear is not None else -1

    def arm(self) -> None:
        """Be rung from now on."""
        with self._lock:
            self._arm("")

    def arm_again(self) -> None:
        """Be rung from now on, and at once."""
        with self._lock:
            self._arm("1")
            if self._ear is not None:
                self._ear.break_silence()

    def _arm(self, at_once: str) -> None:
        if self._ear is None:
            return
        try:
            self._ear.listen()
            self._exchange.run("arm", self._ear.name, self._session_id, at_once, *self._job_ids)
        except EngineError:
            self._bells.is_deaf(self)
            return
        self._is_armed = True
        self._bells.hears_again(self)

    def disarm(self) -> None:
        """Be rung no more, and forget the rings so far."""
        with self._lock:
            if self._ear is None:
                return
            self._bells.hears_again(self)
            # Whoever rings a session's bell disarms it.
            if self._ear.drain() and self._session_id:
                self._is_armed = False
            self._unregister()

    def _unregister(self) -> None:
        if self._is_armed and self._ear is not None:
            self._is_armed = False
            with contextlib.suppress(EngineError):
                self._exchange.run("disarm", self._ear.name, self._session_id, *self._job_ids)
            self._ear.drain()

    def close(self) -> None:
        """Give the ear back, unless this is a forked copy."""
        if self._pid != os.getpid():
            self._ear = None
            return
        with self._lock:
            ear = self._ear
            if ear is None:
                return
            self._bells.hears_again(self)
            self._unregister()
            self._ear = None
            self._bells.give_back(ear)
