"""`python -m cicely.testing.trial`: a budget of tokens shared by many processes, and two users.

One user has 10,000 calls waiting; another comes with one. Told is how much of the budget was used, how
many calls the provider refused, and how long the second user waited.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from cicely.testing.trial.run import Plan, run


def main() -> int:
    """Run the trial; 1 where a figure is out of its bounds."""
    parser = argparse.ArgumentParser(prog="python -m cicely.testing.trial", description=__doc__)
    parser.add_argument("--url", default="", help="the engine; default: a file of its own")
    parser.add_argument("--processes", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=100_000, help="of each period")
    parser.add_argument("--period", type=float, default=60.0, help="seconds")
    parser.add_argument("--estimate", type=int, default=500, help="tokens of one call")
    parser.add_argument("--latency", type=float, default=2.0, help="seconds of one call")
    parser.add_argument("--seconds", type=float, default=180.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cicely-trial-") as folder:
        plan = Plan(
            url=given.url or f"sqlite:///{folder}/jobs.db",
            processes=given.processes,
            tokens=given.tokens,
            period_s=given.period,
            estimate=given.estimate,
            latency_s=given.latency,
            seconds=given.seconds,
        )
        began = time.monotonic()
        result = run(plan, Path(folder))
    lines = (
        f"calls               {result.calls}",
        f"refused             {result.refused_share:.2%} (at most 1 %)",
        f"budget used         {result.used_share:.1%} (at least 95 %)",
        f"second user waited  {result.second_user_waited_s:.2f} s (at most 5 s)",
        f"took                {time.monotonic() - began:.0f} s",
    )
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if result.is_good else 1


if __name__ == "__main__":
    sys.exit(main())
