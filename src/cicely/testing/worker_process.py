"""A worker as a program, for `fleet`: its options are one argument, in JSON."""

from __future__ import annotations

import logging
import sys

import msgspec

from cicely.worker.options import WorkerOptions
from cicely.worker.supervisor import Supervisor


def main(spec: str) -> int:
    """Run a worker until it is told to stop; return its exit code."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(process)d %(levelname)s %(message)s")
    options = msgspec.json.decode(spec, type=WorkerOptions)
    return Supervisor(options, announce=_announce).run()


def _announce(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
