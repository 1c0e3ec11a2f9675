"""Moving a service from the queue it has to Cicely while it works, without losing a job.

`Migration` splits what is submitted between an old and a new side by a share that is changed live;
it compares what both make of the same jobs, drains the old side and verifies that every accepted
job ended on exactly one.
"""

from cicely.migration.accounts import Accounts, FileAccounts, MemoryAccounts
from cicely.migration.comparison import Comparison, Margins
from cicely.migration.migration import Migration
from cicely.migration.routing import Mode, Which
from cicely.migration.shares import EngineShares, FileShares, MemoryShares, Shares
from cicely.migration.sides import Standing
from cicely.migration.traffic import Phase, Traffic
from cicely.migration.verification import Verification

__all__ = [
    "Accounts",
    "Comparison",
    "EngineShares",
    "FileAccounts",
    "FileShares",
    "Margins",
    "MemoryAccounts",
    "MemoryShares",
    "Migration",
    "Mode",
    "Phase",
    "Shares",
    "Standing",
    "Traffic",
    "Verification",
    "Which",
]
