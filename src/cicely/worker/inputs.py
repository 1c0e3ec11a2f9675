"""The results of the jobs before one, put into its arguments when it is run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, Protocol

import msgspec

from cicely.core.edge import ParentEnd, Role
from cicely.core.job import Claim
from cicely.core.outcome import ErrorRecord
from cicely.core.states import State
from cicely.core.values.inputs import Inputs, Part
from cicely.errors import ResultGone

#: Results, each of up to 64 KiB beside its blob, are read in pages: at first of so many, and of more
#: while a page holds fewer bytes than this.
PAGE: Final = 200
MAX_PAGE: Final = 10_000
PAGE_BYTES: Final = 1024 * 1024

Call = tuple[tuple[Any, ...], dict[str, Any]]
Tell = Callable[[Part], Any]


class Reader(Protocol):
    """How the ends of the jobs before one are read, and their results."""

    def unpack(self, job_id: str, data: bytes) -> object:
        """Decode a value of a job. Raises Malformed."""

    def parents(self, job_id: str, after: int, limit: int) -> list[ParentEnd]:
        """As `engines.contract.Engine.parents`."""


class Recoder(Reader, Protocol):
    """What also writes calls."""

    def unpack_call(self, job_id: str, data: bytes) -> Call:
        """Decode the arguments of a call. Raises Malformed."""

    def bare(self, job_id: str, data: bytes) -> bytes:
        """Return encoded bytes that can be read without an engine and without keys."""

    def pack_bare_call(self, args: tuple[Any, ...], kwargs: dict[str, Any], *, where: str) -> bytes:
        """Encode a call so that it can be read without an engine and without keys."""


def with_inputs(claim: Claim, call: Call, reader: Reader) -> Call:
    """Return the arguments of a call with results in place of what stands for them.

    Raises ResultGone where a job before this one was deleted, and what reading its result raises.
    """
    args, kwargs = call
    if not any(isinstance(value, Inputs) for value in (*args, *kwargs.values())):
        return call
    tells = [_Parent(end, reader).tell for end in parents_of(claim, reader) if end.role is Role.INPUT]
    resolved = tuple(_resolved(value, tells) for value in args)
    return resolved, {name: _resolved(value, tells) for name, value in kwargs.items()}


def resolved_claim(claim: Claim, values: Recoder) -> Claim:
    """Return the claim as an isolated attempt gets it: with the results themselves in its arguments.

    Of the jobs before it, only those that it called stay, with results that can be read there.
    """
    if not claim.joins:
        return claim
    args, kwargs = with_inputs(claim, values.unpack_call(claim.job_id, claim.body), values)
    body = values.pack_bare_call(args, kwargs, where=claim.task)
    ends = tuple(_bare(end, values) for end in parents_of(claim, values) if end.role is Role.CALL)
    return msgspec.structs.replace(claim, body=body, joins=len(ends), parents=ends)


def _bare(end: ParentEnd, values: Recoder) -> ParentEnd:
    if not end.result:
        return end
    return msgspec.structs.replace(end, result=values.bare(end.id, end.result))


class Uncalled(Exception):
    """A job that was called did not succeed; `end` is how it ended."""

    def __init__(self, end: ParentEnd) -> None:
        super().__init__(f"job {end.cause or end.id}, which this one called: {described(end)}")
        self.end = end


def count_calls(claim: Claim, reader: Reader) -> int:
    """Return how many jobs the job has called so far."""
    return sum(end.role is Role.CALL for end in parents_of(claim, reader))


def called_value(inputs: Inputs, claim: Claim, reader: Reader) -> Any:
    """Return the value of a workflow that the job called, when it has ended.

    Raises Uncalled for the first of its jobs, in order, that did not succeed.
    """
    tells = [_Called(end, reader).tell for end in parents_of(claim, reader) if end.role is Role.CALL]
    return inputs.of(tells)


class _Called:
    """One job that was called."""

    def __init__(self, end: ParentEnd, reader: Reader) -> None:
        self._end = end
        self._reader = reader

    def tell(self, _part: Part) -> Any:
        """Return its result."""
        end = self._end
        if end.is_gone or end.state is not State.SUCCEEDED:
            raise Uncalled(end)
        return self._reader.unpack(end.id, end.result) if end.result else None


def parents_of(claim: Claim, reader: Reader) -> list[ParentEnd]:
    """Return how all jobs before this one ended, in order."""
    if len(claim.parents) >= claim.joins:
        return list(claim.parents)
    ends: list[ParentEnd] = []
    limit = PAGE
    while len(ends) < claim.joins:
        page = reader.parents(claim.job_id, len(ends), limit)
        if not page:
            break
        ends += page
        # A page is dear to find and small results are many to one: the next is as large as they allow.
        size_bytes = sum(len(end.result) for end in page)
        limit = min(2 * limit, MAX_PAGE) if size_bytes < PAGE_BYTES else PAGE
    return ends


def _resolved(value: Any, tells: Sequence[Tell]) -> Any:
    return value.of(tells) if isinstance(value, Inputs) else value


class _Parent:
    """One job before this one, decoded as far as it is asked for."""

    def __init__(self, end: ParentEnd, reader: Reader) -> None:
        self._end = end
        self._reader = reader

    def tell(self, part: Part) -> Any:
        """Return its result, or one of the words that describe its failure."""
        match part:
            case Part.RESULT:
                return self._result()
            case Part.JOB_ID:
                return self._end.cause or self._end.id
            case Part.ERROR:
                return described(self._end)
            case Part.TRACEBACK:
                return ErrorRecord.decoded(self._end.error).traceback if self._end.error else ""

    def _result(self) -> Any:
        end = self._end
        if end.is_gone or end.state is not State.SUCCEEDED:
            was = "was deleted" if end.is_gone else f"is {end.state}"
            raise ResultGone(f"job {end.id}, whose result this one was to be given, {was}")
        return self._reader.unpack(end.id, end.result) if end.result else None


def described(end: ParentEnd) -> str:
    """Return in words why a job did not succeed: "ValueError: no such row"."""
    if not end.error:
        return "deleted" if end.is_gone else str(end.state)
    error = ErrorRecord.decoded(end.error)
    return f"{error.type_name}: {error.message}" if error.message else error.type_name
