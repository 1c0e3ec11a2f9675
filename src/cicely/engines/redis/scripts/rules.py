"""The rules of edges as scripts know them: what the core decides, as tables. No rule is written twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cicely.core.edge import (
    INLINE_PARENTS,
    Fate,
    Rule,
    broken_reason,
    fate_of,
    holds,
    inherited,
)
from cicely.core.states import FINAL
from cicely.core.traits import ROLES, RULES

_PAIRS: Final = [(rule, fate) for rule in RULES for fate in Fate]
_CAUSE: Final = "\x00"


def rules() -> str:
    """Return the part `rules` of the scripts."""
    return (
        "return {\n"
        + ",\n".join(
            [
                f"  rules = {{ {_listed(RULES)} }}",
                f"  roles = {{ {_listed(ROLES)} }}",
                f"  inline_parents = {INLINE_PARENTS}",
                _table("fate", ((state.value, f"'{fate_of(state).value}'") for state in sorted(FINAL))),
                _table("holds", ((_pair(*pair), "true") for pair in _PAIRS if holds(*pair))),
                # Also where an edge would hold now: its parent may be back since it broke.
                _table("inherited", ((_pair(*pair), f"'{inherited(*pair).value}'") for pair in _PAIRS)),
                _table("reasons", ((_pair(*pair), _halves(*pair)) for pair in _PAIRS)),
            ]
        )
        + ",\n}\n"
    )


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"'{word}'" for word in words)


def _pair(rule: Rule, fate: Fate) -> str:
    return f"{rule.value} {fate.value}"


def _halves(rule: Rule, fate: Fate) -> str:
    """Return the reason's text before and behind the job that is its cause."""
    before, _, after = broken_reason(rule, fate, _CAUSE).partition(_CAUSE)
    return f"{{ '{before}', '{after}' }}"


def _table(name: str, entries: Iterable[tuple[str, str]]) -> str:
    lines = "".join(f"\n    ['{key}'] = {value}," for key, value in entries)
    return f"  {name} = {{{lines}\n  }}"
