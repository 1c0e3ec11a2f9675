"""The demo's workers: `cicely worker` in processes of their own, which end with the demo."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final
from urllib.parse import quote

import msgspec

from cicely.cli.demonstration.app import LEDGER_VARIABLE
from cicely.worker.processes import die_with

TARGET: Final = "cicely.cli.demonstration.app:app"
PROCESSES: Final = 4
_STOP_S: Final = 15.0
_LAST_WORDS_CHARS: Final = 500


class Stage(msgspec.Struct, frozen=True):
    """The folder of one demo and what lies in it."""

    folder: Path

    @property
    def url(self) -> str:
        """The engine's URL."""
        return f"sqlite:///{quote(str(self.folder / 'demo.db'))}"

    @property
    def ledger(self) -> Path:
        """The folder of the ledger."""
        return self.folder / "ledger"


class Crew:
    """The workers that were started so far; those that should be running are in `working`."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self._hired = 0
        self.working: dict[int, subprocess.Popen[bytes]] = {}

    def hire(self) -> int:
        """Start another worker and return its number."""
        self._hired += 1
        environment = {
            **os.environ,
            "CICELY_URL": self._stage.url,
            LEDGER_VARIABLE: str(self._stage.ledger),
        }
        with self._log(self._hired).open("wb") as log:
            self.working[self._hired] = subprocess.Popen(
                [sys.executable, "-m", __name__, str(os.getpid())],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        return self._hired

    def kill(self, number: int) -> int:
        """Kill a worker's supervisor with SIGKILL and return its pid."""
        worker = self.working.pop(number)
        worker.kill()
        worker.wait()
        return worker.pid

    def deserted(self) -> list[str]:
        """Forget workers that ended by themselves; return a sentence about each."""
        ended = [number for number, worker in self.working.items() if worker.poll() is not None]
        return [self._obituary(number, self.working.pop(number)) for number in ended]

    def _obituary(self, number: int, worker: subprocess.Popen[bytes]) -> str:
        last_words = self._log(number).read_text(errors="replace").strip()[-_LAST_WORDS_CHARS:]
        return f"worker {number} ended by itself with {worker.returncode}: {last_words or 'no words'}"

    def dismiss(self) -> None:
        """Stop all workers and wait for them; what does not stop in time is killed."""
        for worker in self.working.values():
            worker.send_signal(signal.SIGTERM)
        for worker in self.working.values():
            try:
                worker.wait(_STOP_S)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()
        self.working.clear()

    def _log(self, number: int) -> Path:
        return self._stage.folder / f"worker-{number}.log"


def main() -> None:
    """Be a worker, until told to stop or the demo is gone."""
    die_with(int(sys.argv[1]))
    from cicely.cli.main import cli

    cli(["worker", TARGET, "--processes", str(PROCESSES)], prog_name="cicely")


if __name__ == "__main__":
    main()
