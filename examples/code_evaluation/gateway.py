"""The gateway: `uvicorn examples.code_evaluation.gateway:gateway`.

It keeps nothing itself: any number of them may run, and whatever one accepted is in the engine before it
says so.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator, Iterable
from typing import Annotated, Any

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, StreamingResponse
from pydantic import ValidationError

from cicely import CicelyError, EngineUnavailable, Filter, Job, JobNotFound, State, UsageError
from cicely.migration import Migration, Which
from cicely.observe.metrics import CONTENT_TYPE
from examples.code_evaluation import moving
from examples.code_evaluation.app import app, evaluate
from examples.code_evaluation.submissions import BULK, MARK, MAX_BATCH, SINGLE, Submission, queue_of

gateway = FastAPI(title="Code evaluation", version="1")
#: While the service is moved, submissions are split between the queue that it had and Cicely.
moves = moving.migrations() if moving.OLD_VARIABLE in os.environ else {}
_LOOK_S = 0.1
_PAGE = 500


@gateway.exception_handler(OSError)
@gateway.exception_handler(EngineUnavailable)
def away(_request: Request, error: Exception) -> Response:
    """Have the caller repeat the request as it is: what was accepted of it is not accepted again.

    An OSError is that of the old side of a migration, or of the book.
    """
    return PlainTextResponse(f"try again: {error}\n", 503, headers={"Retry-After": "5"})


@gateway.exception_handler(UsageError)
def refused(_request: Request, error: Exception) -> Response:
    """Say what cannot be; the message names the remedy."""
    return JSONResponse({"detail": str(error)}, 422)


@gateway.exception_handler(RequestValidationError)
def unreadable(_request: Request, error: RequestValidationError) -> Response:
    """Say what is wrong, without what was sent: it may be nothing that JSON can say."""
    wrong = [{key: one[key] for key in ("type", "loc", "msg")} for one in error.errors()]
    return JSONResponse({"detail": wrong}, 422)


@gateway.post("/evaluations", status_code=202)
def submit(submission: Submission, response: Response) -> dict[str, Any]:
    """Accept an evaluation; answers 200 where it was accepted before, 409 where that was another program."""
    if moves:
        return _split(moves[queue_of(submission.tier)], submission, response)
    before = _found(submission.eval_id)
    if before is not None:
        response.status_code = 200
        return _checked(before, submission)
    _enqueue(submission, queue=queue_of(submission.tier))
    # Whoever was faster with the same id has the say.
    return _checked(app.job(submission.eval_id), submission)


def _split(migration: Migration, submission: Submission, response: Response) -> dict[str, Any]:
    """Accept an evaluation on one of the two sides, where it is not on one already."""
    side = migration.holder(submission.eval_id)
    if side is not None:
        response.status_code = 200
        standing = migration.status(submission.eval_id)
        return {"eval_id": submission.eval_id, "state": standing.state, "side": side}
    return {"eval_id": submission.eval_id, "state": "live", "side": _given(migration, submission)}


def _given(migration: Migration, submission: Submission) -> Which:
    """Give an evaluation to one of the two sides, for good: its id is the key."""
    return migration.submit(submission.eval_id, moving.payload_of(submission), key=submission.eval_id)


@gateway.post("/batches", status_code=202)
async def submit_batch(request: Request) -> dict[str, Any]:
    """Accept a file with a submission per line (JSON), of which a wrong one refuses all; answer how many.

    It is stored in pages. Whoever got no answer sends it again: an id is stored once.
    """
    lines = (await request.body()).splitlines()
    return await asyncio.to_thread(_submit_all, [line for line in lines if line.strip()])


def _submit_all(lines: list[bytes]) -> dict[str, Any]:
    submissions = _parsed(lines)
    if moves:
        for one in submissions:
            if moves[BULK].holder(one.eval_id) is None:
                _given(moves[BULK], one)
        return {"accepted": len(submissions)}
    pages = [submissions[start : start + _PAGE] for start in range(0, len(submissions), _PAGE)]
    _refuse_other_programs(pages)
    for page in pages:
        with app.batch():
            for submission in page:
                _enqueue(submission, queue=BULK)
    return {"accepted": len(submissions), "queue": BULK}


def _refuse_other_programs(pages: list[list[Submission]]) -> None:
    """Raise 409 where an id of the batch was given to another program, earlier or in the batch itself."""
    marks: dict[str, str] = {}
    taken = []
    for page in pages:
        records = app.engine.get([one.eval_id for one in page])
        marks |= {record.id: mark for record in records if record and (mark := _mark_of(record.tags))}
        taken += [one.eval_id for one in page if marks.setdefault(one.eval_id, one.mark) != one.mark]
    if taken:
        raise HTTPException(409, f"{', '.join(taken[:20])}: ids of other programs, choose new ones")


def _parsed(lines: list[bytes]) -> list[Submission]:
    if len(lines) > MAX_BATCH:
        raise HTTPException(413, f"{len(lines):,} lines; a batch has up to {MAX_BATCH:,}")
    submissions, wrong = [], []
    for number, line in enumerate(lines, 1):
        try:
            submissions.append(Submission.model_validate_json(line))
        except ValidationError as error:
            first = error.errors()[0]
            wrong.append({"line": number, "where": ".".join(map(str, first["loc"])), "msg": first["msg"]})
    if wrong:
        raise HTTPException(422, wrong[:20])
    return submissions


def _enqueue(submission: Submission, *, queue: str) -> None:
    asked = evaluate.options(id=submission.eval_id, queue=queue, tags=[submission.mark])
    asked.delay(submission.eval_id, submission.code, submission.language)


@gateway.get("/evaluations")
def listed(
    state: Annotated[State | None, Query()] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    cursor: Annotated[str | None, Query(description="what the page before named")] = None,
) -> dict[str, Any]:
    """Return evaluations, newest first, and the cursor that goes on behind them (None: no more).

    A page may have fewer than asked for, and yet a cursor.
    """
    states = () if state is None else (state,)
    try:
        page = app.engine.find(Filter(states=states, task=evaluate.name), limit=limit, cursor=cursor)
    except ValueError:
        raise HTTPException(422, f"the cursor {cursor} was not given out here") from None
    found = [
        {"eval_id": record.id, "state": record.state, "queue": record.queue, "accepted_at": record.created_at}
        for record in page.jobs
    ]
    return {"evaluations": found, "cursor": page.cursor}


@gateway.get("/evaluations/{eval_id}")
def shown(eval_id: str) -> dict[str, Any]:
    """Return how an evaluation stands, with its result or its error."""
    job = _found(eval_id)
    if job is None and moves and (standing := moves[SINGLE].status(eval_id)).is_known:
        return {"eval_id": eval_id, "side": "old", "state": standing.state, "result": standing.output}
    return _shown(job or _known(eval_id))


@gateway.post("/evaluations/{eval_id}/cancel")
def cancel(eval_id: str) -> dict[str, Any]:
    """Cancel an evaluation; a running one ends soon. 409 where it had ended."""
    job = _known(eval_id)
    if not job.cancel("asked for by the gateway"):
        raise HTTPException(409, f"{eval_id} has ended already: {job.state}")
    return _shown(job)


@gateway.get("/evaluations/{eval_id}/events")
async def followed(eval_id: str) -> StreamingResponse:
    """Tell every change by server-sent events until the evaluation has ended."""
    job = await asyncio.to_thread(_known, eval_id)
    return StreamingResponse(_changes(job), media_type="text/event-stream")


async def _changes(job: Job[Any]) -> AsyncIterator[str]:
    last: dict[str, Any] = {}
    while True:
        try:
            now = await asyncio.to_thread(_shown, job)
        except EngineUnavailable:
            yield ": the engine is away\n\n"
            continue
        except JobNotFound:
            return  # it was deleted meanwhile
        if now != last:
            yield f"event: {now['state']}\ndata: {json.dumps(now)}\n\n"
        if State(now["state"]).is_final:
            return
        last = now
        await asyncio.sleep(_LOOK_S)


@gateway.get("/metrics")
def measured() -> PlainTextResponse:
    """Return jobs by state, what was counted and run times, as text for Prometheus."""
    return PlainTextResponse(app.metrics(), media_type=CONTENT_TYPE)


@gateway.get("/health")
def health() -> dict[str, str]:
    """Answer where the engine does."""
    return {"engine": app.engine.facts().engine}


# --- jobs -----------------------------------------------------------------------------------------


def _found(eval_id: str) -> Job[Any] | None:
    try:
        return app.job(eval_id)
    except JobNotFound:
        return None


def _known(eval_id: str) -> Job[Any]:
    job = _found(eval_id)
    if job is None and moves and moves[SINGLE].status(eval_id).is_known:
        raise HTTPException(409, f"{eval_id} is in the old queue, which can only be asked how it stands")
    if job is None:
        raise HTTPException(404, f"no evaluation has the id {eval_id}")
    return job


def _checked(job: Job[Any], submission: Submission) -> dict[str, Any]:
    info = job.info()
    if _mark_of(info["tags"]) not in ("", submission.mark):
        raise HTTPException(409, f"{submission.eval_id} is the id of another program: choose a new one")
    return {"eval_id": job.id, "state": info["state"], "queue": info["queue"]}


def _mark_of(tags: Iterable[str]) -> str:
    return next((tag for tag in tags if tag.startswith(MARK)), "")


def _shown(job: Job[Any]) -> dict[str, Any]:
    info = job.info()
    error = info["error"] or {}
    return {
        "eval_id": job.id,
        "state": info["state"],
        "queue": info["queue"],
        "attempt": info["attempt"],
        "accepted_at": info["created_at"],
        "ended_at": info["ended_at"],
        "progress": info["progress"],
        "result": _result(job, info["state"]),
        "error": f"{error['type_name']}: {error['message']}" if error else None,
        "attempts": [
            {"number": one["attempt"], "ended": one["reason"], "error": (one["error"] or {}).get("message")}
            for one in info["attempts"]
        ],
    }


def _result(job: Job[Any], state: str) -> Any:
    if state != State.SUCCEEDED:
        return None
    try:
        return job.result
    except CicelyError:
        return None
