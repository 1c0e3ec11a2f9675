"""The first moments of a forked process, up to the role's entry function, and its last ones."""

from __future__ import annotations

import importlib
import os
import signal
import socket
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn, cast

from cicely.worker import processes
from cicely.worker.line import Line
from cicely.worker.nursery import Nursery

# Called with the app (None without a target), the requester's spec, the descriptors that came
# with it, and a line to the zygote, which only those have that the supervisor asked for.
Entry = Callable[[object, bytes, list[int], Nursery | None], None]

EXIT_OF_A_CRASHED_ENTRY = 70  # EX_SOFTWARE of sysexits.h


@dataclass(frozen=True, slots=True)
class Birth:
    """What a process is forked for."""

    role: str
    entry: Entry
    app: Callable[[], object]
    spec: bytes
    fds: list[int]
    end: socket.socket | None
    not_its_own: list[Line | socket.socket]
    zygote_pid: int


def entry_of(where: str) -> Entry:
    """Return the function that `module:function` names."""
    module_name, _, name = where.partition(":")
    return cast(Entry, getattr(importlib.import_module(module_name), name))


def live(birth: Birth) -> NoReturn:
    """Run a forked process from its first to its last instruction."""
    status = EXIT_OF_A_CRASHED_ENTRY
    try:
        _stand_alone(birth)
        status = _run(birth)
    finally:
        flush()
        os._exit(status)


def flush() -> None:
    """Flush the standard streams, as far as they still exist."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):
            continue


def _stand_alone(birth: Birth) -> None:
    processes.die_with(birth.zygote_pid)
    os.setsid()
    processes.become_subreaper()
    processes.show_as(f"cicely-{birth.role}")
    _reset_signals()
    for other in birth.not_its_own:
        other.close()
    _reseed_numpy()


def _reset_signals() -> None:
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for changed in (signal.SIGTERM, signal.SIGHUP, signal.SIGCHLD):
        signal.signal(changed, signal.SIG_DFL)


def _reseed_numpy() -> None:
    # `random` sees to itself after a fork; NumPy's global generator would give every process the
    # same numbers.
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()


def _run(birth: Birth) -> int:
    try:
        nursery = Nursery(birth.end) if birth.end else None
        birth.entry(birth.app(), birth.spec, birth.fds, nursery)
    except SystemExit as end:
        return _exit_code(end)
    except BaseException:  # noqa: BLE001 - nothing may fall through into the zygote's loop
        traceback.print_exc()
        return EXIT_OF_A_CRASHED_ENTRY
    return 0


def _exit_code(end: SystemExit) -> int:
    if end.code is None:
        return 0
    if isinstance(end.code, int):
        return end.code & 0xFF
    sys.stderr.write(f"{end.code}\n")
    return 1
