"""Hashing TF-IDF: words are counted in 512 buckets, and what most passages have counts little."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

BUCKETS = 512

Counts = NDArray[np.int8]
Floats = NDArray[np.float32]

_WORD = re.compile(r"[a-z]{2,}")


def counts_of(texts: Sequence[str]) -> Counts:
    """Return a row per text: how often words of each bucket are in it.

    Half of the words count downwards, so that those that share a bucket by chance cancel out rather
    than add up (Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", 2009).
    """
    rows = np.zeros((len(texts), BUCKETS), dtype=np.int16)
    for row, text in zip(rows, texts, strict=True):
        for word in _WORD.findall(text.lower()):
            bucket, step = _slot(word)
            row[bucket] += step
    return rows.clip(-127, 127).astype(np.int8)


@lru_cache(maxsize=100_000)
def _slot(word: str) -> tuple[int, int]:
    hashed = zlib.crc32(word.encode())
    return hashed % BUCKETS, 1 if hashed >> 31 else -1


def rarity_of(counts: Counts) -> Floats:
    """Return what each bucket weighs: the fewer texts have it, the more."""
    having = np.count_nonzero(counts, axis=0)
    return np.asarray(np.log((1 + len(counts)) / (1 + having)) + 1, dtype=np.float32)


def weighted(counts: Counts, rarity: Floats) -> Floats:
    """Return the rows as vectors of length 1, whose products are similarities."""
    vectors = np.sign(counts) * np.log1p(np.abs(counts.astype(np.float32))) * rarity
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, 1e-9), dtype=np.float32)
