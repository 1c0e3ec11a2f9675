"""The zygote: imports the user's app once, forks children and attempts, and buries them.

Its own program, run as `python -m cicely.worker.zygote <descriptor of its line>`. It has a single
thread, holds no engine connection and runs no jobs. What it forks outlives neither the zygote, nor
the supervisor's deadline, nor the supervisor.
"""

from __future__ import annotations

import fcntl
import gc
import os
import select
import socket
import sys
from collections.abc import Callable
from typing import NoReturn

from cicely.worker import processes
from cicely.worker.family import Family, end_all
from cicely.worker.line import Begin, Failed, Line, LineClosed, Ready, Threads
from cicely.worker.newborn import entry_of, flush
from cicely.worker.preload import CannotImport, load, manifest_of, other_threads


def main() -> None:
    """Import what the supervisor asks for, and serve it until it is gone."""
    end = socket.socket(fileno=int(sys.argv.pop()))
    end.set_inheritable(False)
    processes.become_subreaper()
    processes.show_as("cicely-zygote")
    line = Line(end)
    begin = _receive_begin(line)
    sys.path[:0] = begin.python_path

    _end_with_supervisor(end)
    try:
        app, manifest = _import(begin)
    except CannotImport as failure:
        _last_words(line, Failed(str(failure), failure.traceback))
    entries = {role: entry_of(where) for role, where in begin.roles.items()}
    if names := other_threads():
        _last_words(line, Threads(names, manifest))
    _serve_after_supervisor(end)

    flush()
    gc.collect()
    gc.freeze()
    family = Family(line, entries=entries, app=app, deadline_at=begin.deadline_at)
    line.post(Ready(manifest))
    try:
        family.serve()
    finally:
        _leave()


def _receive_begin(line: Line) -> Begin:
    select.select([line], [], [])
    try:
        message, _ = line.receive()
    except LineClosed:
        _leave()
    if not isinstance(message, Begin):
        raise TypeError(f"a supervisor's first word is not {message!r}")
    return message


def _import(begin: Begin) -> tuple[Callable[[], object], bytes]:
    """Return how a fork gets the app, and the app's manifest."""
    target = begin.target
    if target is None:
        return lambda: None, manifest_of(None)
    if not begin.preload:
        return lambda: load(target), manifest_of(None)
    app = load(target)
    return lambda: app, manifest_of(app)


def _end_with_supervisor(end: socket.socket) -> None:
    # While the user's modules are being imported nobody looks at the line; an import that never
    # ends must not outlive the supervisor. SIGIO, untouched, terminates.
    fcntl.fcntl(end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) | os.O_ASYNC)


def _serve_after_supervisor(end: socket.socket) -> None:
    fcntl.fcntl(end, fcntl.F_SETFL, fcntl.fcntl(end, fcntl.F_GETFL) & ~os.O_ASYNC)


def _last_words(line: Line, message: Failed | Threads) -> NoReturn:
    line.post(message)
    _leave()


def _leave() -> NoReturn:
    end_all()
    flush()
    # Threads that the app started, and its exit handlers, have no say in this.
    os._exit(0)


if __name__ == "__main__":
    main()
