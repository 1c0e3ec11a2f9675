"""Statements that go to the server in one message, and are answered in one.

A statement that answers nothing waits here for the next question: how often two processes wait for each
other decides how long a call takes, and not how many statements it has.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import groupby
from typing import Any, Final, Protocol, cast

import psycopg
from psycopg import Connection, errors
from psycopg.abc import Buffer, PQGen
from psycopg.adapt import PyFormat, Transformer
from psycopg.generators import fetch, send
from psycopg.pq import ExecStatus, Format
from psycopg.pq.abc import PGconn, PGresult

#: What psycopg hands out for a row; the statement beside each use says what it holds.
Values = tuple[Any, ...]
Link = Connection[Values]
Bindings = Sequence[Any] | dict[str, Any]

_PLACE: Final = re.compile(r"%(?:%|(?:\((\w+)\))?([sbt]))")
_FORMATS: Final = {"s": PyFormat.AUTO, "b": PyFormat.BINARY, "t": PyFormat.TEXT}
_BAD: Final = (ExecStatus.FATAL_ERROR, ExecStatus.BAD_RESPONSE, ExecStatus.PIPELINE_ABORTED)

#: A statement is prepared when it is used so often.
_PREPARED_AT: Final = 2


class Stale(Exception):
    """A connection was broken before anything was asked of it."""

    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class Answer:
    """The rows of a statement, once they are there."""

    __slots__ = ("is_there", "rows")

    def __init__(self) -> None:
        self.rows: list[Values] = []
        self.is_there = False


class Wire(Protocol):
    """How the statements of one transaction get to the server, in their order."""

    @property
    def is_fresh(self) -> bool:
        """Whether nothing was asked since the transaction began."""

    def start(self) -> None:
        """Begin with what may be asked of another connection if this one is broken."""

    def begin(self, statements: Sequence[str]) -> Answer:
        """Begin with these statements; the answer is the last one's."""

    def add(self, statement: str, bindings: Bindings | None = None) -> Answer:
        """Send a statement with the next ones; its answer is there after `send`."""

    def part(self) -> None:
        """Let what waits so far last; what follows answers nothing where it fails."""

    def send(self) -> None:
        """Send what waits, and return when it was answered."""

    def forget(self) -> None:
        """Drop what waits."""


