"""`python -m benchmarks`: measure Cicely on its engines at their defaults, beside the raw loops.

`compare` measures it beside its peers instead, `scaling` against its backlog and its workers, `profile` says
where the time goes; each of these commands has words of its own (`python -m benchmarks compare --help`).
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks import profile, report
from benchmarks.bench import QUICK, Bench, Figure, Sizes, say
from benchmarks.compare import command as compare
from benchmarks.grounds import ENGINES, ground_of
from benchmarks.machine import Machine
from benchmarks.measures.drain import Backlog, drain
from benchmarks.measures.enqueue import enqueue
from benchmarks.measures.flow import flow
from benchmarks.measures.held import Held
from benchmarks.measures.idle import idle
from benchmarks.measures.kill import kill
from benchmarks.measures.latency import latency
from benchmarks.measures.workflows import large_chord, workflows
from benchmarks.page import write_page
from benchmarks.scaling import command as scaling

REPEATS = 3

Measure = Callable[[Bench], list[Figure]]

#: Commands with words of their own.
OTHERS: dict[str, Callable[[Sequence[str]], None]] = {
    "compare": compare.main,
    "scaling": scaling.main,
    "profile": profile.main,
}


def main() -> None:
    """Measure, and print the table."""
    if (other := OTHERS.get(sys.argv[1] if len(sys.argv) > 1 else "")) is not None:
        other(sys.argv[2:])
        return
    options = _parser().parse_args()
    sizes = QUICK if options.quick else Sizes()
    # Not /tmp, which may be memory: what is measured is a disk that keeps what it was given.
    with tempfile.TemporaryDirectory(prefix="cicely-bench-", dir=options.folder) as name:
        folder = Path(name)
        machine = Machine.here(folder)
        tables = [_table(engine, folder, sizes=sizes, options=options) for engine in options.engines]
    result = report.Report(machine, sizes, tuple(tables))
    print(report.as_json(result) if options.json else report.as_text(result))
    if options.page:
        write_page(options.page, result)


def _table(engine: str, folder: Path, *, sizes: Sizes, options: argparse.Namespace) -> report.Table:
    """Measure one engine."""
    measures: dict[str, Measure] = {
        "drain": drain,
        "enqueue": enqueue,
        "latency": latency,
        "idle": idle,
        "kill": kill,
        "backlog": Backlog(),
        "workflows": workflows,
        "large_chord": large_chord,
        "flow": flow,
        "held": Held(),
    }
    chosen = {name: measures[name] for name in options.only or measures}
    own = folder / engine
    own.mkdir()
    say(f"on {engine}")
    with ground_of(engine, own, server=getattr(options, engine, "")) as ground:
        ground.clear()
        figures = _measure(chosen, Bench(own, sizes, ground), repeats=options.repeat)
        return report.Table(engine, ground.about, report.rows_of(engine, figures))


def _engines(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in ENGINES:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(ENGINES)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a backlog of 100,000, fewer samples")
    parser.add_argument("--engines", type=_engines, default=["sqlite"], help="sqlite,redis,postgres or fewer")
    parser.add_argument("--redis", default="", help="redis://host:port of a server that may be emptied")
    parser.add_argument("--postgres", default="", help="postgresql:// of a database whose schemas may go")
    parser.add_argument("--json", action="store_true", help="print every measurement as JSON")
    parser.add_argument("--repeat", type=int, default=REPEATS, help="repetitions (default 3)")
    parser.add_argument("--page", type=Path, help="write the results into this page of the docs")
    parser.add_argument("--folder", default="/var/tmp", help="where the files go: a local disk")
    parser.add_argument(
        "--only",
        nargs="+",
        choices=(
            "drain",
            "enqueue",
            "latency",
            "idle",
            "kill",
            "backlog",
            "workflows",
            "large_chord",
            "flow",
            "held",
        ),
        help="measure these alone",
    )
    return parser


def _measure(measures: dict[str, Measure], bench: Bench, *, repeats: int) -> list[Figure]:
    figures: list[Figure] = []
    for repeat in range(repeats):
        for name, measure in measures.items():
            say(f"{name}, {repeat + 1} of {repeats}")
            found = measure(bench)
            figures += found
            for figure in found:
                say(f"  {_shown(figure)}")
    return figures


def _shown(figure: Figure) -> str:
    text = f"{figure.line} {report.number(figure.value)}"
    if figure.raw is None or figure.ratio is None:
        return text
    return f"{text}, raw {report.number(figure.raw)}, ratio {figure.ratio:.2f}"


if __name__ == "__main__":
    main()
