"""Which failures are one and the same: a fingerprint of an error without what differs from job to job.

Of an error count its type, the functions it passed through last (not their lines, which move with every
release), and its message without numbers, ids, addresses, paths and quoted values.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import Final

from cicely.core.outcome import ErrorRecord

_DIGEST_BYTES: Final = 6
_MESSAGE_CHARS: Final = 200
_FRAMES: Final = 3

#: What is put in the place of what differs, in this order: the longest things first.
_DIFFERS: Final = (
    (re.compile(r"[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}"), "<id>"),
    (re.compile(r"\b0x[0-9a-fA-F]+\b"), "<address>"),
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s'\"]+"), "<url>"),
    (re.compile(r"'[^'\n]*'|\"[^\"\n]*\"|`[^`\n]*`"), "<value>"),
    (re.compile(r"(?<![\w<])/[^\s:,;()'\"]+"), "<path>"),
    (re.compile(r"\b(?=[0-9a-fA-F]*\d)[0-9a-fA-F]{8,}\b"), "<id>"),
    (re.compile(r"\d+(?:[.,:]\d+)*"), "<n>"),
)
_FRAME: Final = re.compile(r'File "([^"\n]+)", line \d+, in (\S+)')


def fingerprint(error: ErrorRecord, *, task: str = "") -> str:
    """Return twelve hex characters that are the same for failures which are alike, task by task."""
    parts = (task, error.module, error.type_name, pattern(error.message), *_functions(error.traceback))
    data = "\x00".join(parts).encode(errors="surrogatepass")
    return blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()


def pattern(message: str) -> str:
    """Return the first line of a message with what differs from job to job replaced by words."""
    line = message.partition("\n")[0][: 4 * _MESSAGE_CHARS]
    for what, word in _DIFFERS:
        line = what.sub(word, line)
    return line[:_MESSAGE_CHARS]


def _functions(traceback: str) -> list[str]:
    """Return the last functions of a traceback, each with the name of its file."""
    frames = _FRAME.findall(traceback)[-_FRAMES:]
    return [f"{path.replace(chr(92), '/').rpartition('/')[2]}:{function}" for path, function in frames]
