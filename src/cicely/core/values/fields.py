"""The fields of a dataclass, struct or model, as the mapping that its type hint reads back."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec


def fields_of(value: object) -> dict[str, object] | list[object] | None:
    """Return the fields of `value` in order, or None when it is none of these types."""
    cls: Any = type(value)
    if dataclasses.is_dataclass(cls):
        return _attributes(value, [field.name for field in dataclasses.fields(cls)])
    if isinstance(value, msgspec.Struct):
        return _struct_fields(value)
    if hasattr(cls, "__pydantic_validator__") and hasattr(cls, "model_fields"):
        return _model_fields(value, cls)
    return None


def _attributes(value: object, names: list[str]) -> dict[str, object]:
    return {name: getattr(value, name) for name in names if hasattr(value, name)}


def _struct_fields(value: msgspec.Struct) -> dict[str, object] | list[object]:
    config = value.__struct_config__
    items = [getattr(value, name) for name in value.__struct_fields__]
    tag = [] if config.tag is None else [config.tag]
    if config.array_like:
        return [*tag, *items]
    stored = dict(zip(value.__struct_encode_fields__, items, strict=True))
    return {str(config.tag_field): config.tag, **stored} if tag else stored


def _model_fields(value: Any, cls: Any) -> dict[str, object]:
    # Field names, not aliases: a serialization alias need not be one that validation takes.
    extra = getattr(value, "__pydantic_extra__", None) or {}
    return _attributes(value, list(cls.model_fields)) | extra
