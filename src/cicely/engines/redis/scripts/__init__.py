"""Reads the Lua scripts beside it: one per verb, put together from the parts that it uses."""

from __future__ import annotations

import hashlib
import re
from functools import cache
from pathlib import Path
from typing import Final

import msgspec

from cicely.engines.redis.scripts.rules import rules

_FOLDER: Final = Path(__file__).parent
_USE: Final = re.compile(r"use\('(\w+)'\)")


#: The parts that plain jobs do without: they are not even made where nobody uses them.
_RARE: Final = frozenset(
    {
        "acts",
        "agenda",
        "configuring",
        "flow",
        "gates",
        "graph",
        "lanes",
        "linking",
        "node",
        "parents",
        "passing",
        "patience",
        "past",
        "releases",
        "reservations",
        "resources",
        "rules",
        "surroundings",
        "suspending",
        "ticking",
        "undoing",
        "valves",
        "workflows",
    }
)


class Script(msgspec.Struct, frozen=True):
    """A verb's script, and the name by which a server knows it once it was loaded."""

    verb: str
    text: bytes
    sha: bytes


@cache
def script(verb: str) -> Script:
    """Return the script of `verb`, with the parts that it uses in front of it."""
    own = _read(f"{verb}.lua")
    parts = _parts_of(own)
    usual = [_made(name, text) for name, text in parts.items() if name not in _RARE]
    rare = [_made(name, text) for name, text in parts.items() if name in _RARE]
    text = "\n".join([_read("parts/begin.lua"), *usual, _made("rare", "\n".join(rare)), own]).encode()
    sha = hashlib.sha1(text, usedforsecurity=False).hexdigest()
    return Script(verb, text, sha.encode())


def _made(name: str, text: str) -> str:
    return f"parts.{name} = function()\n{text}\nend"


def _parts_of(text: str) -> dict[str, str]:
    """Return the parts that `text` uses, and those that they use, by their names."""
    parts: dict[str, str] = {}
    wanted = _USE.findall(_read("parts/begin.lua") + text) if "ring(" in text else _USE.findall(text)
    while wanted:
        name = wanted.pop()
        if name not in parts:
            parts[name] = _part(name)
            wanted += _USE.findall(parts[name])
    return parts


def verbs() -> list[str]:
    """Return the names of all scripts."""
    return sorted(file.stem for file in _FOLDER.glob("*.lua"))


def _part(name: str) -> str:
    return rules() if name == "rules" else _read(f"parts/{name}.lua")


def _read(name: str) -> str:
    return (_FOLDER / name).read_text(encoding="utf-8")
