"""The verbs of blobs: values too large for a row, watched until their job is stored."""

from __future__ import annotations

from typing import Final, cast

from cicely.engines.postgres.statements import statements
from cicely.engines.postgres.transaction import Transaction

_SQL: Final = statements("blob")

ORPHAN_S: Final = 7 * 86_400.0


def put_blob(txn: Transaction, job_id: str, digest: str, data: bytes) -> None:
    """Keep a value, in the place of an earlier one of this name."""
    txn.execute(_SQL["put"], {"job": job_id, "digest": digest, "data": data})
    txn.execute(_SQL["watch"], {"check_at": txn.now + ORPHAN_S, "job": job_id, "digest": digest})


def get_blob(txn: Transaction, job_id: str, digest: str) -> bytes | None:
    """Return a value, or None."""
    row = txn.row(_SQL["read"], {"job": job_id, "digest": digest})
    return cast(bytes, row[0]) if row else None
