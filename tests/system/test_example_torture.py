"""`examples/code_evaluation` under load: kills at random, a burst, the whole migration.

`make test` has each in a small size on SQLite; `make torture` (CICELY_FULL=1) in full, on each engine.
"""

from __future__ import annotations

import pytest
from backends import NAMES, empty_place, server
from bounds import IS_FULL, LENIENCY
from example_runs import Ran, run_example

WITHIN_S = 1_500.0 if IS_FULL else 90.0

pytestmark = [
    pytest.mark.timeout(WITHIN_S + 60),
    pytest.mark.parametrize("engine", ["sqlite", *NAMES] if IS_FULL else ["sqlite"]),
]


def run(engine: str, *words: str) -> Ran:
    url = "" if engine == "sqlite" else empty_place(engine, server(engine))
    ran = run_example("code_evaluation", *words, f"--lenient={LENIENCY}", url=url, within_s=WITHIN_S)
    assert ran.code == 0, ran.said
    return ran


def test_whatever_is_killed_what_was_accepted_is_finished_once(engine):
    ran = run(engine, "kills", *([] if IS_FULL else ["--seconds=1", "--rate=15"]))

    assert "worker" in ran.table["kills"]
    assert ran.table["accepted"] == ran.table["finished"] == ran.table["ends that the engine counted"]
    assert ran.table["finished twice"] == "0"


def test_a_queue_that_fills_is_held_and_drained_and_premium_passes_by(engine):
    ran = run(engine, "burst", *([] if IS_FULL else ["--peak=200", "--seconds=2"]))

    assert sum(line.startswith("p99 of ") for line in ran.table) == len(["grows", "holds", "is drained"])


def test_the_service_is_moved_under_load_and_nothing_is_lost(engine):
    ran = run(engine, "migrate", *([] if IS_FULL else ["--rate=20", "--seconds=0.5"]))

    assert ran.table["jobs alike on both sides"] == ("200" if IS_FULL else "20")
    assert ran.table["both"] == ran.table["lost"] == "0"
    assert int(ran.table["accepted"]) == int(ran.table["old"]) + int(ran.table["new"])
