"""The whole of it in one command: build, serve, and swap while people search. See README.md."""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import median
from urllib.parse import quote

from cicely import CicelyError
from examples.embedding_index import corpus, library
from examples.embedding_index.app import app, clean_up, rebuild, statistics
from examples.embedding_index.visitors import Judgement, Server, Visitors, judge
from examples.worker import Worker

LEAST_PASSAGES = 10_000
QUESTIONS = 200
QUESTION_WORDS = 6
#: What changes from one version to the next: every 20th passage is missing, another one each time.
MISSING = 20
_PATIENCE_S = 120


@dataclass
class Run:
    """What was measured."""

    passages: int
    seconds: list[float] = field(default_factory=list)

    def rate(self) -> float:
        """Return the passages per second of the median rebuild, from its request to the first answer."""
        return self.passages / median(self.seconds)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the example; return 0 where every promise was kept."""
    options = _parsed(arguments)
    with ExitStack() as stack:
        place = Path(options.keep or stack.enter_context(tempfile.TemporaryDirectory())).resolve()
        place.mkdir(parents=True, exist_ok=True)
        if any(place.iterdir()):
            _tell(f"--keep {place}: the folder is not empty; name a new one")
            return 2
        # The worker and the server are told the same by their environment.
        os.environ["EXAMPLE_FOLDER"] = str(place / "library")
        os.environ.setdefault("CICELY_URL", f"sqlite:///{quote(str(place))}/jobs.db")
        stack.callback(app.close)
        try:
            return _run(options, place)
        except CicelyError as error:
            _tell(str(error))
            return 2


def _run(options: argparse.Namespace, place: Path) -> int:
    passages = _collected(options.passages)
    run = Run(passages=len(passages) - len(passages) // MISSING)
    questions = _questions(passages)
    with Worker(
        "examples.embedding_index.app:app", f"--processes={options.processes}", log=place / "worker.log"
    ):
        _build(passages, edition=0)
        with Server(place / "server.log") as server, Visitors(server.port, questions) as visitors:
            for edition in range(1, options.swaps + 1):
                began_at = time.monotonic()
                version = _build(passages, edition=edition)
                visitors.await_version(version)
                run.seconds.append(time.monotonic() - began_at)
                _tell(f"swap {edition:2}: version {version} answers after {run.seconds[-1]:.2f} s")
        judgement = judge(visitors.answers)
        served = statistics.delay().get(_PATIENCE_S)
        pruned = clean_up.delay().get(_PATIENCE_S)
    _forget_schedules()
    return _report(options, run, visitors, judgement=judgement, versions=(served["versions"], len(pruned)))


def _collected(most: int) -> list[str]:
    began_at = time.monotonic()
    passages = list(islice(corpus.collect(), most or None))
    _tell(f"{len(passages):,} passages collected in {time.monotonic() - began_at:.1f} s")
    return passages


def _build(passages: list[str], *, edition: int) -> str:
    corpus.write(one for number, one in enumerate(passages) if number % MISSING != edition % MISSING)
    return str(rebuild.delay().get(_PATIENCE_S))


def _forget_schedules() -> None:
    """Leave none in an engine that was there before: no worker of this app would see to its ticks."""
    for schedule in app.schedules():
        if schedule.name in app.declared_schedules():
            schedule.remove()


def _questions(passages: list[str]) -> list[str]:
    chosen = random.Random(7).sample(passages, min(QUESTIONS, len(passages)))
    return [" ".join(passage.split()[1 : 1 + QUESTION_WORDS]) for passage in chosen]


def _report(
    options: argparse.Namespace,
    run: Run,
    visitors: Visitors,
    *,
    judgement: Judgement,
    versions: tuple[int, int],
) -> int:
    search = "exact, NumPy" if library.load(library.current()).approximate is None else "faiss, a graph"
    lines = [
        ("engine", app.url.partition(":")[0], True),
        ("passages in each version", f"{run.passages:,}", options.passages or run.passages >= LEAST_PASSAGES),
        ("hot swaps", f"{len(run.seconds)}", len(run.seconds) == options.swaps),
        ("passages per second, end to end", f"{run.rate():,.0f}", run.rate() >= options.at_least),
        ("slowest rebuild", f"{max(run.seconds):.2f} s", True),
        ("queries answered", f"{judgement.answers:,}", judgement.answers > 0),
        ("versions among the answers", f"{len(judgement.versions)}", len(judgement.versions) > options.swaps),
        ("queries failed", f"{len(visitors.failures)}", not visitors.failures),
        ("answers of two versions", f"{len(judgement.mixed)}", not judgement.mixed),
        (f"recall of 10 ({search})", f"{judgement.recall:.3f}", judgement.recall >= options.recall),
        ("versions kept, then pruned", f"{versions[0]}, {versions[1]}", True),
    ]
    for what, value, is_kept in lines:
        print(f"{what:<42}{value:>20}{'' if is_kept else '   NOT AS PROMISED'}")
    for sentence in (*visitors.failures[:3], *judgement.mixed[:3]):
        _tell(sentence)
    return 0 if all(is_kept for _, _, is_kept in lines) else 1


def _parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m examples.embedding_index", description=__doc__)
    parser.add_argument("--passages", type=int, default=0, help="only so many; 0: all")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--processes", type=int, default=2, help="of the worker")
    parser.add_argument("--at-least", type=float, default=1_000, help="passages per second")
    parser.add_argument("--recall", type=float, default=0.9, help="the least that will do")
    parser.add_argument("--keep", default="", metavar="FOLDER", help="leave the files there")
    return parser.parse_args(arguments)


def _tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
