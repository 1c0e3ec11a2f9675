"""Grading one program: run it, run its test, and say what came of it."""

from __future__ import annotations

from typing import Any, Final

from cicely.errors import Cancelled, SoftTimeout

PASSED: Final = "passed"
_MAX_CHARS: Final = 300


def verdict(source: str, test: str, entry_point: str) -> str:
    """Return "passed", or in what the program or its test ended instead.

    They run right here, in a namespace of their own, and may do as they like with this process.
    """
    namespace: dict[str, Any] = {"__name__": "__graded__"}
    program = f"{source}\n\n{test}\n\ncheck({entry_point})\n"
    try:
        exec(compile(program, "<program>", "exec"), namespace)  # noqa: S102  (it is the work)
    except (Cancelled, SoftTimeout):
        raise
    except BaseException as error:  # noqa: BLE001  (SystemExit and KeyboardInterrupt are answers, too)
        return _described(error)
    return PASSED


def _described(error: BaseException) -> str:
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  (an error's own __str__ belongs to the program)
        text = ""
    name = type(error).__name__
    return (f"{name}: {text}" if text else name)[:_MAX_CHARS]
