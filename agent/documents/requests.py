"""The last requests, newest first: ``/api/requests``, and the fields of a request's log line."""

from dataclasses import dataclass, field
from typing import ClassVar

from agent.documents.codec import json_key


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceEntry:
    """How many bytes of a body one node gave: ``bytes``.

    ``received_bytes``: how many came from it for this request, by the kernel's count. Heads count, and so
    does what the client was not sent: attempts that were abandoned, what was on its way when the client left.
    ``in_flight_bytes``: how many it gave while it was still fetching the content itself.
    """

    node: str
    tier: str
    size_bytes: int = field(metadata=json_key("bytes"))
    received_bytes: int
    in_flight_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TagEntry:
    """Whose word says which digest a tag has.

    ``told_by``: the node that was asked, perhaps this one. ``vouched_by``: the node that saw the tag at the
    registry. ``age_s``: how many seconds ago. ``imported``: no registry was asked; the tag was imported into
    ``vouched_by`` so long ago.
    """

    told_by: str
    vouched_by: str
    age_s: float
    imported: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StepEntry:
    """What a request was waiting for. The steps of a request are in the order in which they began.

    ``kind``: a value of `agent.observe.steps.StepKind`. ``start_s``: since the request's arrival.
    ``seconds``: how long it took, or so far. ``node``, ``tier``: the node that was asked. ``size_bytes``:
    body bytes that the client was sent in it. ``outcome``: a value of `agent.observe.steps.Outcome`.
    ``hedge``: it began beside another one that was slow. ``resume``: it went on where another one had
    ended. ``request``: the id under which that node has the request that it answered here.
    """

    kind: str
    start_s: float
    seconds: float
    node: str | None
    tier: str | None
    size_bytes: int | None = field(metadata=json_key("bytes"))
    outcome: str
    why: str
    hedge: bool
    resume: bool
    request: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestDocument:
    """One request. The page answers with a list of them.

    ``id``: 16 hexadecimal digits. ``under_way``: it has not ended, and all that follows is what is known so
    far. ``started_at``: when it arrived, UTC. ``path``: the listener.
    ``source``: ``local``, ``peer`` or ``none``.
    ``node``: the node that gave its first bytes. ``tier``: how near that node is. ``resumes``: how often
    another peer went on. ``way``: how most of its bytes were sent. ``verdict``: that of its connection, if
    known. ``seconds``: from its arrival to its last byte. ``tag``: for a request by tag, whose word was taken
    for its digest. ``steps``: what it waited for. ``steps_left_out``: how many more there were.
    """

    PATH: ClassVar[str] = "/api/requests"

    id: str = ""  # of an agent that gives its requests none
    under_way: bool = False
    started_at: str
    path: str
    method: str
    kind: str
    target: str
    digest: str | None
    status: int
    result: str
    tag: TagEntry | None
    source: str
    node: str | None
    tier: str
    reason: str
    body_bytes: int = field(metadata=json_key("bytes"))
    sources: tuple[SourceEntry, ...]
    resumes: int
    way: str | None
    first_byte_s: float | None
    seconds: float
    verdict: str | None
    steps: tuple[StepEntry, ...] = ()
    steps_left_out: int = 0
