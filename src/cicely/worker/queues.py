"""Which queues a worker serves, in which order, and which tags it heeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches

from cicely.errors import ConfigError, UnknownQueue

Groups = tuple[tuple[tuple[str, float], ...], ...]


def groups_to_serve(asked: Groups, declared: Sequence[Sequence[str]]) -> Groups:
    """Return what was asked for, or else all that the app declares, equal priorities in turn.

    Raises UnknownQueue for a queue that nothing declares: its worker would wait for ever.
    """
    known = [name for group in declared for name in group]
    for group in asked:
        for name, _ in group:
            if name not in known:
                raise UnknownQueue(_sentence(name, known))
    return asked or tuple(tuple((name, 1.0) for name in group) for group in declared)


def tags_to_accept(
    asked: Mapping[str, tuple[str, ...]], declared: Sequence[str] | None
) -> Mapping[str, tuple[str, ...]]:
    """Return what was asked for; None is declared by a target that is no app.

    Raises ConfigError for tags that the app's jobs are not chosen by: they would run here all the same.
    """
    for name in asked:
        if declared is not None and name not in declared:
            known = f"jobs are chosen by {', '.join(declared)}" if declared else "none is declared"
            raise ConfigError(
                f"--accept {name}=...: the app does not choose workers by the tag {name}; {known} "
                f'(Cicely(..., accept_by=["{name}"]) declares it)'
            )
    return asked


def _sentence(name: str, known: Sequence[str]) -> str:
    matches = get_close_matches(name, known, n=1)
    nearest = f"did you mean {matches[0]}?" if matches else f"there are {', '.join(known)}"
    return f'the app declares no queue {name}; {nearest} (app.queue("{name}") declares it)'
