"""The example's commands, one module each. See README.md."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from importlib import import_module

from cicely import CicelyError
from examples.code_evaluation.client import Refused
from examples.code_evaluation.stage import be_lenient, forget_schedules

COMMANDS = {
    "tour": "HumanEval through the gateway, with wild programs and an executor away (the default)",
    "serve": "start everything and stay",
    "migrate": "move from the old queue to Cicely under load",
    "kills": "kill gateways, workers and executors at random under load",
    "burst": "a queue that grows from 100 to 10,000 in a minute",
    "exercises.traffic": "change the share of the new side live",
    "exercises.executor": "stop the executors",
    "exercises.slowest": "find what is slow",
    "exercises.workers": "add workers",
    "exercises.order": "who goes first",
}
#: What a command takes unless it is told otherwise: rate per second, and seconds.
PACES = {"migrate": (200.0, 4.0), "kills": (20.0, 120.0), "burst": (0.0, 60.0)}

_INTERRUPTED = 130
_PORTS = 1 << 16


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0 where every promise was kept."""
    words = "\n".join(f"  {name:<20} {what}" for name, what in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="python -m examples.code_evaluation",
        description=__doc__,
        epilog=f"commands:\n{words}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", nargs="?", default="tour", choices=COMMANDS, metavar="COMMAND")
    parser.add_argument("--keep", default="", metavar="FOLDER", help="leave the files there")
    parser.add_argument("--problems", type=_count, default=164, help="of HumanEval (tour)")
    parser.add_argument("--workers", type=_count, default=1, help="(serve)")
    parser.add_argument("--port", type=_port, default=0, help="of the gateway (serve); 0: any that is free")
    parser.add_argument("--rate", type=_positive, help="evaluations per second (migrate, kills)")
    parser.add_argument("--seconds", type=_positive, help="of each chapter (migrate), of all (kills, burst)")
    parser.add_argument("--peak", type=_count, default=10_000, help="evaluations that wait (burst)")
    parser.add_argument("--processes", default="2:8", help="of the worker, as it takes them (burst)")
    parser.add_argument("--seed", type=int, default=1, help="of the kills")
    parser.add_argument(
        "--lenient", type=_positive, default=1.0, metavar="N", help="a busy machine may take N times"
    )
    options = parser.parse_args(arguments)
    rate, seconds = PACES.get(options.command, (0.0, 0.0))
    options.rate = rate if options.rate is None else options.rate
    options.seconds = seconds if options.seconds is None else options.seconds
    be_lenient(options.lenient)
    try:
        return _run(options)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (CicelyError, Refused, TimeoutError) as error:
        sys.exit(f"{options.command}: {error}")


def _run(options: argparse.Namespace) -> int:
    code = int(import_module(f"examples.code_evaluation.{options.command}").main(options))
    if options.command != "serve":
        forget_schedules()
    return code


def _positive(word: str) -> float:
    value = float(word)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{word} is no number above 0")
    return value


def _count(word: str) -> int:
    value = int(word)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{word} is no number from 1")
    return value


def _port(word: str) -> int:
    value = int(word)
    if not 0 <= value < _PORTS:
        raise argparse.ArgumentTypeError(f"{word} is no port: 0 to {_PORTS - 1}")
    return value


if __name__ == "__main__":
    sys.exit(main())
