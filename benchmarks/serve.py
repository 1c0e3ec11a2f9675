"""A worker to be measured: `python -m benchmarks.serve PROCESSES`."""

from __future__ import annotations

import os
import sys

from benchmarks import counting
from cicely.worker.options import WorkerOptions
from cicely.worker.supervisor import Supervisor


def main() -> int:
    """Work until told to stop."""
    counting.install_if_asked()
    options = WorkerOptions(
        target="benchmarks.apps:app",
        processes=int(sys.argv[1]),
        python_path=(os.getcwd(),),
    )
    return Supervisor(options).run()


if __name__ == "__main__":
    sys.exit(main())
