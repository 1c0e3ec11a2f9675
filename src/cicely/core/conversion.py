"""A decoded value → the type that a hint asks for: the only place where classes are rebuilt."""

from __future__ import annotations

import inspect
import pathlib
import sys
from collections.abc import Callable
from typing import Any, Final, get_args, get_origin

import msgspec

from cicely.core.values.arrays import scalar_item

_NO_HINT: Final = (Any, object, inspect.Parameter.empty)


def convert(value: object, hint: object) -> Any:
    """Return `value` as the type `hint`: msgspec's rules, and pydantic's own for its models.

    Without a hint, or with one that says nothing about data (a TypeVar, a Protocol), `value` comes back
    as it is. Raises TypeError with a sentence when `value` does not fit.
    """
    if any(hint is nothing for nothing in _NO_HINT):
        return value
    if isinstance(hint, type) and get_origin(hint) is None and _is_instance(value, hint):
        return value
    try:
        return msgspec.convert(scalar_item(value), hint, dec_hook=_to_class)
    except msgspec.ValidationError as error:
        raise TypeError(_sentence(error)) from error
    except TypeError:
        return _beyond_msgspec(value, hint)


def _to_class(hint: Any, value: object) -> object:
    cls = get_origin(hint) or hint
    if not isinstance(cls, type) or _is_instance(value, cls) or getattr(cls, "_is_protocol", False):
        return value
    validate = getattr(cls, "model_validate", None)
    if validate is not None:
        return _to_model(validate, value)
    if isinstance(value, str) and issubclass(cls, pathlib.PurePath):
        return cls(value)
    if cls is complex and isinstance(value, int | float):
        return complex(value)
    raise TypeError(f"Expected `{cls.__name__}`, got `{type(value).__name__}`")


def _is_instance(value: object, cls: type) -> bool:
    try:
        return isinstance(value, cls)
    except TypeError:  # a Protocol or TypedDict, which cannot be asked at run time
        return False


def _to_model(validate: Callable[..., object], value: object) -> object:
    try:
        return validate(value, by_alias=True, by_name=True)
    except TypeError:  # pydantic before 2.11
        return validate(value)


def _beyond_msgspec(value: object, hint: object) -> object:
    # Such as `A | B` of two models, which pydantic tells apart and msgspec does not.
    pydantic: Any = sys.modules.get("pydantic")
    if pydantic is None or not _mentions(hint, pydantic.BaseModel):
        return value
    try:
        return pydantic.TypeAdapter(hint).validate_python(value)
    except pydantic.ValidationError as error:
        raise TypeError(_sentence(error)) from error
    except pydantic.errors.PydanticUserError:
        return value


def _mentions(hint: object, cls: type) -> bool:
    if isinstance(hint, type) and get_origin(hint) is None:
        return issubclass(hint, cls)
    return any(_mentions(part, cls) for part in get_args(hint))


def _sentence(error: Exception) -> str:
    text = str(error)
    return text[:1].lower() + text[1:].replace(" - at `$", " at `value")
