"""Settings that code declares, brought into the engine: once, and again when the code changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from cicely.engines.contract import Engine, Note, Setting, kind_of, name_of

#: Under this the engine notes what was declared last, so that what people changed since stays.
_DECLARED: Final = "declared:"


def declare(engine: Engine, settings: Sequence[Setting]) -> list[str]:
    """Put what is declared otherwise than before into the engine; return the names of that."""
    notes = {r.setting.name: r.setting.value for r in engine.settings("note") if isinstance(r.setting, Note)}
    changed = [(one, note) for one in settings if notes.get((note := _note_of(one)).name) != note.value]
    for one, note in changed:
        engine.configure([one, note])
    return [name_of(one) for one, _ in changed]


def _note_of(setting: Setting) -> Note:
    return Note(f"{_DECLARED}{kind_of(setting)}:{name_of(setting)}", msgspec.msgpack.encode(setting))
