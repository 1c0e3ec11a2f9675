"""The whole of it in one command: a broken sample, a killed worker, a repair and a revival. See README.md."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from cicely import CicelyError, FlowRun, JobCancelled, State
from examples.evaluation_pipeline.app import BROKEN, app, evaluation, inventory, journal, samples_file
from examples.worker import Worker

APP = "examples.evaluation_pipeline.app:app"
RUN = "run-1"
#: As many samples may be cut off by a kill, and no more.
PROCESSES = 4
#: What a worker has to offer.
MACHINES = "machine=machine-1,machine-2"
#: A worker that fell silent is given up after this, by the next one.
LEASE = "5s"
_ALL_MACHINES = "machine-1, machine-2"
_LOOK_S = 0.05
_PATIENCE_S = 120.0


@dataclass
class Show:
    """What is played, and what was promised of it."""

    size: int
    place: Path
    promises: list[tuple[str, str, bool]] = field(default_factory=list)

    def promise(self, what: str, found: object, *, wanted: object) -> None:
        """Note something that can be seen now, and whether it is as it should be."""
        self.promises.append((what, f"{found}", f"{found}" == f"{wanted}"))

    def worker(self) -> Worker:
        """Start a worker."""
        options = (f"--processes={PROCESSES}", "--threads=1", f"--resource={MACHINES}", f"--lease={LEASE}")
        return Worker(APP, *options, log=self.place / "worker.log")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 where every promise was kept."""
    options = _parsed(arguments)
    with ExitStack() as stack:
        place = Path(options.keep or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            _tell(f"--keep {place}: the folder is not empty; name a new one")
            return 2
        # The workers are told the same by their environment.
        os.environ["EXAMPLE_FOLDER"] = str(place)
        os.environ.setdefault("CICELY_URL", f"sqlite:///{quote(str(place))}/jobs.db")
        stack.callback(app.close)
        try:
            return _play(Show(size=options.samples, place=place))
        except CicelyError as error:
            _tell(str(error))
            return 2


def _play(show: Show) -> int:
    began_at = time.monotonic()
    run = evaluation(RUN, size=show.size).delay()
    _killed_half_way(show, run)
    _ended_with_a_failure(show, run)
    with show.worker():
        _repaired_and_revived(show, run)
    show.promises.append(("seconds", f"{time.monotonic() - began_at:.1f}", True))
    return _report(show.promises)


def _killed_half_way(show: Show, run: FlowRun) -> None:
    with show.worker() as worker:
        _await(lambda: run["samples"].completed_count() >= show.size // 2, "half of the samples")
        worker.kill()
    notes = journal(RUN)
    line = len(notes.lines())
    done = _samples_in(run, State.SUCCEEDED)
    cut_off = notes.counts("start").keys() - done - {"reserve", "fetch", f"sample-{BROKEN}"}
    _tell(f"{len(done)} of {show.size} samples are done: SIGKILL to the worker, and another one")

    with show.worker():
        _await(lambda: run["release"].state == State.SUCCEEDED, "the finaliser")
        show.promise("machines free after release", _free_machines(), wanted=_ALL_MACHINES)
    again = notes.counts("start", since=line)
    show.promise("done before the kill, run again", len(again.keys() & done), wanted=0)
    show.promise("cut off by the kill, run again", len(again.keys() & cut_off), wanted=len(cut_off))
    show.promise("run twice at once", notes.counts("overlap").total(), wanted=0)


def _ended_with_a_failure(show: Show, run: FlowRun) -> None:
    _tell(f"the run stands at {run.progress}")
    _tell(_why_cancelled(run["notify"]))
    show.promise("samples that succeeded", run["samples"].completed_count(), wanted=show.size - 1)
    show.promise("samples that failed for good", _samples_in(run, State.FAILED), wanted={f"sample-{BROKEN}"})
    show.promise("aggregate and notify", _states(run, "aggregate", "notify"), wanted="cancelled, cancelled")


def _repaired_and_revived(show: Show, run: FlowRun) -> None:
    line = len(journal(RUN).lines())
    _repair()
    run.revive()
    report: dict[str, Any] = run["notify"].get(_PATIENCE_S)
    _await(lambda: run["release"].state == State.SUCCEEDED, "the finaliser, once more")
    ran = sorted(journal(RUN).counts("start", since=line).elements())
    _tell(f"repaired and revived: {report['right']} of {report['samples']} are right")
    show.promise("run by the revival", ", ".join(ran), wanted=f"aggregate, notify, release, sample-{BROKEN}")
    show.promise("samples in the report", report["samples"], wanted=show.size)
    show.promise(
        "the run", run.progress, wanted=f"{show.size + 5} of {show.size + 5}: {show.size + 5} succeeded"
    )
    show.promise("machines free at the end", _free_machines(), wanted=_ALL_MACHINES)


def _repair() -> None:
    file = samples_file(RUN)
    samples = json.loads(file.read_text())
    samples[BROKEN] = {"question": "2 + 3 * 4", "answer": "14"}
    file.write_text(json.dumps(samples))


# --- what can be seen -----------------------------------------------------------------------------


def _samples_in(run: FlowRun, state: State) -> set[str]:
    jobs = run["samples"].children
    return {f"sample-{number}" for number, job in enumerate(jobs) if job.state == state}


def _free_machines() -> str:
    """Return the machines, once no run has one any more."""
    return ", ".join(inventory.delay().get(_PATIENCE_S))


def _states(run: FlowRun, *names: str) -> str:
    return ", ".join(str(run[name].state) for name in names)


def _why_cancelled(job: Any) -> str:
    try:
        job.get(_PATIENCE_S)
    except JobCancelled as error:
        return f"{error}\n  because of {str(error.__cause__).partition(chr(10))[0]}"
    return f"{job.id} was not cancelled"


def _await(condition: Callable[[], bool], what: str) -> None:
    give_up_at = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"{what}: not within {_PATIENCE_S:g} s")
        time.sleep(_LOOK_S)


def _report(promises: list[tuple[str, str, bool]]) -> int:
    for what, found, is_kept in promises:
        print(f"{what:<40}{found}{'' if is_kept else '   NOT AS PROMISED'}")
    return 0 if all(is_kept for _, _, is_kept in promises) else 1


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.evaluation_pipeline", description=__doc__)
    parser.add_argument("--samples", type=int, default=500)
    parser.add_argument("--keep", default="", metavar="FOLDER", help="leave the files there")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
