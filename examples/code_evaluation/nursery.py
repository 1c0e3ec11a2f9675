"""A process that runs programs in children of its own, one for each, under limits.

It is started by `sandbox.Sandbox`, reads a request per line from its standard input and writes an answer
per line. It has a single thread and few modules, so that a child is there within a millisecond. It is the
subreaper of all that its children start: what they leave behind comes to it, and is killed.

The limits keep mistakes and greed in bounds. They are no wall against an attacker: let this run as a user
of its own, in a container without network, where programs may be hostile.
"""

from __future__ import annotations

import ctypes
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

LOOK_S = 0.02
#: Most programs have ended before they are worth a look, which costs a walk through all processes.
YOUNG_S = 0.05
#: What a program left behind lives so long at most.
STRAYS_S = 0.5
#: What a program may write to one file, and how many it may have open.
FILE_BYTES, OPEN_FILES = 1 << 20, 64
OUTPUT_BYTES = 4_000
#: The address space is bounded as well, loosely: one huge allocation fails in the program, unsampled.
SPACE_PER_MEMORY, SPACE_EXTRA_BYTES = 4, 256 << 20
OUT_OF_MEMORY = 97
#: Users that no system gives to anybody.
_FIRST_USER, _USERS = 60_000, 5_000
#: So many more processes are let be, so that whoever counts them sees that they are too many.
_SEEN_TOO_MANY = 8

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER, _PR_SET_NO_NEW_PRIVS = 1, 36, 38
_PAGE_BYTES = resource.getpagesize()
_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONHASHSEED": "0", "TZ": "UTC"}


class Run:
    """A program that runs: its process, and what was seen of it."""

    def __init__(self, request: dict[str, Any]) -> None:
        self.request = request
        self.began_at = time.monotonic()
        self.folder = tempfile.mkdtemp(prefix="evaluation-")
        #: In memory, and without a name that the program could remove.
        self.output = os.memfd_create("output", os.MFD_CLOEXEC)
        self.user = _user_for(request)
        if self.user:
            os.chown(self.folder, self.user, self.user)
        self.peak_bytes = 0
        self.processes = 1
        self.ended = ""
        self.pid = _forked(self)

    def look(self, tree: list[int]) -> None:
        """Measure it and what it started; kill all of it where a limit is passed."""
        self.processes = max(self.processes, len(tree))
        self.peak_bytes = max(self.peak_bytes, sum(map(_resident_bytes, tree)))
        self.ended = self.ended or self._passed()
        if self.ended:
            _kill_group(self.pid)  # at one stroke, so that a fork bomb cannot run away from it
            _kill(tree)

    def _passed(self) -> str:
        if time.monotonic() - self.began_at > self.request["timeout_s"]:
            return "timeout"
        if self.processes > self.request["max_processes"]:
            return "processes"
        return "memory" if self.peak_bytes > self.request["memory_bytes"] else ""

    def answer(self, status: int, usage: Any) -> dict[str, Any]:
        """Return what came of it, and clean up."""
        code = os.waitstatus_to_exitcode(status)
        written = os.pread(self.output, OUTPUT_BYTES, 0)
        os.close(self.output)
        shutil.rmtree(self.folder, ignore_errors=True)
        if code == OUT_OF_MEMORY:
            self.ended = "memory"
        return {
            "id": self.request["id"],
            "ended": self.ended or ("finished" if code >= 0 else "killed"),
            "exit_code": code,
            "output": written.decode(errors="replace"),
            "duration_s": round(time.monotonic() - self.began_at, 4),
            "peak_bytes": max(self.peak_bytes, usage.ru_maxrss * 1024),
            "processes": self.processes,
        }


# --- users ----------------------------------------------------------------------------------------


def _user_for(request: dict[str, Any]) -> int:
    """Return a user of its own for a program; 0 where this process cannot make it one."""
    if request["language"] not in _languages_of_users():
        return 0
    return _FIRST_USER + int(request["id"]) % _USERS


@cache
def _languages_of_users() -> tuple[str, ...]:
    """Return the languages whose programs can be other users: none unless this is root.

    A Python program imports while it runs, so that user must be able to read the library.
    """
    if os.geteuid() != 0:
        return ()
    pid = os.fork()
    if pid == 0:
        try:
            _become_nobody_else(_FIRST_USER, most=1)
            os._exit(0 if os.access(os.__file__, os.R_OK) else 1)
        finally:
            os._exit(2)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    return {0: ("bash", "python"), 1: ("bash",)}.get(code, ())


# --- the child ------------------------------------------------------------------------------------


def _forked(run: Run) -> int:
    pid = os.fork()
    if pid:
        return pid
    try:
        _become_a_program(run)
    except BaseException:  # noqa: BLE001  (nothing of a child may ever come back into the loop)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)


