"""Blobs: bytes too large for a job's row, in pieces, so that no call holds the server up."""

from __future__ import annotations

from typing import Final

from cicely.engines.redis.caller import Caller

PIECE_BYTES: Final = 256 * 1_024
ORPHAN_S: Final = 7 * 86_400


def put_blob(run: Caller, job_id: str, digest: str, data: bytes) -> None:
    """Keep a blob; the piece that is written last makes it whole."""
    name = job_id.encode()
    place = len(name).to_bytes(4, "big") + name + digest.encode()
    starts = range(0, max(1, len(data)), PIECE_BYTES)
    for number, start in enumerate(starts):
        total = len(starts) if number == len(starts) - 1 else ""
        piece = data[start : start + PIECE_BYTES]
        run("put_blob", job_id, digest, number, piece, total, place, ORPHAN_S)


def get_blob(run: Caller, job_id: str, digest: str) -> bytes | None:
    """Return a blob, or None where there is none that is whole."""
    pieces: list[bytes] = []
    total = 1
    while len(pieces) < total:
        reply = run("get_blob", job_id, digest, len(pieces))
        if not reply or reply[1] is None:
            return None
        total = int(reply[0])
        pieces.append(reply[1])
    return b"".join(pieces)
