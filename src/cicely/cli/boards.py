"""What a child of this host runs right now, read from the memory that it shares with its supervisor.

The engine knows which claims a child holds; only the child's board knows which of them it has
started. It can be read on the same host, by the same user.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cicely.engines.contract import Session

_NAME = "/memfd:cicely-board"


class Started:
    """The jobs that a child has started."""

    def __init__(self, names: frozenset[bytes]) -> None:
        self._names = names

    def __contains__(self, job_id: str) -> bool:
        """Whether the job of this id is among them."""
        from cicely.worker.board import job_name

        return job_name(job_id) in self._names


def started_by(session: Session) -> Started | None:
    """Return the jobs that a child has started; None where nobody can tell."""
    from cicely.worker.processes import is_alive, this_host

    here = this_host()
    of_session = (session.host.boot_id, session.host.pid_ns, session.host.uid)
    if not here.boot_id or (here.boot_id, here.pid_ns, here.uid) != of_session:
        return None
    if not is_alive(session.pid, session.start_time):
        return None
    with contextlib.suppress(OSError, ValueError):
        return _read(session.pid)
    return None


def _read(pid: int) -> Started | None:
    from cicely.worker.board import Board

    folder = f"/proc/{pid}/fd"
    for number in os.listdir(folder):
        if not os.readlink(f"{folder}/{number}").startswith(_NAME):
            continue
        board = Board.of(os.open(f"{folder}/{number}", os.O_RDWR | os.O_CLOEXEC))
        try:
            return Started(frozenset(running.job_name for running in board.running()))
        finally:
            board.close()
    return None
