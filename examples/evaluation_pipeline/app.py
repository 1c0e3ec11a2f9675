"""The app: one evaluation as a flow of jobs.

`cicely worker examples.evaluation_pipeline.app:app` runs what `evaluation("run-1", size=500).delay()`
asks for.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from cicely import Cicely, Flow, Retry, group
from examples.evaluation_pipeline import samples
from examples.evaluation_pipeline.journal import Journal
from examples.evaluation_pipeline.pool import NoneFree, Pool

#: The number of the sample that fails until somebody repairs it.
BROKEN = 7
#: Other errors are final: a broken sample is not mended by trying again.
TILL_ONE_IS_FREE = Retry(on=NoneFree, attempts=100, backoff=5)

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


@app.task(retry=TILL_ONE_IS_FREE)
def reserve(run: str) -> str:
    """Take a machine for the run. Where none is free, try again later; no slot is held meanwhile."""
    with journal(run).step("reserve"):
        return pool().hold(run)


@app.task
def fetch(run: str, size: int) -> str:
    """Put the samples where all steps of the run find them."""
    with journal(run).step("fetch"):
        file = samples_file(run)
        file.write_text(json.dumps(samples.made(size, broken=BROKEN)))
        return str(file)


@app.task(retry=TILL_ONE_IS_FREE)
def evaluate(run: str, number: int) -> bool:
    """Put one sample to the model.

    After a revival this runs when the machine was given back already: `hold` takes one again then.
    """
    with journal(run).step(f"sample-{number}"):
        pool().hold(run)
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
def release(run: str) -> list[str]:
    """Give the machine back, before anything else is begun: others may wait for it.

    It may run more often than once: after each revival again.
    """
    with journal(run).step("release"):
        return pool().free(run)


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


def pool() -> Pool:
    """Return the machines, which all runs share."""
    return Pool(folder() / "machines.json")
