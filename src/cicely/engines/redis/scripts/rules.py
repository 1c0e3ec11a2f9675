"""The rules of edges as scripts know them: what the core decides, as tables. No rule is written twice."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cicely.core.edge import (
    INLINE_PARENTS,
    Edge,
    Fate,
    Join,
    Role,
    Rule,
    broken_reason,
    fate_of,
    holds,
    inherited,
)
from cicely.core.states import FINAL

#: Their places in these are stored: never to change.
_RULES: Final = (Rule.SUCCESS, Rule.FAILURE, Rule.DONE)
_ROLES: Final = (Role.INPUT, Role.CALL, Role.ORDER)
_ROLE_STEP: Final = 4
_JOIN_ALL: Final = 16
_CANCELS_SIBLINGS: Final = 32

_PAIRS: Final = [(rule, fate) for rule in _RULES for fate in Fate]
_CAUSE: Final = "\x00"


def traits_of(edge: Edge) -> int:
    """Return what an edge says beside its ends, as one number."""
    traits = _RULES.index(edge.rule) + _ROLES.index(edge.role) * _ROLE_STEP
    return traits + (edge.join is Join.ALL) * _JOIN_ALL + edge.cancels_siblings * _CANCELS_SIBLINGS


def role_of(traits: int) -> Role:
    """Return an edge's role."""
    return _ROLES[traits // _ROLE_STEP % _ROLE_STEP]


def rules() -> str:
    """Return the part `rules` of the scripts."""
    broken = [(rule, fate) for rule, fate in _PAIRS if not holds(rule, fate)]
    return (
        "return {\n"
        + ",\n".join(
            [
                f"  rules = {{ {_listed(_RULES)} }}",
                f"  roles = {{ {_listed(_ROLES)} }}",
                f"  inline_parents = {INLINE_PARENTS}",
                _table("fate", ((state.value, f"'{fate_of(state).value}'") for state in sorted(FINAL))),
                _table("holds", ((_pair(*pair), "true") for pair in _PAIRS if holds(*pair))),
                _table("inherited", ((_pair(*pair), f"'{inherited(*pair).value}'") for pair in broken)),
                _table("reasons", ((_pair(*pair), _halves(*pair)) for pair in broken)),
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
