"""Streams of the memory engine: ready jobs that are alike, of which the first is looked at."""

from __future__ import annotations

from cicely.core.flow import NO_NEEDS, Needs, accepts
from cicely.core.job import Kind
from cicely.core.resources import fits
from cicely.engines.contract import Session
from cicely.engines.memory.rows import Row

#: Queue, lane, task, kind and needs.
Stream = tuple[str, str, str, Kind, Needs]


def needs_of(row: Row) -> Needs:
    """Return what a ready job has in common with those of its stream."""
    flow = row.new.flow
    if flow is None and not row.shuns:
        return NO_NEEDS
    needs = flow.needs if flow else NO_NEEDS
    if row.draws:
        return Needs(needs.keys, needs.resources, needs.traits, draws=row.new.workflow)
    return Needs(needs.keys, needs.resources, needs.traits, row.shuns)


def could_ever(needs: Needs, session: Session) -> bool:
    """Return whether a session accepts such jobs and its worker could hold them."""
    return accepts(session.accepts, needs.traits) and fits(needs.resources, session.offers)


def stream_of(row: Row) -> Stream:
    """Return in which stream a ready job stands."""
    return (row.new.queue, row.new.lane, row.new.task, row.kind, needs_of(row))
