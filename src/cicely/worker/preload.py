"""Importing the user's app before any fork, and judging whether a fork is safe afterwards."""

from __future__ import annotations

import importlib
import os
import threading
import time
import traceback
from pathlib import Path

import msgspec

from cicely.errors import CicelyError

# A thread that was joined a moment ago may still be listed.
_SETTLE_S = 0.2
_PACKAGE = str(Path(__file__).parents[1]) + os.sep


class CannotImport(CicelyError):
    """The target cannot be imported; carries the user's part of the traceback."""

    def __init__(self, message: str, *, traceback: str) -> None:
        super().__init__(message)
        self.traceback = traceback


def load(target: str) -> object:
    """Return what `module:attribute` names, or the only app of `module`.

    Raises CannotImport for whatever goes wrong.
    """
    module_name, colon, path = target.partition(":")
    if not module_name or (colon and not path):
        raise CannotImport(f"'{target}' does not name an app: write it as module:attribute", traceback="")
    try:
        found: object = importlib.import_module(module_name)
    except BaseException as error:
        raise CannotImport(_sentence(target, error), traceback=_users_part(error)) from error
    if not colon:
        return _only_app(found, module_name)
    for name in path.split("."):
        if not hasattr(found, name):
            raise CannotImport(
                f"cannot import {target}: module '{module_name}' has no '{path}'", traceback=""
            )
        found = getattr(found, name)
    return found


def _only_app(module: object, module_name: str) -> object:
    # Whatever offers a manifest is an app; the same one may stand under several names.
    apps = {id(value): name for name, value in vars(module).items() if hasattr(type(value), "manifest")}
    if len(apps) == 1:
        return getattr(module, *apps.values())
    if not apps:
        raise CannotImport(f"module '{module_name}' holds no app; write it as module:attribute", traceback="")
    names = " or ".join(f"{module_name}:{name}" for name in apps.values())
    raise CannotImport(f"module '{module_name}' holds several apps; write {names}", traceback="")


def manifest_of(app: object) -> bytes:
    """Return the app's `manifest()` in msgpack, an empty one where it has none."""
    if not hasattr(app, "manifest"):
        return msgspec.msgpack.encode({})
    try:
        return msgspec.msgpack.encode(app.manifest())
    except BaseException as error:
        message = f"cannot list what the app offers: {_described(error)}"
        raise CannotImport(message, traceback=_users_part(error)) from error


def other_threads() -> list[str]:
    """Return the names of all threads of this process but the calling one."""
    give_up_at = time.monotonic() + _SETTLE_S
    while names := _thread_names():
        if time.monotonic() > give_up_at:
            return names
        time.sleep(0.005)
    return []


def _thread_names() -> list[str]:
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    tasks = [int(task) for task in os.listdir("/proc/self/task")]
    return [known.get(task) or _native_name(task) for task in tasks if task != os.getpid()]


def _native_name(task: int) -> str:
    try:
        with open(f"/proc/self/task/{task}/comm") as file:
            return f"{file.read().strip()} (native, {task})"
    except OSError:
        return f"native, {task}"


def _sentence(target: str, error: BaseException) -> str:
    module_name = target.partition(":")[0]
    if isinstance(error, ModuleNotFoundError) and error.name in _parents(module_name):
        return (
            f"cannot import {target}: there is no module '{error.name}' on the Python path; "
            "start the worker in the folder that holds it, or set PYTHONPATH"
        )
    return f"cannot import {target}: {_described(error)}"


def _parents(module_name: str) -> list[str]:
    parts = module_name.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def _described(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _users_part(error: BaseException) -> str:
    """Return the traceback without the import; of a mistake that we tell of, without any frame of ours."""
    is_ours = _is_cicely if isinstance(error, CicelyError) else _is_import
    whole = traceback.TracebackException.from_exception(error)
    report: traceback.TracebackException | None = whole
    while report is not None:
        kept = [frame for frame in report.stack if not is_ours(frame.filename)]
        report.stack = traceback.StackSummary.from_list(kept)
        report = report.__cause__ or report.__context__
    # A sentence that nobody's line led to is said in the error itself.
    return "".join(whole.format()) if whole.stack or is_ours is _is_import else ""


def _is_cicely(filename: str) -> bool:
    return filename.startswith(_PACKAGE) or _is_import(filename)


def _is_import(filename: str) -> bool:
    return filename in (__file__, importlib.__file__) or filename.startswith("<frozen importlib")
