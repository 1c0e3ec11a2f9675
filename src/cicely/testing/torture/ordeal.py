"""A torture from beginning to end: quiet, then faults, then outages of the server, then the judgement."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable
from typing import Final

import msgspec

from cicely.engines.connect import redacted
from cicely.testing.torture.campaign import Campaign
from cicely.testing.torture.faults import DURING_OUTAGES, TO_NETWORKS, TO_PROCESSES, Faults, Server
from cicely.testing.torture.report import Report

Announce = Callable[[str], None]

_SAY_EVERY_S: Final = 10.0
#: Nothing may stand still for longer than this, a lease of an outage and the watching of it included.
_REST_S: Final = 90.0
#: The share of faults that hit a producer instead of a worker.
_PRODUCER_KILLS: Final = 0.04
#: An outage is shorter than this, so that nobody loses a claim by it.
OUTAGE_LEASE_S: Final = 30.0
#: Between outages.
_UP_S: Final = (0.5, 3.0)
_LONGEST: Final = 3


class Wanted(msgspec.Struct, frozen=True):
    """How much of what. `seconds` of faults at least, and `child_kills` and `supervisor_kills` of them.

    `outages` of the server follow. `idle_jobs` run before all that, while nothing is done to anybody, and
    then `due_jobs`, each at its time.
    """

    seconds: float = 120.0
    child_kills: int = 0
    supervisor_kills: int = 0
    outages: int = 0
    idle_jobs: int = 10_000
    due_jobs: int = 0


class Ordeal:
    """What a campaign goes through."""

    def __init__(self, campaign: Campaign, wanted: Wanted, *, announce: Announce) -> None:
        self._campaign = campaign
        self._wanted = wanted
        self._announce = announce
        self._random = random.Random(campaign.seed)  # noqa: S311  (repeatable by its seed)
        self._say_at = 0.0

    def torment(self) -> None:
        """Inject faults at random instants while a producer goes on."""
        wanted, campaign = self._wanted, self._campaign
        faults = [*TO_PROCESSES, *TO_NETWORKS] if campaign.has_networks else TO_PROCESSES
        self._announce(f"now {wanted.seconds:g} s of faults")
        campaign.start_producer()
        began_at = time.monotonic()
        over_at = began_at + wanted.seconds
        while (now := time.monotonic()) < over_at or (
            not self._has_enough() and now < began_at + _LONGEST * wanted.seconds
        ):
            self._strike(faults)
            self._wait(self._random.uniform(0.02, 0.45))
        self._campaign.saboteur.end()

    def _has_enough(self) -> bool:
        counts = self._campaign.saboteur.counts
        return (
            counts["child killed"] >= self._wanted.child_kills
            and counts["supervisor killed"] >= self._wanted.supervisor_kills
        )

    def suffer_outages(self) -> None:
        """Kill the server time and again, and children and supervisors meanwhile."""
        campaign, saboteur = self._campaign, self._campaign.saboteur
        self._announce(f"now {self._wanted.outages} outages of the server")
        campaign.begin_anew(lease_s=OUTAGE_LEASE_S)
        for _ in range(self._wanted.outages):
            saboteur.kill_server()
            while saboteur.is_server_down:
                self._wait(self._random.uniform(0.2, 1.5))
                self._strike(DURING_OUTAGES)
            self._wait(self._random.uniform(*_UP_S))
            self._strike(DURING_OUTAGES)
        saboteur.end()

    def _strike(self, faults: Faults) -> None:
        if self._random.random() < _PRODUCER_KILLS:
            self._campaign.kill_producer()
        else:
            self._campaign.saboteur.strike(faults)

    def _wait(self, seconds: float) -> None:
        over_at = time.monotonic() + seconds
        while (now := time.monotonic()) < over_at:
            self._campaign.saboteur.relent()
            self._campaign.replace_the_ended()
            if now >= self._say_at:
                self._say_at = now + _SAY_EVERY_S
                self._announce(self._standing())
            time.sleep(0.02)

    def _standing(self) -> str:
        faults = sum(self._campaign.saboteur.counts.values())
        return f"{len(self._campaign.acknowledged()):,} jobs accepted, {faults} faults injected"


def run(
    url: str,
    wanted: Wanted | None = None,
    *,
    seed: int | None = None,
    server: Server | None = None,
    announce: Announce = lambda line: None,
) -> Report:
    """Torture the engine at `url` with real processes, and judge it; `server` is killed where it is given.

    What the workers said and the ledger stay in a folder that is named where a promise was broken,
    and are deleted otherwise.
    """
    wanted = wanted or Wanted()
    chosen = random.SystemRandom().randrange(1 << 31) if seed is None else seed
    with Campaign(url, seed=chosen, server=server) as campaign:
        announce(f"seed {chosen}; {len(campaign.workers)} workers on {redacted(url)}")
        ordeal = Ordeal(campaign, wanted, announce=announce)
        if wanted.idle_jobs:
            announce(f"first {wanted.idle_jobs:,} jobs while nothing is done to anybody")
            campaign.run_idle(wanted.idle_jobs, within_s=_REST_S)
        if wanted.due_jobs:
            announce(f"then {wanted.due_jobs:,} jobs that are due one after the other")
            campaign.run_due(wanted.due_jobs, within_s=_REST_S)
        ordeal.torment()
        if server is not None and wanted.outages:
            ordeal.suffer_outages()
        campaign.end_producers()
        announce("no more faults; waiting until every job has ended")
        still_moving = campaign.await_rest(within_s=_REST_S)
        campaign.take_stock(within_s=_REST_S)
        campaign.stop_workers()
        report = campaign.report(still_moving=still_moving)
    if report.is_clean:
        shutil.rmtree(campaign.folder)
    else:
        announce(f"what was said and done is in {campaign.folder}")
    return report
