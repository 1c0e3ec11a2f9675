"""What every command of the example does first and last: a place for the jobs, and a table of promises."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote

from cicely.migration.shares import PREFIX
from examples.code_evaluation.app import app

T = TypeVar("T")
LOOK_S = 0.05
PATIENCE_S = 180.0
_leniency = [1.0]


class Promises:
    """Lines of what was found; one that is not as it should be makes the exit code 1."""

    def __init__(self) -> None:
        self._lines: list[tuple[str, str, bool]] = []

    def note(self, what: str, found: object) -> None:
        """Add a line that is worth knowing."""
        self._lines.append((what, str(found), True))

    def promise(self, what: str, found: object, *, wanted: object) -> None:
        """Add a line that must say what is wanted."""
        self._lines.append((what, str(found), str(found) == str(wanted)))

    def bound(self, what: str, found: float, *, most: float, unit: str) -> None:
        """Add a figure that must not be larger."""
        self._lines.append((what, f"{found:.2f} {unit} (at most {most:g})", found <= most))

    def report(self) -> int:
        """Print the lines and return the exit code."""
        for what, found, is_kept in self._lines:
            print(f"{what:<44}{found}{'' if is_kept else '   NOT AS PROMISED'}")
        return 0 if all(is_kept for _, _, is_kept in self._lines) else 1


@contextmanager
def stage(keep: str = "") -> Iterator[Path]:
    """Give the block a folder; jobs are kept in it unless CICELY_URL says where.

    Processes that are started inside find the same by their environment.
    """
    with tempfile.TemporaryDirectory(prefix="code-evaluation-") as temporary:
        place = Path(keep or temporary).resolve()
        try:
            place.mkdir(parents=True, exist_ok=True)
            is_empty = not any(place.iterdir())
        except OSError as error:
            sys.exit(f"--keep {place}: {error.strerror}; name another folder")
        if not is_empty:
            sys.exit(f"--keep {place}: the folder is not empty; name a new one")
        before = os.environ.get("CICELY_URL")
        os.environ["CICELY_URL"] = before or f"sqlite:///{quote(str(place))}/jobs.db"
        app.close()
        try:
            yield place
        finally:
            app.close()
            if before is None:
                del os.environ["CICELY_URL"]


def forget_share(name: str) -> None:
    """Leave no share in an engine that was there before: the migration of that name is over."""
    app.engine.unset("note", PREFIX + name)


def forget_schedules() -> None:
    """Leave none in an engine that was there before: no worker of this app would see to its ticks."""
    if "CICELY_URL" not in os.environ:
        return
    for schedule in app.schedules():
        if schedule.name in app.declared_schedules():
            schedule.remove()
    app.close()


def run_name() -> str:
    """Return a word that keeps the ids of this run apart from those of others in the same engine."""
    return os.urandom(3).hex()


def tell(line: str) -> None:
    """Say what happens, beside the table."""
    print(line, file=sys.stderr, flush=True)


def be_lenient(times: float) -> None:
    """Let everything be waited for so many times longer, in this process and from now on."""
    _leniency[0] = times


def lenient(seconds: float) -> float:
    """Return how long is waited where `seconds` are enough on a machine with nothing else to do."""
    return seconds * _leniency[0]


def wait_for(
    condition: Callable[[], T], *, what: str, within_s: float = PATIENCE_S, look_s: float = LOOK_S
) -> T:
    """Return the first true answer. Raises TimeoutError."""
    within_s = lenient(within_s)
    give_up_at = time.monotonic() + within_s
    while not (answer := condition()):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what}: not within {within_s:g} s")
        time.sleep(look_s)
    return answer
