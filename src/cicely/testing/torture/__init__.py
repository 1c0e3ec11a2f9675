"""Torture: an engine with real workers under it, which are killed and stopped at random.

For users too: `cicely torture --url URL --minutes 10` says what the ledger found.
"""

from __future__ import annotations

from cicely.testing.torture.campaign import Campaign
from cicely.testing.torture.ordeal import Wanted, run
from cicely.testing.torture.report import Report

__all__ = ["Campaign", "Report", "Wanted", "run"]
