"""The crash loop: a scenario is lived through once for each hit of each failpoint, and dies there.

A scenario says what a life does and what is wrong after the last one. Each life is a process of its own.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec
from crash_life import BOUND_S, Life, words

from cicely.core.failpoints import Fuse, install

#: Processes at once: much of a life is waiting.
LANES = 5


class Scenario(Protocol):
    """Something that a process lives through, on an engine where nothing was before the first life."""

    def life(self, folder: Path) -> Life:
        """Return a life that goes on with what the lives before it in `folder` have left."""

    def faults(self, folder: Path, dead: set[int]) -> list[str]:
        """Return what is wrong after the last life has come to its end; `dead` are the pids that died."""


#: Makes a scenario on an engine where nothing is yet; a file's name says which.
Stage = Callable[[Path], Scenario]


def crash_everywhere(
    folder: Path, stage: Stage, hits: list[tuple[str, int]], until: float = math.inf
) -> list[Crash]:
    """Crash at each of these hits, in several processes at once; begin with none after `until`."""
    lanes = [start_lane(folder, stage, (number, hits[number::LANES]), until) for number in range(LANES)]
    crashes: list[Crash] = []
    for number, pid in enumerate(lanes):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        lines = (folder / f"lane-{number}").read_bytes().splitlines()
        crashes += [msgspec.json.decode(line, type=Crash) for line in lines]
    return crashes


def start_lane(folder: Path, stage: Stage, lane: tuple[int, list[tuple[str, int]]], until: float) -> int:
    number, hits = lane
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with (folder / f"lane-{number}").open("wb") as file:
            for name, hit in hits:
                if time.monotonic() > until:
                    break
                place = folder / f"{name}-{hit}"
                crash = crash_at(place, stage(place), (name, hit))
                file.write(msgspec.json.encode(crash) + b"\n")
                file.flush()
                if not crash.faults:
                    shutil.rmtree(place)
        status = 0
    except BaseException:  # noqa: BLE001  (a fork must not go on as a test)
        traceback.print_exc()
    finally:
        os._exit(status)


def every(passings: int) -> set[int]:
    return {*range(1, passings + 1)}


def three_of(passings: int) -> set[int]:
    return {1, (passings + 1) // 2, passings}


def check_crashes(folder: Path, stage: Stage, chosen: Callable[[int], set[int]]) -> None:
    """Crash at the chosen hits of each failpoint."""
    hits = chosen_hits(folder, stage, chosen)

    crashes = crash_everywhere(folder, stage, hits)

    check(crashes)
    assert len(crashes) == len(hits)


def check_some_crashes(folder: Path, stage: Stage, *, within_s: float) -> None:
    """Crash for so long, at other hits in each run."""
    hits = chosen_hits(folder, stage, every)
    random.shuffle(hits)

    crashes = crash_everywhere(folder, stage, hits, time.monotonic() + within_s)

    check(crashes)


def chosen_hits(folder: Path, stage: Stage, chosen: Callable[[int], set[int]]) -> list[tuple[str, int]]:
    first = folder / "first"
    first.mkdir()
    passed = count_hits(first, stage(first))
    assert len(passed) >= 10
    return [(name, hit) for name in sorted(passed) for hit in sorted(chosen(passed[name]))]


def check(crashes: list[Crash]) -> None:
    happened = sum(crash.happened for crash in crashes)
    print(f"{len({crash.name for crash in crashes})} failpoints, {len(crashes)} hits, {happened} crashes")
    faulty = [crash for crash in crashes if crash.faults]
    assert not faulty, faulty
    # What runs at once is counted a little differently each time.
    assert happened > 0.6 * len(crashes)


# --- lives in processes of their own ------------------------------------------------------------
def in_a_process(folder: Path, scenario: Scenario, hook: Callable[[str], None] | None) -> tuple[int, int]:
    """Live once in a forked process; return its pid and how it ended, as `waitstatus_to_exitcode`."""
    output = os.open(folder / "output", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            os.dup2(output, 1)
            os.dup2(output, 2)
            threading.Timer(BOUND_S + 10, os._exit, (9,)).start()
            install(hook)
            scenario.life(folder).live()
            install(None)
            status = 0
        except BaseException:  # noqa: BLE001  (told by the parent)
            os.write(output, traceback.format_exc().encode())
        finally:
            os._exit(status)
    os.close(output)
    return pid, os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Count:
    """A hook that writes down every name that is passed."""

    def __init__(self, file: Path) -> None:
        self._fd = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def __call__(self, name: str) -> None:
        os.write(self._fd, name.encode() + b"\n")


def count_hits(folder: Path, scenario: Scenario) -> Counter[str]:
    """Live once, to the end, and return how often each failpoint was passed."""
    _, status = in_a_process(folder, scenario, Count(folder / "hits"))
    assert status == 0, (folder / "output").read_text()
    faults = scenario.faults(folder, set())
    assert not faults, faults
    return Counter(words(folder, "hits"))


class Crash(msgspec.Struct, frozen=True):
    """One crash: where, whether it happened, and what was wrong in the end."""

    name: str
    hit: int
    happened: bool
    faults: list[str]


def crash_at(folder: Path, scenario: Scenario, fuse: tuple[str, int]) -> Crash:
    """Die at this passing of a failpoint, live again, and judge."""
    name, hit = fuse
    folder.mkdir()
    pid, status = in_a_process(folder, scenario, Fuse(name, hit))
    happened = status == -9
    lives = 1
    while status != 0 and lives < 3:
        lives += 1
        _, status = in_a_process(folder, scenario, None)
    faults = scenario.faults(folder, {pid}) if status == 0 else [(folder / "output").read_text()]
    return Crash(name, hit, happened, faults)