class Pipeline:
    """One message for all that waits. A connection has one, and with it what it has prepared."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._adapting = Transformer(link)
        self._waiting: list[_Sent | None] = []
        self._used: dict[tuple[_Statement, tuple[int, ...]], int] = {}
        self._prepared: dict[tuple[_Statement, tuple[int, ...]], bytes] = {}
        self._count = 0
        self.is_fresh = False

    def start(self) -> None:
        """Begin with what may be asked of another connection if this one is broken."""
        self._waiting = []
        self.is_fresh = True

    def begin(self, statements: Sequence[str]) -> Answer:
        """Begin with these statements; the answer is the last one's."""
        self.start()
        *others, last = statements
        for statement in others:
            self.add(statement)
        return self.add(last)

    def add(self, statement: str, bindings: Bindings | None = None) -> Answer:
        """Send a statement with the next ones."""
        parsed = _parsed(statement)
        values = [bindings[name] for name in parsed.names] if isinstance(bindings, dict) else bindings or ()
        adapting = self._adapting
        data = adapting.dump_sequence(values, parsed.formats)
        answer = Answer()
        self._waiting.append(_Sent(parsed, data, adapting.types or (), adapting.formats or (), answer))
        return answer

    def part(self) -> None:
        """Let what waits so far last; what follows answers nothing where it fails."""
        self._waiting.append(None)

    def forget(self) -> None:
        """Drop what waits."""
        self._waiting = []

    def send(self) -> None:
        """Send what waits, and read the answers. Raises Stale where that was the first of a transaction."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            return
        is_fresh, self.is_fresh = self.is_fresh, False
        connection = self._link.pgconn
        try:
            results = self._exchanged(connection, waiting)
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            if is_fresh:
                raise Stale(error) from error
            raise
        parts = [[one for one in part if one] for is_any, part in groupby(waiting, key=bool) if is_any]
        places = iter(results)
        for number, part in enumerate(parts):
            try:
                self._read(part, places)
            except psycopg.Error:
                if not number:
                    raise

    def _exchanged(self, connection: PGconn, waiting: Sequence[_Sent | None]) -> list[PGresult]:
        try:
            connection.enter_pipeline_mode()
            parts = 1
            for sent in waiting:
                if sent is None:
                    connection.pipeline_sync()
                    parts += 1
                else:
                    self._send_one(connection, sent)
            connection.pipeline_sync()
            results = self._link.wait(_results(connection, parts))
            connection.exit_pipeline_mode()
        except BaseException:
            # Answers may still be on their way: nobody else may take them for theirs.
            connection.finish()
            raise
        return results

    def _send_one(self, connection: PGconn, sent: _Sent) -> None:
        key = (sent.statement, sent.types)
        name = self._prepared.get(key)
        if name is None:
            used = self._used[key] = self._used.get(key, 0) + 1
            if used < _PREPARED_AT:
                connection.send_query_params(
                    sent.statement.text, sent.data, sent.types, sent.formats, Format.BINARY
                )
                return
            self._count += 1
            name = self._prepared[key] = b"cicely_%d" % self._count
            connection.send_prepare(name, sent.statement.text, sent.types)
            sent.is_prepared_now = True
        connection.send_query_prepared(name, sent.data, sent.formats, Format.BINARY)

    def _read(self, part: Sequence[_Sent], results: Iterator[PGresult]) -> None:
        """Hand the results of one part to those who asked. Raises what the first that failed says."""
        failed: PGresult | None = None
        for sent in part:
            own = [next(results) for _ in range(1 + sent.is_prepared_now)]
            bad = next((result for result in own if result.status in _BAD), None)
            if bad is not None:
                failed = failed or bad
                # Perhaps it was not prepared, or cannot be used any more.
                self._prepared.pop((sent.statement, sent.types), None)
                continue
            sent.answer.is_there = True
            if own[-1].ntuples:
                self._adapting.set_pgresult(own[-1])
                sent.answer.rows = self._adapting.load_rows(0, own[-1].ntuples, cast(Any, tuple))
        if failed is not None:
            raise errors.error_from_result(failed, self._link.info.encoding)


class OneByOne:
    """Each statement by itself: for connections that are shared behind a pooler."""

    is_fresh = False

    def __init__(self, link: Link) -> None:
        self._link = link

    def start(self) -> None:
        """Nothing: who begins finds out."""

    def begin(self, statements: Sequence[str]) -> Answer:
        """Begin, in one message."""
        answer = Answer()
        try:
            cursor = self._link.execute("; ".join(statements).encode())
        except (psycopg.OperationalError, psycopg.InterfaceError) as error:
            raise Stale(error) from error
        while cursor.nextset():
            pass
        answer.rows = cursor.fetchall()
        return answer

    def add(self, statement: str, bindings: Bindings | None = None) -> Answer:
        """Carry out a statement."""
        answer = Answer()
        answer.is_there = True
        cursor = self._link.execute(statement, bindings, binary=True)
        if cursor.description is not None:
            answer.rows = cursor.fetchall()
        return answer

    def part(self) -> None:
        """Nothing: each statement is by itself."""

    def send(self) -> None:
        """Nothing: it was sent."""

    def forget(self) -> None:
        """Nothing waits."""


class Wired(Connection[Values]):
    """A connection with a wire of its own."""

    #: Whether a pooler is in between, so that nothing is prepared, and messages are simple.
    is_shared = False
    _wire: Wire | None = None

    @property
    def wire(self) -> Wire:
        """How the statements of transactions get to the server from here."""
        if self._wire is None:
            self._wire = OneByOne(self) if self.is_shared else Pipeline(self)
        return self._wire


class _Statement:
    """A statement as the server reads it, and what is put into its places."""

    __slots__ = ("formats", "names", "text")

    def __init__(self, text: bytes, names: tuple[str, ...], formats: list[PyFormat]) -> None:
        self.text = text
        self.names = names
        self.formats = formats


class _Sent:
    __slots__ = ("answer", "data", "formats", "is_prepared_now", "statement", "types")

    def __init__(
        self,
        statement: _Statement,
        data: Sequence[Buffer | None],
        types: tuple[int, ...],
        formats: Sequence[Format],
        answer: Answer,
    ) -> None:
        self.statement = statement
        self.data = data
        self.types = types
        self.formats = formats
        self.answer = answer
        self.is_prepared_now = False


@lru_cache(maxsize=1024)
def _parsed(statement: str) -> _Statement:
    names: list[str] = []
    formats: list[PyFormat] = []

    def place(found: re.Match[str]) -> str:
        name, form = found.groups()
        if form is None:
            return "%"
        if name is None or name not in names:
            names.append(name or "")
            formats.append(_FORMATS[form])
            return f"${len(names)}"
        return f"${names.index(name) + 1}"

    text = _PLACE.sub(place, statement).encode()
    return _Statement(text, tuple(names) if all(names) else (), formats)


def _results(connection: PGconn, parts: int) -> PQGen[list[PGresult]]:
    """Send, and return a result per statement once so many parts were answered."""
    yield from send(connection)
    results: list[PGresult] = []
    while parts:
        result = yield from fetch(connection)
        if result is None:
            continue
        if result.status == ExecStatus.PIPELINE_SYNC:
            parts -= 1
        else:
            results.append(result)
    return results
