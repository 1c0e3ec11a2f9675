"""How a worker runs, as its command line or its caller says."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from cicely.core.resources import Amounts
from cicely.core.scaling import ScaleRule
from cicely.worker.queues import Groups


class WorkerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a worker runs. `groups` are queues with weights; empty: all that the app declares.

    It has `processes` children, or with the backlog up to `most_processes` where that is more.

    `grace_s` is the time that running jobs get after the first SIGTERM, `cancel_grace_s` after a
    cancellation; then their process is killed. `url` overrides the app's own. `offers` are the resources
    that its jobs share; of jobs with a tag of one of the names in `accepts` it takes only those with one of
    its values.
    """

    target: str
    url: str = ""
    groups: Groups = ()
    processes: int = 2
    most_processes: int = 0
    threads: int = 1
    coroutines: int = 100
    max_jobs: int = 0
    max_rss_bytes: int = 0
    lease_s: float = 30.0
    grace_s: float = 8.0
    cancel_grace_s: float = 5.0
    name: str = ""
    python_path: tuple[str, ...] = ()
    offers: Amounts = {}
    accepts: Mapping[str, tuple[str, ...]] = {}

    @property
    def scale(self) -> ScaleRule:
        """How many children it has."""
        return ScaleRule(least=self.processes, most=max(self.processes, self.most_processes))
