"""What a person is told of the index: who is asked now, why, and who named the holders of a content."""

import pytest

from agent.admin.index import index_view, learnt_in_words, state_in_words, warning_in_words
from agent.documents.index import IndexSource, IndexState, IndexWarningEntry
from agent.documents.times import Moment
from agent.holders.index import Holders, IndexStatus
from tests.unit.twins import node

MOMENT = Moment(now_s=100.0, unix_s=1_785_585_600.0)
URL = "valkey://index.shorthaul:6379"
DOWN = IndexStatus(index=URL, state=IndexState.DOWN, problem="no answer within 0.15 s", hint="look at it")


def found(source: IndexSource | None) -> Holders:
    return Holders(nodes=(node("a"),), exhaustive=False, source=source)


def test_document_says_when_the_server_was_reset_and_why_in_the_time_of_day() -> None:
    status = IndexStatus(
        index=URL, state=IndexState.WARMING, resets=2, reset_s=40.0, reset_reason="restarted"
    )
    document = index_view(node("n1"), status, MOMENT)
    assert (document.reset_at, document.reset_reason, document.resets) == (
        "2026-08-01T11:59:00.000Z",
        "restarted",
        2,
    )
    assert (document.node, document.index, document.state) == ("n1", URL, "warming")


def test_document_counts_all_nodes_that_tell_the_server_nothing_and_names_a_few() -> None:
    silent = tuple(node(f"n{number}") for number in range(20))
    document = index_view(node("n1"), IndexStatus(index=URL, silent=lambda: silent), MOMENT)
    assert (document.silent_count, document.silent) == (20, silent[:8])


def test_index_without_a_server_says_that_the_peers_are_asked_and_nothing_else() -> None:
    document = index_view(node("n1"), IndexStatus(), MOMENT)
    assert (document.index, document.state, document.problem, document.reset_at) == (
        "scatter",
        "peers",
        None,
        None,
    )
    assert state_in_words(IndexStatus()) == "scatter: the peers are asked who has what; there is no server"


def test_state_of_a_server_says_what_it_was_told_and_what_not_yet() -> None:
    status = IndexStatus(index=URL, state=IndexState.SERVER, announced=2000)
    assert state_in_words(status) == f"{URL}: the server is asked who has what; 2000 digests announced"
    status = IndexStatus(index=URL, state=IndexState.WARMING, announced=7, pending=1993)
    assert state_in_words(status).endswith("; 7 digests announced, 1993 changes to go")


@pytest.mark.parametrize(
    ("source", "status", "words"),
    [
        (None, IndexStatus(), None),
        (IndexSource.CACHE, DOWN, "this node remembers them from a moment ago"),
        (IndexSource.SERVER, IndexStatus(index=URL), "the index's server named them"),
        (
            IndexSource.FALLBACK,
            DOWN,
            "near peers named them: the index's server is not asked (no answer within 0.15 s)",
        ),
        (
            IndexSource.FALLBACK,
            IndexStatus(index=URL, state=IndexState.WARMING),
            "near peers named them: the index's server did not know any, or does not know everything yet",
        ),
    ],
)
def test_explanation_says_who_named_the_holders_and_why_not_the_server(
    source: IndexSource | None, status: IndexStatus, words: str | None
) -> None:
    assert learnt_in_words(found(source), status) == words


def test_warnings_are_told_together_and_the_same_advice_once() -> None:
    warnings = tuple(IndexWarningEntry(problem=each, hint="set it") for each in ("it evicts", "no maxmemory"))
    assert warning_in_words(IndexStatus(warnings=warnings)) == ("it evicts; no maxmemory", "set it")
    assert warning_in_words(IndexStatus()) is None
