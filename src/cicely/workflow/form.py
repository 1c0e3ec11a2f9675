"""Canvases as data that JSON can hold, and back.

What JSON cannot hold, or would not give back as it was, stands in it as `{"$cicely": "..."}`: the
codec's bytes in base 64.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Mapping
from typing import Any, Final

from cicely.core.identity import Stable, stable
from cicely.errors import ConfigError, NotStorable
from cicely.workflow.nodes import NONE, Call, Chain, Chord, Group, Node, Ref

CODED: Final = "$cicely"
_STABLE: Final = "$stable"
_SAFE_INT: Final = 1 << 53

Encode = Callable[[object], bytes]
Decode = Callable[[bytes], Any]


def as_data(node: Node, encode: Encode) -> dict[str, Any]:
    """Return `node` as JSON can hold it. Raises NotStorable."""
    data: dict[str, Any] = {}
    match node:
        case Call():
            data["task"] = node.task
            data["args"] = [_value(arg, encode) for arg in node.args]
            data["kwargs"] = {name: _value(value, encode) for name, value in node.kwargs.items()}
            data["immutable"] = node.immutable
        case Chain(steps=steps):
            data["chain"] = [as_data(step, encode) for step in steps]
        case Group(members=members):
            data["group"] = [as_data(member, encode) for member in members]
        case Chord():
            data["chord"] = as_data(node.header, encode)
            data["body"] = as_data(node.body, encode)
            data["cancel_siblings"] = node.cancels_siblings
    data["options"] = {name: _option(name, value, encode) for name, value in node.options.items()}
    data["link"] = [as_data(link, encode) for link in node.links]
    data["link_error"] = [as_data(errback, encode) for errback in node.errbacks]
    return data


def _option(name: str, value: Any, encode: Encode) -> object:
    if name == "connection":
        raise NotStorable("a signature with connection= is for this process only: leave it out")
    if isinstance(value, Stable):
        return {_STABLE: value.version}
    return _value(value, encode)


def _value(value: Any, encode: Encode) -> object:
    if isinstance(value, Ref):
        raise NotStorable("an argument is a node of a flow, which has no meaning outside it")
    if _is_json(value):
        return value
    return {CODED: base64.b64encode(encode(value)).decode()}


def _is_json(value: Any) -> bool:
    kind = type(value)
    if value is None or kind is bool or kind is str:
        return True
    if kind is int:
        return bool(-_SAFE_INT < value < _SAFE_INT)
    if kind is float:
        return math.isfinite(value)
    if kind is list:
        return all(map(_is_json, value))
    if kind is dict:
        is_plain = all(type(key) is str and not key.startswith("$") for key in value)
        return is_plain and all(map(_is_json, value.values()))
    return False


def from_data(data: Any, decode: Decode) -> Node:
    """Return the node that `as_data` made data of. Raises ConfigError for anything else."""
    if not isinstance(data, Mapping):
        raise ConfigError(f"a signature as data is a mapping, not {type(data).__name__}")
    try:
        return _node(data, decode)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ConfigError(f"these are no signature's data: {type(error).__name__}: {error}") from error


def _node(data: Mapping[str, Any], decode: Decode) -> Node:
    options = {name: _read(value, decode) for name, value in data.get("options", NONE).items()}
    links = tuple(from_data(link, decode) for link in data.get("link", ()))
    errbacks = tuple(from_data(errback, decode) for errback in data.get("link_error", ()))
    if "chain" in data:
        steps = tuple(from_data(step, decode) for step in data["chain"])
        return Chain(steps=steps, options=options, links=links, errbacks=errbacks)
    if "group" in data:
        members = tuple(from_data(member, decode) for member in data["group"])
        return Group(members=members, options=options, links=links, errbacks=errbacks)
    if "chord" in data:
        header = from_data(data["chord"], decode)
        if not isinstance(header, Group):
            raise ValueError("the header of a chord is a group")
        return Chord(
            header=header,
            body=from_data(data["body"], decode),
            cancels_siblings=bool(data.get("cancel_siblings", False)),
            options=options,
            links=links,
            errbacks=errbacks,
        )
    return Call(
        task=str(data["task"]),
        args=tuple(_read(arg, decode) for arg in data.get("args", ())),
        kwargs={str(name): _read(value, decode) for name, value in data.get("kwargs", NONE).items()},
        options=options,
        immutable=bool(data.get("immutable", False)),
        links=links,
        errbacks=errbacks,
    )


def _read(value: Any, decode: Decode) -> Any:
    if isinstance(value, dict) and _STABLE in value:
        return stable(value[_STABLE])
    if isinstance(value, dict) and CODED in value:
        return decode(base64.b64decode(value[CODED]))
    return value
