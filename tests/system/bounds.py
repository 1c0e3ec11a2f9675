"""How strictly times are judged: CICELY_EXACT=1, on a machine with nothing else to do, or leniently."""

from __future__ import annotations

import os
from typing import Final

IS_EXACT: Final = os.environ.get("CICELY_EXACT", "") == "1"

#: Stated times are multiplied by this: `make test` runs on shared machines.
LENIENCY: Final = 1 if IS_EXACT else 3

#: How long the load test drains, with a reader open all the while.
DRAIN_S: Final = 60.0 if IS_EXACT else 10.0

#: The longer counts of `make torture`, where `make test` makes do with a tenth.
IS_FULL: Final = os.environ.get("CICELY_FULL", "") == "1"
