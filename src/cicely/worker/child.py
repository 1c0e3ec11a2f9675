"""A child process: one session of the engine that runs jobs until it is told to stop.

Forked by the zygote with the app at hand. The main thread runs plain jobs (or waits, where there
are several threads for them); further threads talk to the engine, to the supervisor, and run the
event loop.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from cicely.core.intake import Turns
from cicely.core.job import Kind
from cicely.engines.contract import Session
from cicely.errors import Cancelled, CicelyError, SessionClosed
from cicely.worker.board import STARTS_WITHIN, Board
from cicely.worker.cgroups import MemoryGroups
from cicely.worker.context import INTERRUPT
from cicely.worker.control import (
    Begin,
    Cancel,
    CannotWork,
    Control,
    Drain,
    Joined,
    Lost,
    TakenBack,
    Word,
    WrapUp,
)
from cicely.worker.desk import Desk
from cicely.worker.exchange import Exchange
from cicely.worker.handover import STOP, Handover
from cicely.worker.isolation import Isolated
from cicely.worker.logs import show_logs
from cicely.worker.loop import Loop
from cicely.worker.nursery import Nursery
from cicely.worker.pool import Pool
from cicely.worker.processes import boottime, start_time, this_host
from cicely.worker.slots import Slot
from cicely.worker.workshop import Workshop

log = logging.getLogger("cicely.worker")


def main(app: Any, spec: bytes, fds: Sequence[int], nursery: Nursery) -> None:
    """Work until drained, then return.

    `fds`: board, two hand-overs of two ends each, control, desk and the desk's ring.
    """
    show_logs()
    begin = msgspec.msgpack.decode(spec, type=Begin)
    board_fd, sync_read, sync_write, loop_read, loop_write, control_fd, desk_fd, ring_fd = fds
    control = Control(socket.socket(fileno=control_fd))
    try:
        desk = Desk(socket.socket(fileno=desk_fd), ring_fd)
        _join(desk, app, begin)
    except CicelyError as error:
        control.say(CannotWork(str(error)))
        return
    child = Child(
        app,
        begin,
        desk,
        control=control,
        nursery=nursery,
        board=Board(board_fd, threads=begin.threads, coroutines=begin.coroutines),
        plain=Handover(sync_read, sync_write),
        loop=Handover(loop_read, loop_write),
    )
    control.say(Joined())
    child.work()


def _join(desk: Desk, app: Any, begin: Begin) -> None:
    host = this_host()
    desk.join(
        Session(
            id=begin.session_id,
            worker=begin.worker_id,
            tasks=frozenset(app.runnable_tasks()),
            lease_s=begin.lease_s,
            host=host,
            pid=os.getpid(),
            start_time=start_time(os.getpid()) or 0,
            mark=begin.mark,
            name=begin.name,
            queues=tuple(name for group in begin.groups for name, _ in group),
            offers=begin.offers,
            accepts=begin.accepts,
        )
    )


class Child:
    """The threads of one child and what they share."""

    def __init__(
        self,
        app: Any,
        begin: Begin,
        desk: Desk,
        *,
        control: Control,
        nursery: Nursery,
        board: Board,
        plain: Handover,
        loop: Handover,
    ) -> None:
        self._control = control
        self._board = board
        self._plain = Pool((Kind.SYNC, Kind.ISOLATED), begin.threads, plain)
        self._async = Pool((Kind.ASYNC,), begin.coroutines, loop)
        self._has_loop = begin.coroutines > 0 and app.has_coroutines()
        values = app.values(desk)
        self._exchange = Exchange(
            desk,
            begin.session_id,
            board=board,
            pools=(self._plain, self._async) if self._has_loop else (self._plain,),
            turns=Turns(begin.groups),
            start_s=STARTS_WITHIN * begin.lease_s,
            max_jobs=begin.max_jobs,
            on_lost=self._lose,
            desk=desk if desk.has_bell else None,
        )
        groups = MemoryGroups(Path(begin.cgroup)) if begin.cgroup else None
        isolation = Isolated(
            nursery, board, values, exchange=self._exchange, target=begin.target, groups=groups
        )
        self._soft_bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._shop = Workshop(app, values, self._exchange, board, isolation, self._soft_bell)
        self._slots = [Slot(self._shop, self._plain, index) for index in range(begin.threads)]
        self._loop = Loop(self._shop, self._async, begin.threads)

    def work(self) -> None:
        """Run the threads; returns when everything that was started is settled."""
        # Not SIG_IGN: what a job starts with exec would inherit that.
        signal.signal(signal.SIGINT, lambda signum, frame: None)
        signal.signal(signal.SIGTERM, lambda signum, frame: None)
        signal.signal(INTERRUPT, self._slots[0].on_signal)
        threading.Thread(target=self._talk_to_engine, name="cicely-engine", daemon=True).start()
        threading.Thread(target=self._hear_supervisor, name="cicely-control", daemon=True).start()
        threads = []
        if self._has_loop:
            threads.append(threading.Thread(target=self._loop.serve, name="cicely-loop"))
        if len(self._slots) > 1:
            threads += [threading.Thread(target=slot.serve) for slot in self._slots]
        for thread in threads:
            thread.start()
        if len(self._slots) == 1:
            self._slots[0].serve()
        for thread in threads:
            thread.join()

    def _talk_to_engine(self) -> None:
        try:
            self._exchange.run()
        except SessionClosed as closed:
            # Its jobs belong to others now: nothing of them may run on, not even a finally.
            log.warning("the engine gave this process up: %s", closed)
            os.kill(os.getpid(), signal.SIGKILL)
        except BaseException as error:
            log.exception("the conversation with the engine broke off")
            self._control.say(CannotWork(f"{type(error).__name__}: {error}"))
            os.kill(os.getpid(), signal.SIGKILL)
        for pool, width in ((self._plain, len(self._slots)), (self._async, 1)):
            pool.handover.put([STOP] * width)

    # --- the supervisor -----------------------------------------------------------------------
    def _hear_supervisor(self) -> None:
        poller = select.poll()
        poller.register(self._control, select.POLLIN)
        poller.register(self._soft_bell, select.POLLIN)
        try:
            while True:
                ready = {fd for fd, _ in poller.poll(self._until_soft_timeout_ms())}
                if self._soft_bell in ready:
                    os.eventfd_read(self._soft_bell)
                for word in self._control.heard() if self._control.fileno() in ready else ():
                    self._obey(word)
                self._time_out()
        except EOFError:
            os.kill(os.getpid(), signal.SIGKILL)

    def _until_soft_timeout_ms(self) -> float | None:
        instants = [slot.soft_at for slot in self._slots] + [self._loop.soft_at]
        nearest = min((at for at in instants if at), default=0.0)
        return max(1.0, (nearest - boottime()) * 1000) if nearest else None

    def _time_out(self) -> None:
        now = boottime()
        for slot in self._slots:
            if slot.soft_at and slot.soft_at <= now:
                slot.time_out()
        if self._loop.soft_at and self._loop.soft_at <= now:
            self._loop.time_out()

    def _obey(self, word: Word) -> None:
        match word:
            case Drain():
                self._exchange.drain()
                self._exchange.give_back("its worker stops")
            case WrapUp():
                self._wrap_up()
            case Cancel(tokens=tokens):
                self._cancel(tokens)
            case Lost(tokens=tokens):
                self._lose(tokens)
            case TakenBack(tokens=tokens):
                self._exchange.forget(tokens)
            case _:
                log.warning("the supervisor said something unexpected: %s", type(word).__name__)

    def _wrap_up(self) -> None:
        self._loop.is_wrapping_up = True
        for slot in self._slots:
            slot.is_wrapping_up = True
            if token := slot.token:
                slot.interrupt(token, Cancelled("its worker stops"))
        for token in self._loop.tokens:
            self._loop.interrupt(token, Cancelled("its worker stops"))

    def _cancel(self, tokens: tuple[bytes, ...]) -> None:
        for token in tokens:
            self._exchange.cancel(token)
            self._loop.interrupt(token, Cancelled("it was cancelled"))
        for slot in self._slots:
            if (token := slot.token) and token in tokens:
                slot.interrupt(token, Cancelled("it was cancelled"))

    def _lose(self, tokens: tuple[bytes, ...]) -> None:
        self._exchange.forget(tokens)
        for token in tokens:
            self._loop.lose(token)
        for slot in self._slots:
            if (token := slot.token) and token in tokens:
                slot.lose(token)
