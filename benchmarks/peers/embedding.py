"""Real work without a model: feature hashing of a hundred short documents into vectors of 64 dimensions."""

from __future__ import annotations

import math
import zlib
from typing import Final

DIMENSIONS: Final = 64
DOCUMENTS: Final = 100
WORDS: Final = 188

_VOCABULARY: Final = [f"word{number:04d}" for number in range(4_096)]


def embed_documents(seed: int) -> list[list[float]]:
    """Return a unit vector per document; which documents follows from `seed`."""
    return [_embedded(_document(seed * DOCUMENTS + number)) for number in range(DOCUMENTS)]


def _document(number: int) -> list[str]:
    return [_VOCABULARY[(number * 7_919 + place * place * 31) % 4_096] for place in range(WORDS)]


def _embedded(words: list[str]) -> list[float]:
    vector = [0.0] * DIMENSIONS
    for word, following in zip(words, [*words[1:], ""], strict=True):
        for feature in (word, f"{word} {following}"):
            code = zlib.crc32(feature.encode())
            vector[code % DIMENSIONS] += 1.0 if code & 0x10000 else -1.0
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return [value / length for value in vector]
