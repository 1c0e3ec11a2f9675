"""The whole migration under load: 50 %, comparison, 90 %, a fault, roll-back, 100 %, drain, verify."""

from __future__ import annotations

import argparse
import math
import os
import time
from collections import Counter
from pathlib import Path

from cicely import Filter, State
from cicely.core.job import Job
from cicely.migration import Margins
from examples.code_evaluation import moving
from examples.code_evaluation.app import FAULT_VARIABLE, app, evaluate
from examples.code_evaluation.crew import Service
from examples.code_evaluation.load import Load, plain
from examples.code_evaluation.stage import Promises, forget_share, lenient, run_name, stage, tell, wait_for

#: Failures among so many evaluations that ended last are enough to go back.
ALARM = 5
#: A process may measure more memory than another one for the same program, and a busy machine is slow.
DURATION_S, MEMORY_BYTES = 0.5, 8 << 20
DRAIN_S = 120.0
_FOLLOWED_S = 1.1


def main(options: argparse.Namespace) -> int:
    """Play it; return 0 where every promise was kept."""
    with stage(options.keep) as folder:
        fault = folder / "fault"
        name = f"evaluations-{run_name()}"
        os.environ |= {FAULT_VARIABLE: str(fault), moving.NAME_VARIABLE: name}
        with Service(folder, executors=0, gateways=2, old=True) as service:
            story = Story(service, fault, rate=options.rate, phase_s=options.seconds)
            code = story.play()
        forget_share(name)
        return code


class Story:
    """Its chapters, each of which lasts some seconds."""

    def __init__(self, service: Service, fault: Path, *, rate: float, phase_s: float) -> None:
        self._service = service
        self._fault = fault
        self._phase_s = phase_s
        self._run = run_name()
        self._operator = moving.migration()
        self._load = Load([one.url for one in service.gateways], run=self._run, rate=rate)
        self._promises = Promises()
        self._margins = Margins(duration_s=lenient(DURATION_S), memory_bytes=MEMORY_BYTES)

    def play(self) -> int:
        """Play all chapters; return 0 where every promise was kept."""
        with self._load:
            self._split(0)
            self._split(50)
            self._compare()
            self._go_back_from(90)
            self._split(100)
            self._drain()
        self._verify()
        return self._promises.report()

    def _split(self, percent: float) -> None:
        """Let a share of the traffic go to the new side, and look at what the callers were told."""
        self._operator.set(percent)
        time.sleep(_FOLLOWED_S)
        before = len(self._load.acknowledged)
        time.sleep(self._phase_s)
        sides = Counter(list(self._load.acknowledged.values())[before:])
        found = 100 * sides["new"] / max(1, sides.total())
        tell(f"{percent:3} % asked for: {found:.1f} % of {sides.total()} went to the new side")
        # Four times the deviation that chance has in so few jobs.
        points = 4 * math.sqrt(percent * (100 - percent) / max(1, sides.total()))
        self._promises.bound(f"distance from {percent} %", abs(found - percent), most=points, unit="points")

    def _compare(self) -> None:
        """Run some jobs on both sides at the same rate, and compare what they made of them."""
        both = moving.migration(mode="shadow")
        count = int(self._load.rate)
        for number in range(count):
            eval_id = f"{self._run}-shadow-{number}"
            both.submit(
                eval_id, {"eval_id": eval_id, "code": plain(number), "language": "python"}, key=eval_id
            )
            time.sleep(0.5 / self._load.rate)
        wait_for(lambda: not both.compare(self._margins).waiting, what="the end of the copies")
        comparison = both.compare(self._margins)
        tell(str(comparison))
        self._promises.promise(
            "jobs alike on both sides", comparison.compared - len(comparison.differing), wanted=count
        )

    def _go_back_from(self, percent: float) -> None:
        """Break the new side at a large share, notice it, and go back to 0."""
        self._operator.set(percent)
        time.sleep(_FOLLOWED_S)
        began_at = time.time()
        self._fault.touch()
        tell(f"{percent:3} %, and the new side is broken")
        wait_for(lambda: self._failures(since=began_at) >= ALARM, what="failures on the new side")
        self._operator.set(0)
        tell(f"{self._failures(since=began_at)} failures after {time.time() - began_at:.1f} s: back to 0 %")
        time.sleep(_FOLLOWED_S)
        before = len(self._load.acknowledged)
        time.sleep(self._phase_s)
        sides = Counter(list(self._load.acknowledged.values())[before:])
        self._promises.promise("to the new side after the roll-back", sides["new"], wanted=0)
        self._fault.unlink()
        tell(f"mended: {self._revive()} evaluations that had failed are run again")

    def _drain(self) -> None:
        began_at = time.monotonic()
        left = self._operator.drain(lenient(DRAIN_S))
        tell(f"the old side is worked off after {time.monotonic() - began_at:.1f} s; traffic goes on")
        self._promises.promise("left on the old side", len(left), wanted=0)

    def _verify(self) -> None:
        # An attempt that met the fault may have told of it after the others were revived.
        wait_for(
            lambda: not (self._revive() or self._operator.verify().pending),
            what="the end of the accepted jobs",
        )
        found = self._operator.finish()
        known = self._service.folder / "book"
        book = known.read_text()
        unwritten = [eval_id for eval_id in self._load.acknowledged if f'"{eval_id}"' not in book]
        self._promises.promise("acknowledged and not in the book", len(unwritten), wanted=0)
        self._promises.promise("failed in the end", self._failures(), wanted=0)
        self._promises.note("accepted", found.accepted)
        self._promises.note("old", found.old)
        self._promises.promise("new", found.new, wanted=found.accepted - found.old)
        self._promises.promise("both", len(found.both), wanted=0)
        self._promises.promise("lost", len(found.lost), wanted=0)

    def _failures(self, since: float = 0.0) -> int:
        return sum(1 for record in self._failed() if record.ended_at and record.ended_at >= since)

    def _revive(self) -> int:
        """Run again what failed; return how many."""
        return sum(app.revive(record.id, reason="the fault is mended") for record in self._failed())

    def _failed(self) -> list[Job]:
        """Return the evaluations of this run that failed; others may be in the engine as well."""
        where = Filter(task=evaluate.name, states=(State.FAILED,))
        return [record for record in app.records(where) if record.id.startswith(self._run)]
