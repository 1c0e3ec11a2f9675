"""What the zygote forked, and the loop that serves, watches and buries it.

Killed means gone. Each forked process is a subreaper, so that its orphans stay below it; when it
ends they become children of the zygote. Hence a child of the zygote that it did not fork, a
stranger, is left over from something dead. Strangers are killed until there are none, and only
then the dead one is `Gone`. That is a proof, not a guess: when the kernel lets a process be waited
for, it has already moved its children to their new parent.
"""

from __future__ import annotations

import contextlib
import math
import os
import select
import signal
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import FrameType

from cicely.worker.line import (
    Event,
    Exited,
    Fork,
    Forked,
    Gone,
    HoldUntil,
    Kill,
    Lapsed,
    Line,
    LineClosed,
    Message,
    Refused,
    Stuck,
    pair,
)
from cicely.worker.newborn import Birth, Entry, live
from cicely.worker.processes import boottime, children, kill_tree

# poll() sleeps on a clock that stands still while the machine is suspended, the deadline's does
# not: this is how late a deadline may be noticed after a resume.
_NAP_S = 0.25
_HUNT_AGAIN_S = 0.01
_STUCK_AFTER_S = 5.0


@dataclass(eq=False, slots=True)
class Member:
    """A process that the zygote forked, until nothing of it is left."""

    pid: int
    owner: Member | None
    line: Line | None
    doomed_at: float = math.inf
    status: int = 0
    leftovers: set[int] = field(default_factory=set)
    is_called_stuck: bool = False


