"""What pods say: every document comes back as it was, and a lie is only a line that is none."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.documents.codec import DocumentInvalid, encode
from benchmarks.cluster import wire

DOCUMENTS = [
    wire.Step(share=0.5, what="pulling"),
    wire.Look(containerd="v1", blobs=(wire.Blob(registry="r", repository="p", digest="d", size_bytes=1),)),
    wire.Latencies(measured=(wire.Latency(tier="zone", connection="warm", requests=1),), bytes=5),
    wire.Pulled(image="i", seconds=1.5, tiers=(wire.TierBytes(tier="zone", bytes=3),)),
    wire.Pulled(image="i", there_before=True),
    wire.Removed(image="i", kept="in use"),
    wire.Trouble(problem="p", hint="h"),
]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda each: type(each).__name__)
def test_document_comes_back_as_it_was(document: wire.Document) -> None:
    assert wire.read(wire.written(7, document)) == wire.Line(number=7, document=document)


@given(st.text())
def test_text_that_is_none_of_ours_is_no_line(text: str) -> None:
    assert wire.read(text) is None
    found = wire.read(wire.MARK + text)
    assert found is None or isinstance(found, wire.Line)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"number": true, "kind": "Step", "document": {}}',
        '{"number": 1, "kind": "Pulled", "document": {"image": 5}}',
        '{"number": 1, "kind": [], "document": {}}',
        "[" * 100_000,
    ],
)
def test_line_of_an_impostor_is_none(text: str) -> None:
    assert wire.read(wire.MARK + text) is None


def test_line_of_a_newer_pod_is_counted_and_not_understood() -> None:
    assert wire.read(wire.MARK + '{"number": 3, "kind": "Dream", "document": {}}') == wire.Line(
        number=3, document=None
    )


def test_texts_of_a_pod_can_not_move_a_terminal_s_cursor() -> None:
    line = wire.read(wire.written(1, wire.Trouble(problem="\x1b[2Jgone" + "x" * 5000)))
    assert line is not None
    assert isinstance(line.document, wire.Trouble)
    assert line.document.problem.startswith(" [2Jgone")
    assert len(line.document.problem) == 2000


def test_order_of_another_version_is_refused_and_ones_own_is_read() -> None:
    order = wire.Order(run="r", stage="pull", node="n", hostport="", seconds=1.0, bytes_max=1)
    assert wire.order(encode(order)) == order
    with pytest.raises(DocumentInvalid, match="has version 9, and this image knows 1"):
        wire.order(encode(order).replace('"version": 1', '"version": 9'))
    for text in ("", "[]", "{", "null"):
        with pytest.raises(DocumentInvalid):
            wire.order(text)


def test_order_names_no_time_of_day_so_clocks_may_differ() -> None:
    known = {"version", "run", "stage", "node", "hostport", "image", "blobs"}
    bounds = {"seconds", "bytes_max", "hold_s", "rate_per_s"}
    assert set(wire.Order.__dataclass_fields__) == known | bounds
