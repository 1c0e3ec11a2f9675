"""Where an app is, as people write it: `module:app`, `module`, `path/to/file.py` or `file.py:app`."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import msgspec

from cicely.core.text import storable
from cicely.errors import ConfigError


class Whereabouts(msgspec.Struct, frozen=True):
    """An app to import: `target` is `module:attribute` (or `module`, whose only app is meant).

    `python_path` goes before the interpreter's own; `folder` holds the app's code.
    """

    target: str
    python_path: tuple[str, ...]
    folder: Path


def whereabouts(written: str) -> Whereabouts:
    """Return where the app is, without importing it. Raises ConfigError for a missing file."""
    place, _, attribute = written.partition(":")
    if not place:
        raise ConfigError(f"'{written}' does not name an app: write it as module:app or file.py:app")
    for folder in (str(Path.cwd()), str(Path(place).resolve())):
        if storable(folder) != folder:
            raise ConfigError(f"{folder} has a name that is no UTF-8: rename it, or start elsewhere")
    if place.endswith(".py") or "/" in place:
        return _in_file(Path(place), attribute)
    return Whereabouts(_target(place, attribute), (str(Path.cwd()),), _folder_of(place))


def _target(module: str, attribute: str) -> str:
    return f"{module}:{attribute}" if attribute else module


def _in_file(file: Path, attribute: str) -> Whereabouts:
    file = file.resolve()
    if file.is_dir():
        raise ConfigError(f"{file} is a folder: name the .py file in it that defines the app")
    if not file.is_file():
        raise ConfigError(f"there is no file {file}; write the app as module:app or path/to/file.py")
    parts = [] if file.stem == "__init__" else [file.stem]
    root = file.parent
    # Inside a package the file's module has the package's name before its own, as producers import it.
    while (root / "__init__.py").is_file():
        parts.insert(0, root.name)
        root = root.parent
    path = tuple(dict.fromkeys((str(root), str(Path.cwd()))))
    return Whereabouts(_target(".".join(parts), attribute), path, file.parent)


def _folder_of(module: str) -> Path:
    """Return the folder of a module's outermost package; the current one where that is unknown."""
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = find_spec(module.partition(".")[0])
    except (ImportError, ValueError):
        spec = None
    finally:
        sys.path.pop(0)
    origin = Path(spec.origin) if spec is not None and spec.origin else None
    return origin.parent if origin is not None and origin.is_file() else Path.cwd()
