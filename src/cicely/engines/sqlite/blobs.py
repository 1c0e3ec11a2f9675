"""The verbs of blobs: values too large for a row, in chunks, watched until their job is stored."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

_SQL: Final = statements("blob")

CHUNK_BYTES: Final = 256 * 1024
ORPHAN_S: Final = 7 * 86_400.0


def put_blob(txn: Transaction, job_id: str, digest: str, data: bytes) -> None:
    """Keep a value, in the place of an earlier one of this name."""
    txn.execute(_SQL["remove"], (job_id, digest))
    txn.many(_SQL["add"], [(job_id, digest, k, chunk) for k, chunk in enumerate(_chunks(data))])
    txn.execute(_SQL["watch"], (txn.now + ORPHAN_S, job_id, digest))


def _chunks(data: bytes) -> Iterator[bytes]:
    # An empty value is one empty chunk, so that it is there.
    for start in range(0, max(1, len(data)), CHUNK_BYTES):
        yield data[start : start + CHUNK_BYTES]


def get_blob(txn: Transaction, job_id: str, digest: str) -> bytes | None:
    """Return a value, or None."""
    chunks = txn.rows(_SQL["read"], (job_id, digest))
    return b"".join(chunk for (chunk,) in chunks) if chunks else None
