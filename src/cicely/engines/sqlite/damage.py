"""Ends jobs whose row cannot be read."""

from __future__ import annotations

from typing import Final

from cicely.core.outcome import ErrorRecord, Finish
from cicely.core.states import State
from cicely.engines.contract import MALFORMED_REASON
from cicely.engines.sqlite.cascade import begin, conclude
from cicely.engines.sqlite.endings import Endings, rows_of
from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

_STEER: Final = statements("steer")


def park(txn: Transaction, n: int) -> None:
    """End a job whose row somebody damaged, so that it stays visible and stands in nobody's way."""
    raw = txn.row(_STEER["raw"], (n,))
    if raw is None:
        return
    texts = [bytes(text).decode(errors="replace") for text in raw]
    txn.execute(_STEER["mend"], (n, *texts))
    error = ErrorRecord("Malformed", "its stored row cannot be read; it was edited by hand?")
    endings = Endings(txn)
    for row in rows_of(txn, (n,)):
        step = Finish(State.FAILED, row.tallies, MALFORMED_REASON, error=error.encoded())
        endings.finish(row, step)
    conclude(begin(txn), endings)