def _become_a_program(run: Run) -> None:
    request, folder = run.request, run.folder
    os.setsid()
    os.nice(10)  # whoever watches over it comes first, whatever it does
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for target, source in ((0, nothing), (1, run.output), (2, run.output)):
        os.dup2(source, target)
    os.closerange(3, 256)
    os.chdir(folder)
    _limit(request)
    if run.user:
        _become_nobody_else(run.user, most=request["max_processes"] + _SEEN_TOO_MANY)
    # Behind the change of user, which would undo the first of them.
    for option, value in ((_PR_SET_PDEATHSIG, signal.SIGKILL), (_PR_SET_NO_NEW_PRIVS, 1)):
        _libc.prctl(option, int(value), 0, 0, 0)
    if request["language"] == "bash":
        Path("main.sh").write_text(request["code"])
        os.execve("/bin/bash", ["bash", "--noprofile", "--norc", "main.sh"], {**_ENVIRONMENT, "HOME": folder})
    os.environ.clear()
    os.environ.update(_ENVIRONMENT, HOME=folder)
    os._exit(_python(request["code"]))


def _limit(request: dict[str, Any]) -> None:
    space = SPACE_PER_MEMORY * request["memory_bytes"] + SPACE_EXTRA_BYTES
    seconds = int(request["timeout_s"]) + 1
    for what, most in (
        (resource.RLIMIT_AS, space),
        (resource.RLIMIT_CPU, seconds),
        (resource.RLIMIT_FSIZE, FILE_BYTES),
        (resource.RLIMIT_NOFILE, OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


def _become_nobody_else(user: int, *, most: int) -> None:
    """Be a user that nobody else is, who may have so many processes: the kernel stops a fork bomb."""
    os.setgroups([])
    os.setgid(user)
    os.setuid(user)
    resource.setrlimit(resource.RLIMIT_NPROC, (most, most))


def _python(code: str) -> int:
    """Run the program as a script; return the exit code that Python itself would end with."""
    sys.argv, status = ["main.py"], 0
    try:
        exec(compile(code, "main.py", "exec"), {"__name__": "__main__", "__builtins__": __builtins__})
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except MemoryError:
        status = OUT_OF_MEMORY
    except BaseException as error:  # noqa: BLE001  (whatever a program ends with is its own)
        below_this = error.__traceback__.tb_next if error.__traceback__ else None
        traceback.print_exception(type(error), error, below_this)
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    return status & 0xFF


# --- the loop -------------------------------------------------------------------------------------


def main() -> None:
    """Serve until the standard input ends; then kill all that runs."""
    _libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    woken, waker = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
    runs: dict[int, Run] = {}
    unread = b""
    looked_at = 0.0
    has_news = False
    while True:
        readable, _, _ = select.select([0, woken], [], [], LOOK_S if runs or has_news else None)
        if 0 in readable:
            some = os.read(0, 1 << 16)
            if not some:
                break
            *lines, unread = (unread + some).split(b"\n")
            for run in map(Run, map(json.loads, lines)):
                runs[run.pid] = run
        if woken in readable:
            os.read(woken, 512)
            _bury(runs)
            has_news = True  # what a program left behind comes to this process now
        now = time.monotonic()
        oldest_s = now - next(iter(runs.values())).began_at if runs else 0.0
        if now - looked_at >= (LOOK_S if oldest_s > YOUNG_S else STRAYS_S) and (runs or has_news):
            _look_at(runs)
            looked_at, has_news = now, False
    for pid in runs:
        _kill_group(pid)
    _kill(_below(os.getpid(), _all_processes()[0]))


def _bury(runs: dict[int, Run]) -> None:
    """Answer for each program that ended; its session goes with it."""
    while True:
        try:
            pid, status, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        run = runs.pop(pid, None)
        if run is not None:
            _kill_group(pid)
            _say(run.answer(status, usage))


def _look_at(runs: dict[int, Run]) -> None:
    below, sessions = _all_processes()
    for pid, run in runs.items():
        run.look([*{pid, *sessions.get(pid, ()), *_below(pid, below)}])
    # Whoever came to this process and is of no program's session has run away from one.
    known = {one for pid in runs for one in sessions.get(pid, ())}
    _kill([pid for pid in below.get(os.getpid(), ()) if pid not in known and pid not in runs])


def _say(answer: dict[str, Any]) -> None:
    line = json.dumps(answer).encode() + b"\n"
    while line:
        line = line[os.write(1, line) :]


# --- processes ------------------------------------------------------------------------------------


def _all_processes() -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """Return the processes by their parents, and by their sessions."""
    below: dict[int, list[int]] = {}
    sessions: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if not entry.isdecimal():
            continue
        try:
            with open(f"/proc/{entry}/stat", "rb", buffering=0) as file:
                _, parent, _, session, *_ = file.read(512).rpartition(b")")[2].split()
        except (OSError, ValueError):
            continue
        below.setdefault(int(parent), []).append(int(entry))
        sessions.setdefault(int(session), []).append(int(entry))
    return below, sessions


def _below(pid: int, below: dict[int, list[int]]) -> list[int]:
    found, level = [], below.get(pid, [])
    while level:
        found += level
        level = [child for one in level for child in below.get(one, ())]
    return found


def _resident_bytes(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            return int(file.read().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        return 0


def _kill(pids: list[int]) -> None:
    for pid in pids:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue


def _kill_group(pid: int) -> None:
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


_libc = ctypes.CDLL(None, use_errno=True)

if __name__ == "__main__":
    # What most programs import is imported once, here.
    for name in (
        "collections",
        "functools",
        "hashlib",
        "heapq",
        "itertools",
        "math",
        "re",
        "string",
        "typing",
    ):
        import_module(name)
    main()
