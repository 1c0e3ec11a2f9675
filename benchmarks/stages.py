"""The stages of a job by the functions that carry them out, for those who count samples.

A sample belongs to the innermost of its frames that is named here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

RUN: Final = {
    "Handover.take": "take it from the hand-over",
    "Exchange.begin": "is it still ours to start?",
    "arguments": "decode and check the arguments",
    "limits_of": "its limits",
    "context_of": "make its context",
    "enter": "enter and leave its context",
    "leave": "enter and leave its context",
    "noop": "the function itself",
    "succeeded": "encode the result",
    "Board.start": "the board: it runs, it ended",
    "Board.clear": "the board: it runs, it ended",
    "Exchange.finish": "pass the outcome to the engine's thread",
    "Exchange.must_flush_before": "must outcomes leave first?",
    "Exchange.flush": "wait until the outcomes before it have left",
    "Outbox.flush": "wait until the outcomes before it have left",
    "Paces.ran": "note how long it took",
    "run_attempt": "call it, and catch what it raises",
    "Slot._close_to_interrupts": "close it to interrupts",
    "Slot._attempt": "the slot's own steps",
    "Slot._attempt_here": "the slot's own steps",
    "Slot._run": "the slot's own steps",
    "Slot.serve": "the slot's own steps",
}

_COMMIT: Final = {
    "Place.check": "is the file still the file?",
    "Turnstile.acquire": "the write lock: wait for it, sign it",
    "Turnstile.release": "the write lock: wait for it, sign it",
    "Commits._begin": "begin the transaction",
    "Commits._commit": "commit: write the log, wait for the disk",
    "rings": "whom to wake",
    "Commits._ring": "wake them",
    "Commits.run": "group commit's own steps",
}

TALK: Final = {
    "Exchange._sleep": "nothing to say: wait for work, or for company",
    "receive_frame": "wait for the clerk's answer",
    "Desk._ask": "ask the clerk, read its answer",
    "Exchange._demand": "what to ask for",
    "Exchange._take_in": "take claims in and hand them over",
    "Exchange._exchange": "the exchange's own steps",
    "Exchange._rest": "the exchange's own steps",
    "Exchange.run": "the exchange's own steps",
}

_REDIS: Final = {
    "Line.read": "wait for the server's answer",
    "Line.ask": "ask the server",
    "told": "put outcomes and demand into words",
    "_intake": "make claims of the answer",
    "RedisBell.disarm": "the bell",
    "RedisBell.arm": "the bell",
    "Connections.run": "the connection's own steps",
}

_POSTGRES: Final = {
    "_Settling._read": "settle: read what is to end",
    "_Settling.write": "settle: write the ends",
    "Stream._read": "claim: read the heads of the queues",
    "_Taking._streams": "claim: which queues and lanes are open",
    "_Taking.write": "claim: hold what was found",
    "promote": "claim: promote what is due",
    "next_due_in_s": "claim: when is more due?",
    "_repeated": "was this call answered before?",
    "member_of": "who asks?",
    "_wake_one": "whom to wake, and wake it",
    "Transaction.write_counts": "the counts",
    "PostgresBell.arm": "the bell",
    "turn": "empty what is done with",
    "enqueue_plain": "store it: one statement, its commit with it",
    "Transactions.at_once": "the transaction's own steps",
    "Transactions._begin": "begin the transaction",
    "Transactions.write.<locals>.once": "commit: wait for the disk",
    "_settle": "settle and claim: their own steps",
    "Transactions.write": "the transaction's own steps",
}

_CLERK: Final = {
    "settle": "settle: judge the tokens, write the ends",
    "claim": "claim: find ready jobs, hold them, make claims of them",
    "Clerk._wait": "wait for the child",
    "receive_frame": "wait for the child",
    "send_frame": "answer",
    "Clerk._serve": "the clerk's own steps",
}

_DELAY: Final = {
    "Order.new_job": "the call becomes a job: check, encode, name it",
    "enqueue": "enqueue: is it known? store it",
    "Connection.send": "hand it to the engine",
    "Requests.delay": "the call itself",
    "single": "the producer's loop",
}

_OF_ENGINE: Final = {
    "sqlite": _COMMIT | {"Commits._wait": "wait for the other clerk's transaction, perhaps shared"},
    "redis": _REDIS,
    "postgres": _POSTGRES,
}

#: By engine: what a clerk does, and what a producer does.
CLERK: Final = {engine: _CLERK | own for engine, own in _OF_ENGINE.items()}
DELAY: Final = {engine: _DELAY | own for engine, own in _OF_ENGINE.items()}


def stage_of(frames: Sequence[str], stages: dict[str, str]) -> str:
    """Return the words for what a stack was doing; frames are "function<tab>file"."""
    for frame in reversed(frames):
        function = frame.partition("\t")[0]
        if function in stages:
            return stages[function]
    return "elsewhere"
