"""Every write verb passes a named place before and after its commit, where a test may kill it."""

import subprocess
import sys
import textwrap
import timeit
from collections import Counter

import pytest

from cicely.core import failpoints
from cicely.core.failpoints import failpoint
from cicely.core.job import Kind
from cicely.core.outcome import Succeeded
from cicely.core.states import State
from cicely.engines.contract import Ask, Demand
from cicely.engines.sqlite.engine import SqliteEngine

LIFE = """
    import sys
    from cicely.core.job import Kind, NewJob
    from cicely.core.edge import Edge
    from cicely.core.outcome import Succeeded
    from cicely.engines.contract import Ask, Demand, Save, Schedule, Session
    from cicely.engines.sqlite.engine import SqliteEngine

    engine = SqliteEngine(sys.argv[1])
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    engine.enqueue([NewJob(id=x, task="work", kind=Kind.SYNC, queue="main") for x in "ab"])
    demand = Demand(b"request1", ("main",), (Ask((Kind.SYNC,), 1),))
    [claim] = engine.claim("s", demand).claims
    engine.save("s", [Save(claim.token, progress=b"half")])
    engine.beat({"s": [claim.token]}, 1)
    engine.settle("s", [Succeeded(claim.token)])
    engine.retire("s")
    engine.sweep(10)
    engine.steer("cancel", ["b"])
    engine.pause("main")
    engine.resume("main")
    engine.put_blob("a", "digest", b"data")
    engine.publish("w")
    engine.signal("e", "go", "key", b"value")
    schedule = Schedule(name="nightly", spec=b"", next_at=1.0)
    engine.put_schedule(schedule)
    engine.tick(schedule, schedule, [])
    engine.drop_schedule("nightly")
"""

#: A job before many, whose end takes more than one call.
FAN_OUT = """
    import sys
    from cicely.core.edge import Edge
    from cicely.core.job import Kind, NewJob
    from cicely.core.outcome import Succeeded
    from cicely.engines.contract import Ask, Demand, Session
    from cicely.engines.sqlite.engine import SqliteEngine

    engine = SqliteEngine(sys.argv[1])
    engine.join(Session(id="s", worker="s", tasks=frozenset({"work"})))
    names = [f"n{n}" for n in range(600)]
    options = dict(task="work", kind=Kind.SYNC, queue="main", workflow="w")
    jobs = [NewJob(id=x, held=x == "a", **options) for x in ("a", *names)]
    engine.enqueue(jobs, [Edge("a", x) for x in names])
    engine.publish("w")
    [claim] = engine.claim("s", Demand(b"request1", ("main",), (Ask((Kind.SYNC,), 1),))).claims
    engine.settle("s", [Succeeded(claim.token)])
    while engine.sweep(100).more:
        pass
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
    "publish",
    "signal",
    "put_schedule",
    "tick",
    "drop_schedule",
]

#: Places within a verb, where it has written some of what belongs together.
WITHIN = ["sqlite.publish.before_release", "sqlite.end.before_release", "sqlite.intent.after_page"]


def _run(path: str, *, life: str = LIFE, **environment: str) -> int:
    command = [sys.executable, "-c", textwrap.dedent(life), path]
    return subprocess.run(command, env=environment, check=False, timeout=60).returncode


def test_every_write_verb_passes_a_place_before_and_after_its_commit(tmp_path):
    log = tmp_path / "passed"

    assert _run(str(tmp_path / "jobs.db"), CICELY_FAILPOINTS_LOG=str(log)) == 0

    expected = [f"sqlite.{verb}.{when}_commit" for verb in VERBS for when in ("before", "after")]
    assert [name for name in log.read_text().split() if name not in WITHIN] == expected


@pytest.mark.parametrize(("when", "is_stored"), [("before", False), ("after", True)])
def test_a_process_that_dies_at_a_commit_leaves_all_or_nothing(tmp_path, when, is_stored):
    path = str(tmp_path / "jobs.db")

    status = _run(path, CICELY_FAILPOINT=f"sqlite.enqueue.{when}_commit:1")

    assert status == -9
    engine = SqliteEngine(path)
    assert [job is not None for job in engine.get(["a", "b"])] == [is_stored, is_stored]
    engine.close()


@pytest.mark.parametrize("place", WITHIN)
def test_a_process_that_dies_within_a_verb_leaves_what_was_whole(tmp_path, place):
    path = str(tmp_path / "jobs.db")
    many = Counter({State.SUCCEEDED: 1, State.READY: 600})

    assert _run(path, life=FAN_OUT, CICELY_FAILPOINT=f"{place}:1") == -9

    engine = SqliteEngine(path)
    engine.publish("w")
    demand = Demand(b"request1", ("main",), (Ask((Kind.SYNC,), 1),))
    for claim in engine.claim("s", demand).claims:
        if claim.job_id == "a":
            engine.settle("s", [Succeeded(claim.token)])
    while engine.sweep(100).more:
        pass
    assert Counter(engine.queues()[0].counts) - Counter({State.RUNNING: 1}) in (
        many,
        many - Counter({State.READY: 1}),
    )
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
