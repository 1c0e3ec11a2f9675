"""A child as its supervisor knows it: how it is born, spoken to and judged."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Sequence
from typing import Final

import msgspec

from cicely.core.intake import TAKE_BACK_S
from cicely.core.outcome import Outcome
from cicely.engines.contract import Engine
from cicely.worker.board import Board, Running
from cicely.worker.cgroups import MemoryGroups
from cicely.worker.clerk import Clerk
from cicely.worker.control import Begin, Cancel, Control, Drain, Word, pair
from cicely.worker.handover import Handover
from cicely.worker.limits import CANCELLED, TOO_LARGE, passed_limit
from cicely.worker.nursery import Nursery
from cicely.worker.options import WorkerOptions
from cicely.worker.processes import boottime, tree_rss_bytes

LAST_WORDS_S: Final = 0.5


class Ward:
    """One child, from before its fork until it is buried. `pid` is 0 before the fork."""

    def __init__(self, number: int, options: WorkerOptions, groups: MemoryGroups | None) -> None:
        self.number = number
        self._groups = groups
        self.session_id = os.urandom(12).hex()
        self.board = Board.create(threads=options.threads, coroutines=options.coroutines)
        self.pid = 0
        self.control: Control | None = None
        self.clerk: Clerk | None = None
        self.has_joined = False
        self.is_draining = False
        self.is_dying = False
        self.excuse = ""
        #: Outcomes of the attempts for whose limits this child was killed.
        self.outcomes: list[Outcome] = []
        self._plain = Handover.create()
        self._loop = Handover.create()
        #: Per hand-over: the count of starts when it last grew, and when that was.
        self._progress: dict[int, tuple[int, float]] = {}
        self._cancel_by: dict[bytes, float] = {}

    def be_born(
        self, zygote: Nursery, engine: Engine, begin: Begin, *, note_failure: Callable[[], None]
    ) -> None:
        """Have the zygote fork it, with a clerk for its engine calls; those that fail are noted.

        Raises ForkRefused, ZygoteStalled and ZygoteDied.
        """
        ours, theirs = pair()
        clerks, desk = socket.socketpair()
        ring_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        plain, loop = self._plain, self._loop
        fds = [self.board.fd, plain.read_fd, plain.write_fd, loop.read_fd, loop.write_fd]
        fds += [theirs.fileno(), desk.fileno(), ring_fd]
        self.control = Control(ours)
        self.clerk = Clerk(engine, self.session_id, clerks, ring_fd, note_failure)
        self.clerk.start()
        with theirs, desk:
            self.pid = zygote.fork("child", msgspec.msgpack.encode(begin), fds=fds)

    def hear_out(self) -> None:
        """Wait until what it asked for before it died is done: the outcomes in it count."""
        if self.clerk is not None:
            self.clerk.finish(LAST_WORDS_S)

    def close(self) -> None:
        """Give everything back but the board."""
        if self._groups is not None:
            for attempt in self.board.running():
                self._groups.remove(attempt.token.hex())
        if self.control is not None:
            self.control.close()
        self._plain.close()
        self._loop.close()

    # --- words --------------------------------------------------------------------------------
    def say(self, word: Word) -> None:
        """Tell it something, if it still listens."""
        if self.control is not None:
            self.control.say(word)

    def drain(self) -> None:
        """Have it end what runs, and claim no more."""
        self.is_draining = True
        self.say(Drain())

    def heard(self) -> list[Word]:
        """Return what it has said. Raises msgspec.MsgspecError for what cannot be read."""
        if self.control is None:
            return []
        try:
            return self.control.heard()
        except EOFError:
            self.control.close()
            self.control = None
            return []

    def cancel(self, tokens: Collection[bytes], *, by: float) -> None:
        """Ask attempts to end, those that were not asked before: `by` then they have to."""
        new = [token for token in tokens if token not in self._cancel_by]
        if new:
            self.say(Cancel(tuple(new)))
            self._cancel_by.update(dict.fromkeys(new, by))

    # --- what its board shows -----------------------------------------------------------------
    def verdicts(self) -> list[tuple[Running, int]]:
        """Return the attempts that have to be ended, each with the reason (see `limits`)."""
        running = self.board.running()
        live = {attempt.token for attempt in running}
        self._cancel_by = {token: by for token, by in self._cancel_by.items() if token in live}
        return [(attempt, verdict) for attempt in running if (verdict := self._verdict(attempt))]

    def _verdict(self, attempt: Running) -> int:
        now = boottime()
        if verdict := passed_limit(attempt, now=now):
            return verdict
        if now > self._cancel_by.get(attempt.token, float("inf")):
            return CANCELLED
        is_forked = attempt.pid not in (0, self.pid)
        return TOO_LARGE if attempt.memory_bytes and is_forked and self._is_too_large(attempt) else 0

    def _is_too_large(self, attempt: Running) -> bool:
        if self._groups is not None and self._groups.has(attempt.token.hex()):
            return self._groups.has_overflowed(attempt.token.hex())
        return tree_rss_bytes(attempt.pid) > attempt.memory_bytes

    def judge_attempts(self, verdict: int) -> None:
        """Say why its isolated attempts are about to be killed with it."""
        for attempt in self.board.running():
            if attempt.pid:
                self.board.judge(attempt.slot, verdict)

    def take_back(self) -> Sequence[bytes]:
        """Remove and return the claims before which nothing has started for a while."""
        now = boottime()
        taken: list[bytes] = []
        for handover, starts in zip((self._plain, self._loop), self.board.starts, strict=True):
            before, since = self._progress.get(handover.read_fd, (-1, now))
            if starts != before or not handover.is_waiting:
                self._progress[handover.read_fd] = (starts, now)
            elif now - since >= TAKE_BACK_S:
                taken += handover.take_all()
        return taken
