"""What the supervisor and its children hold of the zygote: fork, kill, and what became of it."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, Self

import msgspec

from cicely.errors import CicelyError, ConfigError, Unsupported
from cicely.worker.line import (
    Begin,
    Event,
    Failed,
    Fork,
    Forked,
    HoldUntil,
    Kill,
    Line,
    LineClosed,
    Message,
    Ready,
    Refused,
    Threads,
    pair,
)
from cicely.worker.processes import MARK_VARIABLE, boottime

ROLES = {
    "child": "cicely.worker.child:main",
    "attempt": "cicely.worker.attempt_process:main",
}

_THREADS_OF_NUMERIC_LIBRARIES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
_DIED = "the zygote is gone, and with it everything that it forked"
_CLOSE_S = 6.0  # the zygote itself gives up killing after 5


class PreloadFailed(ConfigError):
    """The app cannot be imported; `traceback` is the user's part of it, as text."""

    def __init__(self, message: str, *, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class ZygoteDied(CicelyError):
    """The zygote is gone, and with it every process that it forked."""


class ZygoteStalled(CicelyError):
    """The zygote did not answer in time; it may be stopped, or the machine overloaded."""


class ForkRefused(CicelyError):
    """The zygote forks nothing for this caller now; the message says why."""


class Nursery:
    """A line to the zygote, for the supervisor or for one child; safe to share between threads."""

    def __init__(self, end: socket.socket) -> None:
        self._line = Line(end)
        self._lock = threading.Lock()
        self._events: deque[Event] = deque()
        self._is_over = False
        self._requests = 0
        # Events that arrive while `fork` waits leave the socket: the bell keeps fileno() readable.
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._readable = select.epoll()
        self._readable.register(self._bell, select.EPOLLIN)
        self._readable.register(self._line, select.EPOLLIN)

    def fileno(self) -> int:
        """Return a descriptor that is readable while `events` has something to say."""
        return self._readable.fileno()

    def fork(self, role: str, spec: bytes = b"", *, fds: Sequence[int] = (), timeout_s: float = 5.0) -> int:
        """Fork a process that runs the role's entry function, and return its pid.

        It gets copies of `fds`, in this order, under numbers of its own. Raises ForkRefused,
        ZygoteDied, or ZygoteStalled after `timeout_s`: a process that is born later is killed.
        """
        with self._lock:
            self._requests += 1
            self._send(Fork(self._requests, role, spec), fds)
            answer = self._await_answer(self._requests, give_up_at=boottime() + timeout_s)
        if isinstance(answer, Refused):
            raise ForkRefused(f"cannot fork a process for {role}: {answer.reason}")
        return answer.pid

    def kill(self, pid: int) -> None:
        """Have a forked process killed with its whole tree; its `Gone` tells when that is done."""
        with self._lock:
            self._send(Kill(pid))

    def hold_until(self, deadline_at: float) -> None:
        """Let the family live until this instant of the boot-time clock, and no longer."""
        with self._lock:
            self._send(HoldUntil(deadline_at))

    def events(self) -> list[Event]:
        """Return what happened since the last call, without waiting.

        Raises ZygoteDied once nothing more is to come.
        """
        with self._lock:
            self._drain()
            with contextlib.suppress(BlockingIOError):
                os.eventfd_read(self._bell)
            if self._is_over and not self._events:
                raise ZygoteDied(_DIED)
            happened = list(self._events)
            self._events.clear()
            return happened

    def close(self) -> None:
        """Close this end; of a child's line nobody takes notice."""
        with self._lock:
            if self._readable.closed:
                return
            self._readable.close()
            self._line.close()
            os.close(self._bell)

    def _send(self, message: Message, fds: Sequence[int] = ()) -> None:
        try:
            self._line.send(message, fds)
        except LineClosed as error:
            raise ZygoteDied(_DIED) from error
        except BlockingIOError as error:
            raise ZygoteStalled("the zygote left hundreds of requests unread") from error

    def _await_answer(self, request: int, *, give_up_at: float) -> Forked | Refused:
        poller = select.poll()
        poller.register(self._line, select.POLLIN)
        while (remaining_s := give_up_at - boottime()) > 0:
            poller.poll(remaining_s * 1000)
            try:
                message, _ = self._line.receive()
            except BlockingIOError:
                continue
            except LineClosed as error:
                raise ZygoteDied(_DIED) from error
            if isinstance(message, Forked | Refused) and message.request == request:
                return message
            self._take_in(message)
            os.eventfd_write(self._bell, 1)
        raise ZygoteStalled("the zygote did not answer a request to fork in time")

    def _drain(self) -> None:
        try:
            while True:
                message, _ = self._line.receive()
                self._take_in(message)
        except BlockingIOError:
            return
        except LineClosed:
            self._is_over = True

    def _take_in(self, message: Message) -> None:
        if isinstance(message, Event):
            self._events.append(message)
        elif isinstance(message, Forked):
            # Born after its caller gave up: nobody else will ever ask for it.
            self._send(Kill(message.pid))


class Zygote(Nursery):
    """The supervisor's hold on a zygote that it started.

    `manifest` is what the app's `manifest()` returned. `threads` names the threads that importing
    the app started; where there are any, each fork imports the app itself.
    """

    def __init__(
        self, process: subprocess.Popen[bytes], end: socket.socket, *, born: Ready | Threads
    ) -> None:
        super().__init__(end)
        self.pid = process.pid
        self.manifest: dict[str, Any] = msgspec.msgpack.decode(born.manifest)
        self.threads: list[str] = born.names if isinstance(born, Threads) else []
        self._process = process

    @classmethod
    def start(
        cls,
        target: str | None,
        *,
        mark: str,
        deadline_at: float,
        preload: bool = True,
        python_path: Sequence[str] = (),
        roles: Mapping[str, str] = ROLES,
    ) -> Self:
        """Start a zygote, wait until it has imported `target`, and return the hold on it.

        `target` is `module:attribute`; `python_path` goes before the interpreter's own. Whatever
        the zygote forks carries `mark` in its environment and is killed at `deadline_at` of the
        boot-time clock unless `hold_until` moves it. Without `preload`, each fork imports the
        target and the manifest is empty. Raises PreloadFailed.
        """
        begin = Begin(target, preload, dict(roles), list(python_path), deadline_at)
        process, end, born = _bear(begin, mark)
        if isinstance(born, Ready):
            return cls(process, end, born=born)
        end.close()
        process.wait()
        process, end, fresh = _bear(msgspec.structs.replace(begin, preload=False), mark)
        zygote = cls(process, end, born=born)
        if isinstance(fresh, Threads):
            zygote.close()
            raise PreloadFailed(
                f"the interpreter itself starts threads ({', '.join(fresh.names)}) before any "
                "import, so nothing can be forked; look for a sitecustomize or .pth file"
            )
        return zygote

    def close(self) -> None:
        """End the zygote with everything that it forked, and wait until that is done."""
        super().close()
        try:
            self._process.wait(_CLOSE_S)
        except subprocess.TimeoutExpired:
            # It is stopped. The kernel ends what it forked together with it.
            self._process.kill()
            self._process.wait()


def _bear(begin: Begin, mark: str) -> tuple[subprocess.Popen[bytes], socket.socket, Ready | Threads]:
    if sys.platform != "linux":
        raise Unsupported("workers need Linux: only its subreapers can end whole process trees")
    end, its_end = pair()
    with its_end:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "cicely.worker.zygote", str(its_end.fileno())],
            stdin=subprocess.DEVNULL,
            env=_environment(mark),
            pass_fds=[its_end.fileno()],
            start_new_session=True,
        )
    try:
        return process, end, _first_words(end, begin, process)
    except BaseException:
        end.close()
        process.kill()
        process.wait()
        raise


def numeric_threads() -> dict[str, str]:
    """Return how many threads numeric libraries get in a worker: one, unless the environment says more."""
    return {name: os.environ.get(name, "1") for name in _THREADS_OF_NUMERIC_LIBRARIES}


def _environment(mark: str) -> dict[str, str]:
    # Importing NumPy starts threads unless it is told to use one, and then nothing can be forked.
    return {**os.environ, **numeric_threads(), MARK_VARIABLE: mark}


def _first_words(end: socket.socket, begin: Begin, process: subprocess.Popen[bytes]) -> Ready | Threads:
    line = Line(end)
    line.send(begin)
    select.select([line], [], [])
    try:
        message, _ = line.receive()
    except LineClosed:
        raise PreloadFailed(_silent_end(begin.target, process.wait())) from None
    if isinstance(message, Failed):
        raise PreloadFailed(message.message, traceback=message.traceback)
    if isinstance(message, Ready | Threads):
        return message
    raise AssertionError(f"a zygote's first word is not {message!r}")


def _silent_end(target: str | None, status: int) -> str:
    how = f"signal {-status}" if status < 0 else f"exit code {status}"
    return f"importing {target} ended the whole interpreter with {how}; stderr may say why"
