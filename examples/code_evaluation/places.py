"""Where a program is run: by one of the executors, or in the worker itself where there are none."""

from __future__ import annotations

import http.client
import os
import select
import time
import zlib
from collections.abc import Sequence
from urllib.parse import urlsplit

import msgspec

from examples.code_evaluation import sandbox
from examples.code_evaluation.sandbox import WAIT_S, Program, Ran

#: `http://127.0.0.1:8101,http://127.0.0.1:8102`; empty: in the worker itself.
EXECUTORS_VARIABLE = "EVALUATION_EXECUTORS"
#: How long an executor may take beyond the program's own time.
PATIENCE_S = 25.0
_CONNECT_S = 5.0


class ExecutorDown(ConnectionError):
    """Nothing of the program was run: nobody listens there, or all slots are taken."""


class NoExecutor(ExecutorDown):
    """One after the other was asked, and none of them runs anything."""


class NetworkTrouble(ConnectionError):
    """The connection broke off: the program may have been run."""


def executors() -> tuple[str, ...]:
    """Return the URLs of the executors."""
    return tuple(filter(None, os.environ.get(EXECUTORS_VARIABLE, "").split(",")))


def chosen(known: Sequence[str], eval_id: str, attempt: int) -> str:
    """Return the executor for an attempt, from 1: the one after that of the attempt before; "" of none.

    The first follows from the id, so that all of them get their share.
    """
    if not known:
        return ""
    return known[(zlib.crc32(eval_id.encode()) + attempt - 1) % len(known)]


def has_untried(known: Sequence[str], attempt: int) -> bool:
    """Whether some executor was not tried yet since the last round began."""
    return attempt % max(1, len(known)) != 0


def run(program: Program, place: str) -> Ran:
    """Run a program. Raises ExecutorDown and NetworkTrouble."""
    return _run_by(place, program) if place else sandbox.of_this_process().run(program)


def _run_by(place: str, program: Program) -> Ran:
    address = urlsplit(place)
    connection = http.client.HTTPConnection(address.hostname or "", address.port, timeout=_CONNECT_S)
    try:
        try:
            connection.connect()
        except OSError as error:
            raise ExecutorDown(f"{place}: {error}") from error
        return _asked(connection, place, program)
    finally:
        connection.close()


def _asked(connection: http.client.HTTPConnection, place: str, program: Program) -> Ran:
    patience_s = program.timeout_s + PATIENCE_S
    connection.sock.settimeout(patience_s)
    try:
        connection.request("POST", "/run", msgspec.json.encode(program))
        _await_answer(connection, within_s=patience_s)
        answer = connection.getresponse()
        body = answer.read()
    except (ConnectionError, http.client.HTTPException) as error:
        # One sentence, however the system calls it: alike failures are one group of dead letters.
        raise NetworkTrouble(f"{place} broke the connection off") from error
    except OSError as error:
        raise NetworkTrouble(f"{place}: {error or type(error).__name__}") from error
    if answer.status == http.client.SERVICE_UNAVAILABLE:
        raise ExecutorDown(f"{place}: all slots are taken")
    if answer.status != http.client.OK:
        raise NetworkTrouble(f"{place} answered {answer.status}: {body[:200].decode(errors='replace')}")
    return msgspec.json.decode(body, type=Ran)


def _await_answer(connection: http.client.HTTPConnection, *, within_s: float) -> None:
    """Return when there is something to read. Raises TimeoutError."""
    poller = select.poll()
    poller.register(connection.sock, select.POLLIN)
    give_up_at = time.monotonic() + within_s
    while not poller.poll(WAIT_S * 1_000):
        if time.monotonic() > give_up_at:
            raise TimeoutError(f"no answer within {within_s:g} s")
