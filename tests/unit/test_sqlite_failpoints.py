"""Every write verb passes a named place before and after its commit, where a test may kill it."""

import subprocess
import sys
import textwrap
import timeit

import pytest

from cicely.core import failpoints
from cicely.core.failpoints import failpoint
from cicely.engines.sqlite.engine import SqliteEngine

LIFE = """
    import sys
    from cicely.core.job import Kind, NewJob
    from cicely.core.outcome import Succeeded
    from cicely.engines.contract import Ask, Demand, Save, Session
    from cicely.engines.sqlite.engine import SqliteEngine

    engine = SqliteEngine(sys.argv[1])
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    engine.enqueue([NewJob(id=x, task="work", kind=Kind.SYNC, queue="main") for x in "ab"])
    demand = Demand(b"request1", ("main",), (Ask((Kind.SYNC,), 1),))
    [claim] = engine.claim("s", demand).claims
    engine.save("s", [Save(claim.token, progress=b"half")])
    engine.beat({"s": [claim.token]})
    engine.settle("s", [Succeeded(claim.token)])
    engine.retire("s")
    engine.sweep(10)
    engine.steer("cancel", ["b"])
    engine.pause("main")
    engine.resume("main")
    engine.put_blob("a", "digest", b"data")
"""

VERBS = [
    "join",
    "enqueue",
    "claim",
    "save",
    "beat",
    "settle",
    "retire",
    "sweep",
    "steer",
    "pause",
    "resume",
    "put_blob",
]


def _run(path: str, **environment: str) -> int:
    command = [sys.executable, "-c", textwrap.dedent(LIFE), path]
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode


def test_every_write_verb_passes_a_place_before_and_after_its_commit(tmp_path):
    log = tmp_path / "passed"

    assert _run(str(tmp_path / "jobs.db"), CICELY_FAILPOINTS_LOG=str(log)) == 0

    expected = [f"sqlite.{verb}.{when}_commit" for verb in VERBS for when in ("before", "after")]
    assert log.read_text().split() == expected


@pytest.mark.parametrize(("when", "is_stored"), [("before", False), ("after", True)])
def test_a_process_that_dies_at_a_commit_leaves_all_or_nothing(tmp_path, when, is_stored):
    path = str(tmp_path / "jobs.db")

    status = _run(path, CICELY_FAILPOINT=f"sqlite.enqueue.{when}_commit:1")

    assert status == -9
    engine = SqliteEngine(path)
    assert [job is not None for job in engine.get(["a", "b"])] == [is_stored, is_stored]
    engine.close()


def test_a_process_can_be_killed_at_a_later_passing():
    code = "from cicely.core.failpoints import failpoint as f; f('x'); f('y'); f('x'); print('alive')"

    run = subprocess.run(
        [sys.executable, "-c", code], env={"CICELY_FAILPOINT": "x:2"}, capture_output=True, check=False
    )

    assert (run.returncode, run.stdout) == (-9, b"")


def test_a_hook_hears_the_names_until_it_is_removed():
    heard: list[str] = []

    failpoints.install(heard.append)
    failpoint("here")
    failpoints.install(None)
    failpoint("there")

    assert heard == ["here"]


def test_a_place_without_a_hook_costs_next_to_nothing():
    best_s = min(timeit.repeat(lambda: failpoint("here"), number=10_000, repeat=20)) / 10_000

    assert best_s < 1e-6
