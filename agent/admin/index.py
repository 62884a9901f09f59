"""The index for people: ``/api/index``, a part of the agent, and who named the holders of a content."""

from agent.documents.index import IndexDocument, IndexSource, IndexState
from agent.documents.times import Moment
from agent.holders.index import Holders, IndexStatus
from topology.placement import NodeName

_SILENT_MAX = 8


def index_view(own: NodeName, status: IndexStatus, moment: Moment) -> IndexDocument:
    """The document for one node."""
    silent = status.silent()
    return IndexDocument(
        time=moment.text,
        node=own,
        index=status.index,
        state=status.state.value,
        problem=status.problem,
        hint=status.hint,
        warnings=status.warnings,
        server=status.server,
        cluster=status.cluster,
        number=status.number,
        announced=status.announced,
        pending=status.pending,
        resets=status.resets,
        reset_at=None if status.reset_s is None else moment.text_of(status.reset_s),
        reset_reason=status.reset_reason,
        silent_count=len(silent),
        silent=silent[:_SILENT_MAX],
        latency_us=status.latency_us,
        used_bytes=status.used_bytes,
        most_bytes=status.most_bytes,
        policy=status.policy,
    )


def state_in_words(status: IndexStatus) -> str:
    """Who is asked now. For a server, also what it was told."""
    words = f"{status.index}: {status.state.words}"
    if status.state is IndexState.PEERS:
        return words
    pending = f", {status.pending} changes to go" if status.pending else ""
    return f"{words}; {status.announced} digests announced{pending}"


def warning_in_words(status: IndexStatus) -> tuple[str, str] | None:
    """What works, and should be mended all the same, with what to do. None: nothing."""
    if not status.warnings:
        return None
    hints = dict.fromkeys(each.hint for each in status.warnings if each.hint)
    return "; ".join(each.problem for each in status.warnings), "; ".join(hints)


def learnt_in_words(found: Holders, status: IndexStatus) -> str | None:
    """Who named the holders. None: the peers, as there is no server."""
    match found.source:
        case None:
            return None
        case IndexSource.CACHE:
            return "this node remembers them from a moment ago"
        case IndexSource.SERVER:
            return "the index's server named them"
        case IndexSource.FALLBACK:
            return f"near peers named them: {_why_not_the_server(status)}"


def _why_not_the_server(status: IndexStatus) -> str:
    if status.problem is not None:
        return f"the index's server is not asked ({status.problem})"
    return "the index's server did not know any, or does not know everything yet"
