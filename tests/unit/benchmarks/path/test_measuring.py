"""What is said of the connections of one way."""

from collections import Counter

from agent.flows.verdicts import Verdict
from benchmarks.lab.conntrack import Flow, Translation
from benchmarks.path.client import Told
from benchmarks.path.measuring import Judged, failures, in_words, too_busy
from benchmarks.path.ways import BASE, Cell, Path, Rules
from benchmarks.reporting.format import Figure, Series

_CELL = Cell(path=Path.NODE_PORT, rules=Rules.NFTABLES)


def _flow(dst: str, dst_port: int) -> Flow:
    return Flow(src="192.168.60.1", src_port=40000, dst=dst, dst_port=dst_port)


def _told(**failed: int) -> Told:
    return Told(whole="", connecting="", answered=8, connections=10, late=0, failed=failed)


def test_probe_and_conntrack_stand_beside_each_other() -> None:
    reply = Flow(src="10.244.0.2", src_port=30022, dst="10.244.0.1", dst_port=8818)
    truth = Translation(original=_flow("192.168.60.1", 30021), reply=reply)
    judged = Judged(connections=3, said=Counter({Verdict.KUBE_PROXY: 3}), truth=truth)
    assert in_words(_CELL, judged) == (
        "NodePort, nftables: the probe says of 3 connections: 3 KUBE_PROXY; "
        "conntrack: 192.168.60.1:30021 became 10.244.0.2:30022"
    )


def test_connection_that_was_not_translated_is_called_so() -> None:
    sent = _flow("127.0.0.1", 30020)
    words = in_words(BASE, Judged(truth=Translation(original=sent, reply=sent.reverse)))
    assert words.endswith("nothing; conntrack: 127.0.0.1:30020 was not translated")


def test_unknown_is_not_called_untranslated() -> None:
    assert in_words(BASE, Judged()).endswith("conntrack does not say")


def test_failed_requests_are_counted_by_their_reason() -> None:
    assert failures(_CELL, _told(refused=2), _told(refused=1, reset=1)) == [
        "NodePort, nftables: 3 of 20 requests failed: refused",
        "NodePort, nftables: 1 of 20 requests failed: reset",
    ]
    assert failures(_CELL, _told()) == []


def test_latencies_of_a_busy_machine_are_not_to_be_trusted() -> None:
    busy = Figure(what="late", series=(Series(way="a", values=(30.0, None)), Series(way="b", values=(9.0,))))
    assert "19.5 % of its requests late" in too_busy(busy)
    assert not too_busy(Figure(what="late", series=(Series(way="a", values=(0.0, 1.0)),)))
    assert not too_busy(None)
