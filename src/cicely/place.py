"""Where an app lives: its default file, and the names by which other processes import its code."""

from __future__ import annotations

import os
import re
import sys
from typing import Final
from urllib.parse import quote

from cicely.errors import ConfigError

FOLDER: Final = ".cicely"

_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")
_INSTALLED: Final = frozenset({"site-packages", "dist-packages"})


def checked_name(name: str) -> str:
    """Return `name` where it can name a file. Raises ConfigError."""
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    raise ConfigError(
        f"Cicely({name!r}): an app's name has letters, digits, '_', '-' and '.', and begins with one "
        "of the first two, because it names a file"
    )


def default_url(name: str, file: str | None) -> str:
    """Return the URL of `.cicely/<name>.db` beside `file`, the module that defines the app.

    Without a file (a prompt, a notebook) the current folder takes its place, and a warning says so.
    Raises ConfigError where no such file can be: the remedy is always `url=`.
    """
    if file is None:
        folder = os.getcwd()
        _say_once(name, folder)
    else:
        folder = os.path.dirname(os.path.realpath(file))
    _refuse_bad_place(name, folder)
    return f"sqlite:///{quote(os.path.join(folder, FOLDER, f'{name}.db'))}"


def _refuse_bad_place(name: str, folder: str) -> None:
    remedy = f'set url=, as in Cicely("{name}", "sqlite:////var/lib/{name}/{name}.db"), or CICELY_URL'
    if not _INSTALLED.isdisjoint(folder.split(os.sep)):
        raise ConfigError(
            f"the app {name} is defined in an installed package ({folder}), where its jobs would be "
            f"lost with the next installation; {remedy}"
        )
    if not os.path.isdir(folder):
        raise ConfigError(f"the app {name} is defined in {folder}, which is no folder (a zip?); {remedy}")
    if not _is_utf8(folder):
        raise ConfigError(f"the app {name} is defined in {folder!r}, a name that is no UTF-8; {remedy}")
    own = os.path.join(folder, FOLDER)
    writable = own if os.path.isdir(own) else folder
    if not os.access(writable, os.W_OK):
        raise ConfigError(f"the app {name} cannot keep its jobs in {own}: not writable; {remedy}")


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


_said: set[str] = set()


def _say_once(name: str, folder: str) -> None:
    import logging

    if name not in _said:
        _said.add(name)
        logging.getLogger("cicely").warning(
            "the app %s is defined in no file: its jobs are kept in %s/%s", name, folder, FOLDER
        )


def importable_name(module_name: str) -> str:
    """Return the name under which other processes import this module: a script's own name for __main__.

    A prompt has none, and stays `__main__`.
    """
    if module_name != "__main__":
        return module_name
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None and spec.name:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return _name_of_script(file) if file else module_name


def _name_of_script(file: str) -> str:
    folder, base = os.path.split(os.path.realpath(file))
    parts = [os.path.splitext(base)[0]]
    while os.path.isfile(os.path.join(folder, "__init__.py")):
        folder, package = os.path.split(folder)
        parts.insert(0, package)
    return ".".join(parts)