class Family:
    """The zygote's loop. It never waits for anybody but in its one poll."""

    def __init__(
        self,
        line: Line,
        *,
        entries: Mapping[str, Entry],
        app: Callable[[], object],
        deadline_at: float,
    ) -> None:
        self._line = line
        self._entries = entries
        self._app = app
        self._deadline_at = deadline_at
        self._has_lapsed = False
        self._pid = os.getpid()
        self._living: dict[int, Member] = {}
        self._ended: list[Member] = []
        self._lines: dict[int, Member] = {}
        # What importing the app started, such as multiprocessing's resource tracker.
        self._servants = set(children(self._pid))
        self._strangers: dict[int, float] = {}  # pid -> first seen
        self._poller = select.poll()
        self._poller.register(line, select.POLLIN)
        self._wake, self._wake_writer = _wake_on_signals()
        self._poller.register(self._wake, select.POLLIN)

    def serve(self) -> None:
        """Serve until the supervisor's line is closed."""
        with contextlib.suppress(LineClosed):
            while True:
                readable = self._poller.poll(self._nap_ms())
                # Before any other work: this process may have been stopped for any length of time.
                self._keep_deadline()
                # Before the burial, or a death in the midst of it would go unnoticed.
                self._hear_signals()
                self._bury()
                for fd, mask in readable:
                    self._attend(fd, mask)

    def _nap_ms(self) -> int:
        nap_s = _HUNT_AGAIN_S if self._is_hunting() else _NAP_S
        if not self._has_lapsed:
            nap_s = min(nap_s, max(0.0, self._deadline_at - boottime()))
        return math.ceil(nap_s * 1000)

    def _is_hunting(self) -> bool:
        recent = boottime() - _STUCK_AFTER_S
        seen = [*self._strangers.values(), *(member.doomed_at for member in self._doomed())]
        return any(since > recent for since in seen)

    def _keep_deadline(self) -> None:
        if self._has_lapsed or boottime() < self._deadline_at:
            return
        self._has_lapsed = True
        self._doom(list(self._living.values()))
        self._post(self._line, Lapsed(self._deadline_at))

    def _hear_signals(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._wake.recv(4096):
                continue

    # Killing and burying

    def _doom(self, members: Iterable[Member]) -> None:
        for member in members:
            member.doomed_at = min(member.doomed_at, boottime())
            kill_tree(member.pid)
            self._doom(self._attempts_of(member))

    def _attempts_of(self, owner: Member) -> list[Member]:
        return [member for member in self._living.values() if member.owner is owner]

    def _doomed(self) -> list[Member]:
        return [member for member in self._living.values() if member.doomed_at < math.inf]

    def _bury(self) -> None:
        has_reaped = self._reap()
        if not (has_reaped or self._ended or self._strangers or self._doomed()):
            return
        self._hunt()
        for member in self._doomed():
            self._call_stuck(member, [member.pid])
        # Attempts before the children that own them.
        for member in sorted(self._ended, key=lambda ended: ended.owner is None):
            self._release(member)

    def _reap(self) -> bool:
        has_reaped = False
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                has_reaped = True
                self._servants.discard(pid)
                if pid in self._living:
                    self._mourn(self._living.pop(pid), os.waitstatus_to_exitcode(status))
        return has_reaped

    def _mourn(self, member: Member, status: int) -> None:
        now = boottime()
        member.status = status
        member.doomed_at = min(member.doomed_at, now)
        # Its orphans may have been seen before it was itself. What was stuck long before that
        # belongs to others, which alone have to wait for it.
        member.leftovers = {pid for pid, since in self._strangers.items() if now - since < _STUCK_AFTER_S}
        self._ended.append(member)
        self._drop_line(member)
        self._tell(member, Exited(member.pid, status))
        self._doom(self._attempts_of(member))

    def _hunt(self) -> None:
        found = set(children(self._pid)) - self._living.keys() - self._servants
        arrived = found - self._strangers.keys()
        for member in self._ended:
            member.leftovers |= arrived
        now = boottime()
        self._strangers = {pid: self._strangers.get(pid, now) for pid in found}
        for pid in [*found, *(member.pid for member in self._doomed())]:
            kill_tree(pid)

    def _release(self, member: Member) -> None:
        attempts = [other for other in self._ended if other.owner is member]
        remaining = sorted(member.leftovers & self._strangers.keys())
        if not remaining and not attempts and not self._attempts_of(member):
            self._ended.remove(member)
            self._tell(member, Gone(member.pid, member.status))
        else:
            self._call_stuck(member, remaining)

    def _call_stuck(self, member: Member, remaining: list[int]) -> None:
        if member.is_called_stuck or boottime() - member.doomed_at < _STUCK_AFTER_S:
            return
        member.is_called_stuck = True
        self._tell(member, Stuck(member.pid, remaining))

    # Serving

    def _attend(self, fd: int, mask: int) -> None:
        if fd == self._line.fileno():
            self._hear(self._line, None, mask)
        elif fd in self._lines:
            member = self._lines[fd]
            line = member.line
            if line is None:
                return
            try:
                self._hear(line, member, mask)
            except LineClosed:
                self._drop_line(member)

    def _hear(self, line: Line, requester: Member | None, mask: int) -> None:
        if mask & select.POLLOUT:
            line.flush()
            self._poller.modify(line, _wanted(line))
        try:
            message, fds = line.receive()
        except BlockingIOError:
            return
        try:
            self._answer(message, fds, line, requester)
        finally:
            for fd in fds:
                os.close(fd)

    def _answer(self, message: Message, fds: list[int], line: Line, requester: Member | None) -> None:
        match message:
            case Fork():
                self._post(line, self._fork(message, fds, requester))
            case Kill(pid=pid):
                member = self._living.get(pid)
                if member is not None and requester in (None, member.owner):
                    self._doom([member])
            case HoldUntil(deadline_at=deadline_at) if requester is None:
                self._deadline_at = deadline_at
                self._has_lapsed = self._has_lapsed and deadline_at <= boottime()
            case _:
                raise LineClosed(f"{message!r} is none of its business")

    def _fork(self, request: Fork, fds: list[int], requester: Member | None) -> Forked | Refused:
        if reason := self._reason_to_refuse(request, requester):
            return Refused(request.request, reason)
        # What a child asked for asks for nothing itself.
        ours, theirs = pair() if requester is None else (None, None)
        line = Line(ours) if ours else None
        birth = Birth(
            role=request.role,
            entry=self._entries[request.role],
            app=self._app,
            spec=request.spec,
            fds=fds,
            end=theirs,
            not_its_own=[*self._open(), *filter(None, [line])],
            zygote_pid=self._pid,
        )
        try:
            pid = os.fork()
        except OSError as error:
            _close(line, theirs)
            return Refused(request.request, f"the system says: {error.strerror}")
        if pid == 0:
            live(birth)
        _close(theirs)
        self._adopt(Member(pid, requester, line))
        return Forked(request.request, pid)

    def _adopt(self, member: Member) -> None:
        self._living[member.pid] = member
        if member.line is not None:
            self._lines[member.line.fileno()] = member
            self._poller.register(member.line, select.POLLIN)

    def _open(self) -> list[Line | socket.socket]:
        lines = [member.line for member in self._lines.values() if member.line is not None]
        return [self._line, self._wake, self._wake_writer, *lines]

    def _reason_to_refuse(self, request: Fork, requester: Member | None) -> str:
        if request.role not in self._entries:
            return f"there is no role '{request.role}'"
        if self._has_lapsed or boottime() >= self._deadline_at:
            return "the deadline has passed; the supervisor has lost touch with the engine"
        if requester is not None and requester.doomed_at < math.inf:
            return "its requester is being killed"
        return ""

    # Lines

    def _post(self, line: Line, message: Message) -> None:
        line.post(message)
        if line.has_unsent:
            self._poller.modify(line, _wanted(line))

    def _tell(self, member: Member, event: Event) -> None:
        self._post(self._line, event)
        if member.owner is not None and member.owner.line is not None:
            self._post(member.owner.line, event)

    def _drop_line(self, member: Member) -> None:
        if member.line is None:
            return
        self._poller.unregister(member.line)
        del self._lines[member.line.fileno()]
        member.line.close()
        member.line = None


def end_all() -> None:
    """Kill all children of this process with their trees and wait for their ends, 5 s at most."""
    give_up_at = boottime() + _STUCK_AFTER_S
    with contextlib.suppress(ChildProcessError):
        while boottime() < give_up_at:
            for pid in children(os.getpid()):
                kill_tree(pid)
            while os.waitpid(-1, os.WNOHANG)[0] != 0:
                continue
            time.sleep(0.001)


def _close(*ends: Line | socket.socket | None) -> None:
    for end in ends:
        if end is not None:
            end.close()


def _wanted(line: Line) -> int:
    return select.POLLIN | select.POLLOUT if line.has_unsent else select.POLLIN


def _wake_on_signals() -> tuple[socket.socket, socket.socket]:
    """Return a socket that becomes readable with every signal, and its other end.

    What a terminal or a service manager sends to everybody is the supervisor's business alone.
    """
    wake, writer = socket.socketpair()
    wake.setblocking(False)
    writer.setblocking(False)
    for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _only_wake)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    return wake, writer


def _only_wake(_number: int, _frame: FrameType | None) -> None:
    return
