"""The extension codes of the wire format, and the limits that both directions keep.

Codes are for ever: a number is never given a second meaning.
"""

from __future__ import annotations

from typing import Final

TUPLE: Final = 1
SET: Final = 2
FROZENSET: Final = 3
PAIRS: Final = 4  # a dict with keys of any type: key, value, key, value, …
INT: Final = 5  # beyond 64 bits: two's complement, big-endian
DATETIME: Final = 6
DATE: Final = 7
TIME: Final = 8
TIMEDELTA: Final = 9
DECIMAL: Final = 10
UUID: Final = 11
PATH: Final = 12
COMPLEX: Final = 13
BYTEARRAY: Final = 14
MEMORYVIEW: Final = 15
ARRAY: Final = 16  # NumPy: dtype, shape, raw bytes
OWN: Final = 17  # a type registered with app.codec: tag, parts
PICKLE: Final = 18
INPUTS: Final = 19  # stands for results of other jobs, until the job that wants them is run

MAX_INT_BYTES: Final = 1024
MAX_DECIMAL_CHARS: Final = 4096
