"""What an edge says beside its ends, as the one number that engines store: never to change.

Bits 0 and 1 are the rule, 2 and 3 the role; one more each says how its join decides, and that its
break cancels siblings.
"""

from __future__ import annotations

from typing import Final

from cicely.core.edge import Edge, Join, Role, Rule

#: Their places in these are stored.
RULES: Final = (Rule.SUCCESS, Rule.FAILURE, Rule.DONE)
ROLES: Final = (Role.INPUT, Role.CALL, Role.ORDER)
_ROLE_SHIFT: Final = 2
_TWO_BITS: Final = 3
#: The bits of an edge's traits that are not its rule and role.
JOIN_ALL: Final = 16
CANCELS_SIBLINGS: Final = 32


def traits_of(edge: Edge) -> int:
    """Return what an edge says beside its ends, as one number."""
    traits = RULES.index(edge.rule) | ROLES.index(edge.role) << _ROLE_SHIFT
    return traits | (edge.join is Join.ALL) * JOIN_ALL | edge.cancels_siblings * CANCELS_SIBLINGS


def rule_of(traits: int) -> Rule:
    """Return an edge's rule."""
    return RULES[min(traits & _TWO_BITS, 2)]


def role_of(traits: int) -> Role:
    """Return an edge's role."""
    return ROLES[min(traits >> _ROLE_SHIFT & _TWO_BITS, 2)]
