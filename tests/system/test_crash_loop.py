"""The process is killed at every hit of every failpoint in a scenario of 200 jobs: nothing is lost.

Invariants I1 (exactly one final state), I2 (for good), I3 (by a current token), I4 (one live claim), I6
(every attempt has a reason) and I7 (one id is one job: each life repeats all enqueues).
"""

from __future__ import annotations

import os
import shutil
import traceback
from pathlib import Path

import crash_scenario
import msgspec
import pytest
from crash_scenario import Crash, count_hits, crash_at

LANES = 3


def crash_everywhere(folder: Path, hits: list[tuple[str, int]]) -> list[Crash]:
    """Crash at each of these hits, in several processes at once."""
    lanes = [start_lane(folder, number, hits[number::LANES]) for number in range(LANES)]
    crashes: list[Crash] = []
    for number, pid in enumerate(lanes):
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        lines = (folder / f"lane-{number}").read_bytes().splitlines()
        crashes += [msgspec.json.decode(line, type=Crash) for line in lines]
    return crashes


def start_lane(folder: Path, number: int, hits: list[tuple[str, int]]) -> int:
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        with (folder / f"lane-{number}").open("wb") as file:
            for name, hit in hits:
                place = folder / f"{name}-{hit}"
                crash = crash_at(place, name, hit)
                file.write(msgspec.json.encode(crash) + b"\n")
                file.flush()
                if not crash.faults:
                    shutil.rmtree(place)
        status = 0
    except BaseException:  # noqa: BLE001  (a fork must not go on as a test)
        traceback.print_exc()
    finally:
        os._exit(status)


@pytest.mark.timeout(600)
def test_a_crash_at_any_failpoint_loses_nothing_and_runs_nothing_twice(folder):
    first = folder / "first"
    first.mkdir()
    passed = count_hits(first)
    hits = [(name, hit) for name in sorted(passed) for hit in range(1, passed[name] + 1)]

    crashes = crash_everywhere(folder, hits)

    print(f"{len(passed)} failpoints, {len(hits)} hits, {sum(c.happened for c in crashes)} crashes")
    assert len(passed) >= 10
    assert [crash for crash in crashes if crash.faults] == []
    assert len(crashes) == len(hits)
    # What runs at once is counted a little differently each time.
    assert sum(crash.happened for crash in crashes) > 0.8 * len(hits)


def test_the_scenario_has_200_jobs():
    assert len(crash_scenario.ALL) == 200
