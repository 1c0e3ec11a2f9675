"""Signatures by a task's name, as data, or as JSON text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from cicely.canvas import Canvas, Signature, canvas_of
from cicely.composing import reference, referenced, with_settings
from cicely.connection import Connection
from cicely.dispatch import CallMaker
from cicely.errors import ConfigError, UsageError
from cicely.workflow.form import from_data
from cicely.workflow.nodes import Call, Node, calls_of, check_size


def signature_of(
    connection: Connection,
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    given: Mapping[str, Any],
    immutable: bool,
) -> Signature[Any]:
    """Return the signature of a call."""
    call: Node = Call(
        task=task, args=tuple(map(reference, args)), kwargs=referenced(kwargs), immutable=immutable
    )
    return Signature(with_settings(call, given) if given else call, connection)


def read_canvas(
    connection: Connection,
    what: str | Mapping[str, Any],
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    given: Mapping[str, Any],
    immutable: bool,
) -> Canvas[Any]:
    """Return the canvas of a task by name, of data, or of JSON text. Raises ConfigError and UnknownTask."""
    maker = CallMaker(connection, connection.values)
    if isinstance(what, str) and not what.lstrip().startswith("{"):
        maker.task(what)
        return signature_of(connection, what, args, kwargs, given=given, immutable=immutable)
    if args or kwargs or given or immutable:
        raise UsageError("a signature from data has its arguments and options in it")
    try:
        data = msgspec.json.decode(what) if isinstance(what, str) else what
    except msgspec.DecodeError as error:
        raise ConfigError(f"this text is no signature's JSON: {error}") from None
    node = from_data(data, connection.codec.decode)
    for call in calls_of(node):
        maker.task(call.task)
    check_size(node)
    return canvas_of(connection, node)
