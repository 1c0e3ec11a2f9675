"""Text from anywhere, made fit to be stored and shown."""

from __future__ import annotations


def storable(text: str) -> str:
    """Return `text` with lone surrogates escaped: no encoding has bytes for them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
