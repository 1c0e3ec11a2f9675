"""The verbs of blobs: values too large for a row, in chunks, watched until their job is stored."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from cicely.engines.sqlite.statements import statements
from cicely.engines.sqlite.transaction import Transaction

_SQL: Final = statements("blob")

CHUNK_BYTES: Final = 256 * 1024
ORPHAN_S: Final = 7 * 86_400.0
#: Written by one transaction (1 MiB: 2 to 12 ms, measured), removed by one sweep (8 MiB: 8 ms).
_PART_CHUNKS: Final = 4
_WASTE_CHUNKS: Final = 32


class Part(NamedTuple):
    """What of a value is written by one transaction."""

    first: int
    chunks: Sequence[bytes]
    is_last: bool


def parts_of(data: bytes) -> Iterator[Part]:
    """Yield the parts of a value; none of them occupies the file for long."""
    # An empty value is one empty chunk, so that it is there.
    starts = range(0, max(1, len(data)), CHUNK_BYTES)
    for first in range(0, len(starts), _PART_CHUNKS):
        chunks = [data[start : start + CHUNK_BYTES] for start in starts[first : first + _PART_CHUNKS]]
        yield Part(first, chunks, is_last=first + len(chunks) == len(starts))


def put_part(txn: Transaction, job_id: str, digest: str, part: Part) -> None:
    """Keep a part of a value, in the place of an earlier one of this name.

    Only who has put the last part hands the name on, so nobody reads what is not whole; and a name
    stands for its content, so a value that is put again stays whole meanwhile.
    """
    if part.first == 0:
        txn.execute(_SQL["unwaste"], (job_id, digest))
        txn.execute(_SQL["watch"], (txn.now + ORPHAN_S, job_id, digest))
    txn.many(_SQL["add"], [(job_id, digest, k, chunk) for k, chunk in enumerate(part.chunks, part.first)])
    if part.is_last:
        txn.execute(_SQL["remove_from"], (job_id, digest, part.first + len(part.chunks)))


def drop_replaced(txn: Transaction, job_id: str, *, replaced: bytes, kept: Sequence[bytes]) -> None:
    """Give up the blobs that `replaced`, a reference, names and nothing that is kept does."""
    for (digest,) in txn.rows(_SQL["digests"], (job_id,)):
        name = digest.encode()
        if name in replaced and not any(name in one for one in kept):
            txn.execute(_SQL["waste"], (job_id, digest))


def remove_waste(txn: Transaction) -> bool:
    """Remove some of what nobody will read again; return whether there may be more."""
    left = _WASTE_CHUNKS
    for job_id, digest in txn.rows(_SQL["wasted"], (left,)):
        left -= max(1, len(txn.rows(_SQL["remove_some"], (job_id, digest, left))))
        if left <= 0:
            return True
        txn.execute(_SQL["unwaste"], (job_id, digest))
    return False


def get_blob(txn: Transaction, job_id: str, digest: str) -> bytes | None:
    """Return a value, or None."""
    chunks = txn.rows(_SQL["read"], (job_id, digest))
    return b"".join(chunk for (chunk,) in chunks) if chunks else None
