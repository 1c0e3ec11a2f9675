"""How names, numbers and tokens are written in keys and arguments.

All keys begin with the namespace in braces, which is their hash tag: `{cicely}:...`

====================  =======  ===============================================================
key                   type     holds
====================  =======  ===============================================================
meta                  hash     format, the last numbers of jobs, sessions and edges, how many jobs have ended
mark                  string   nothing; written by calls that wait for the server's disk
ids                   hash     job id -> n, or `tomb`
j:<n>                 string   the job's record (see scripts/parts/rows.lua)
b:<n>  r:<n>          string   a body or result above 1 KiB
d:<n>                 string   the job's end (see scripts/parts/endings.lua)
l:<n>                 hash     what attempts left: progress, checkpoint, error
a:<n>                 list     attempts after which the job went on
work                  zset     `<queue>|<kind>:<task>` of whatever has plain ready jobs
lanes:<pair>          zset     what format 2 kept of lanes
ready:<pair>|         zset     n -> rank of plain jobs
gated                 string   there are or were such jobs
classes               zset     of ready jobs that are not plain (see scripts/parts/gates.lua)
gates:<class>         zset     key -> when its gate opens
gate:<key>            zset     classes with a gate at it
openings              zset     `<key>|<class>` -> when the gate opens, of what is to come
turns:<key>|<class>   zset     streams that stand at a gate, by the clocks of their lanes
gated:<stream>        zset     n -> rank
stands:<queue>|<lane>  hash    stream -> rank and n of its first job, and its gate
mixed                 zset     streams that several things may hold back, by when they were looked at
queued                hash     key -> ready jobs that use it
lane:<queue>          hash     lane -> its clock, and the seconds that its jobs took lately
clocks                hash     queue -> its clock
set:<kind>            hash     name -> setting
gauges                hash     key -> where its valve stands
holders:<key>         zset     who holds it (n, or n and a request) -> since
units:<worker>        hash     n -> what the job uses of its worker's resources
reserved              zset     what workflows have reserved: workflow and worker, a zero byte between
reserved:<worker>     hash     workflow -> its reservation (see scripts/parts/reservations.lua)
drawn:<worker>        hash     n -> of which workflow the job draws, and which resources
reserved_seen         hash     workflow -> n up to which its jobs were seen to have ended
passed                hash     worker -> the job that it passed over for want of room, and when
paused                set      queues
due                   zset     n -> due_at; `intents` -> 0 while there are any
expiring              zset     n -> expires_at, while the job has not started
runs                  hash     n -> its claim
late                  zset     n -> deadline_at of claims that have one
session:<id>          hash     facts, lease_s, beat, instants, doubted, ear
tasks:<id>            set      what the session can run
held:<id>             set      n of its claims
asked:<id>            hash     request -> how many of its claims are held
sessions              zset     open sessions by number
closed:<id>           string   kept 90 days
t:<token>             string   receipt of an outcome, kept ten leases
unique                hash     key -> id of the live job that holds it
ended:<state>         zset     n of failed, cancelled and expired jobs
old                   zset     instants at which jobs are to be deleted
old:<instant>         list     n of these jobs
tombs  forget         hash     what is left of swept jobs; zset: id -> until_at
tag:<tag>             zset     n
blocks  block_jobs    zset     thousands of numbers that have jobs; hash: how many
count                 hash     `<queue>|<state>` -> jobs
blob:<job id>         hash     digest -> pieces, `<digest>:<piece>` -> bytes
blobs                 zset     blob -> when to look whether its job was stored
w:<n>                 hash     what a job of a workflow has beside its record (see scripts/parts/graph.lua)
in:<n>  out:<n>       zset     n of its parents; n of its children; by the number of the edge
broken:<n>            zset     n of the parents into which its edges broke
because:<job id>      zset     n of those that were cancelled because of a job
gone  gone_ids        hash     n -> id of deleted jobs that edges still name, and back
of:<workflow>         zset     n of its jobs
hold:<workflow>       zset     n of those that wait until it is published
grp:<group>           zset     n
wf:<workflow>         hash     published, and how far it was looked at for its retention
workflows             zset     workflow -> when to look at it
intents               list     what an earlier call set in motion and left (see scripts/parts/agenda.lua)
late_intents          list     of that, what comes when no others are left
intents_of            hash     n -> how many of these there are
s:<n>  o:<n>          hash     key -> value of a job's steps; list: the keys in their order
waiters:<event>       zset     n of those that wait for an event
mail:<event>          list     events that nobody took yet
sent                  zset     id of an event -> sent_at
schedules             hash     name -> schedule
ticks                 zset     name -> next_at of schedules that are awake
roll:<minute>         hash     what was counted in a minute (see scripts/parts/past.lua)
rolls                 zset     minutes
history               stream   events, by their numbers
armed                 zset     sessions that wait for work, by number
await                 hash     job id -> ears that wait for its end
====================  =======  ===============================================================

`n` is a job's number in twelve digits, so that it sorts as text. Names of queues, tasks and lanes are
percent-encoded, so that `|` and `:` divide them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final
from urllib.parse import quote, unquote

_REQUEST_BYTES: Final = 8
_N_BYTES: Final = 5
_FENCES: Final = 1 << 24

WILDCARD: Final = ".*"


@lru_cache(maxsize=4096)
def quoted(name: str) -> str:
    """Return a name as it stands in keys."""
    return quote(name, safe="")


@lru_cache(maxsize=4096)
def unquoted(text: str) -> str:
    """Return the name behind what `quoted` wrote."""
    return unquote(text)


def quoted_task(name: str) -> str:
    """Return a task that a session names, or the package above many: "evals.*" stays a pattern."""
    return quoted(name[:-1]) + "*" if name.endswith(WILDCARD) else quoted(name)


def padded(n: int) -> str:
    """Return a job's number as it stands in keys."""
    return f"{n:012d}"


def token_of(request: bytes, n: int, fence: int) -> bytes:
    """Return the token of a claim: who asked, for which job, and which claim of it."""
    return request + (n << 24 | fence % _FENCES).to_bytes(8, "big")


def parts_of(token: bytes) -> tuple[str, str, int]:
    """Return n, request and fence of a token, as scripts compare them; nonsense for what is none."""
    if len(token) != 2 * _REQUEST_BYTES:
        return "", "", 0
    n = int.from_bytes(token[_REQUEST_BYTES : _REQUEST_BYTES + _N_BYTES], "big")
    fence = int.from_bytes(token[_REQUEST_BYTES + _N_BYTES :], "big")
    return f"{n:012d}", token[:_REQUEST_BYTES].hex(), fence


def word_of(token: bytes) -> str:
    """Return a token as one word."""
    n, request, fence = parts_of(token)
    return f"{request}:{n}:{fence}"


def token_in(word: bytes) -> bytes:
    """Return the token behind what `word_of` wrote."""
    request, n, fence = word.decode().split(":")
    return token_of(bytes.fromhex(request), int(n), int(fence))
