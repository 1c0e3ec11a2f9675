"""The app: one evaluation as a flow of jobs.

`cicely worker examples.evaluation_pipeline.app:app` runs what `evaluation("run-1", size=500).delay()`
asks for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cicely import Cicely, Flow, current, group
from examples.evaluation_pipeline import samples
from examples.evaluation_pipeline.journal import Journal

#: The number of the sample that fails until somebody repairs it.
BROKEN = 7
#: So many samples share a machine.
AT_ONCE = 4

app = Cicely("evaluation_pipeline")


def evaluation(run: str, *, size: int) -> Flow:
    """Return an evaluation, to be enqueued with `delay()`.

    ::

        reserve -> fetch -> samples (one job each) -> aggregate -> notify
                               |                                     |
                               +-------------> release <-------------+

    `release` comes after the samples and the notification by the rule "done": when all of them have ended,
    however that was. The others come after success, which is the rule unless another is named.
    """
    flow = app.flow()
    reserved = flow.add(reserve.si(run))
    fetched = flow.add(fetch.si(run, size), after=reserved)
    scores = flow.add(
        group(evaluate.si(run, number) for number in range(size)), name="samples", after=fetched
    )
    report = flow.add(aggregate.s(run, scores))
    told = flow.add(notify.s(run, report))
    flow.add(release.si(run), after=[scores, told], on="done")
    return flow


@app.task(resources={"machine": 1})
def reserve(run: str) -> str:
    """Keep a machine for the run. Where none is free, the job waits; no slot is held meanwhile."""
    with journal(run).step("reserve"):
        current().reserve("machine")
        [machine] = current().resources["machine"]
        return machine


@app.task
def fetch(run: str, size: int) -> str:
    """Put the samples where all steps of the run find them."""
    with journal(run).step("fetch"):
        file = samples_file(run)
        file.write_text(json.dumps(samples.made(size, broken=BROKEN)))
        return str(file)


@app.task(resources={"machine": 1 / AT_ONCE})
def evaluate(run: str, number: int) -> bool:
    """Put one sample to the model, on the machine of the run.

    Where the run has none any more, because its worker was killed or the run was revived, the sample is
    given a part of a free one and keeps that for the run.
    """
    with journal(run).step(f"sample-{number}"):
        current().reserve("machine")
        return samples.is_right(json.loads(samples_file(run).read_text())[number])


@app.task
def aggregate(run: str, scores: list[bool]) -> dict[str, Any]:
    """Make one figure of all."""
    with journal(run).step("aggregate"):
        return {"samples": len(scores), "right": sum(scores), "accuracy": sum(scores) / len(scores)}


@app.task
def notify(run: str, report: dict[str, Any]) -> dict[str, Any]:
    """Tell people; here, those who read a file."""
    with journal(run).step("notify"), (folder(run) / "mail").open("a") as mail:
        mail.write(f"{run}: {report['right']} of {report['samples']} right\n")
        return report


@app.task(priority=9)
def release(run: str) -> None:
    """Give the machine back, before anything else is begun: others may wait for it.

    It may run more often than once: after each revival again.
    """
    with journal(run).step("release"):
        current().release("machine")


@app.task(resources={"machine": 2})
def inventory() -> list[str]:
    """Return the machines. It needs both, so it runs when no run has one."""
    return current().resources["machine"]


# --- where things are -----------------------------------------------------------------------------


def folder(run: str = "") -> Path:
    """Return where a run keeps its files."""
    place = Path(os.environ.get("EXAMPLE_FOLDER", Path(__file__).parent / ".cicely")) / run
    place.mkdir(parents=True, exist_ok=True)
    return place


def samples_file(run: str) -> Path:
    """Return the file with a run's samples."""
    return folder(run) / "samples.json"


def journal(run: str) -> Journal:
    """Return the journal of a run."""
    return Journal(folder(run))
