"""What a signature and its check cost, in processor time of one core."""

import time
from collections.abc import Callable

from multidict import CIMultiDict

from agent.keyring import new_key, parse_keys
from agent.members.member import Peer
from agent.members.roster import Roster
from agent.peering.credentials import Credentials
from agent.peering.gate import Gate
from benchmarks.reporting.recorder import Recorder
from topology.placement import NodeName, Placement

_TARGET = "/v2/library/app/blobs/sha256:" + "0" * 64 + "?ns=registry.demo"
_ADDRESS = "192.0.2.2"
_ROUNDS, _EACH = 30, 500


def report_costs(report: Recorder) -> None:
    """A signature, its check, and what a stranger's bad one costs."""
    ring = parse_keys(new_key())
    roster = Roster(own=NodeName("a"), placement=Placement())
    asker, holder = NodeName("b"), NodeName("a")
    roster.update({asker: Peer(name=asker, address=_ADDRESS, port=30020, placement=Placement())})
    gate = Gate(own=holder, ring=lambda: ring, is_open=False, roster=roster)
    signer, plain = Credentials(own=asker, ring=lambda: ring), Credentials(own=asker)
    peer = Peer(name=holder, address="192.0.2.1", port=30020, placement=Placement())
    made: list[CIMultiDict[str]] = []

    def sign() -> None:
        made.append(CIMultiDict(signer.headers(peer, "GET", _TARGET, {"Range": "bytes=0-"})))

    def not_sign() -> None:
        CIMultiDict(plain.headers(peer, "GET", _TARGET, {"Range": "bytes=0-"}))

    def check() -> None:
        gate.check("GET", _TARGET, made.pop(), _ADDRESS)

    sign()
    forged = made.pop()
    forged["Authorization"] = forged["Authorization"][:-8] + "00000000"
    odd = CIMultiDict({"Authorization": "Bearer " + "x" * 60})
    costs: dict[str, list[float]] = {name: [] for name in ("sign", "check", "both", "forged", "no signature")}
    for _ in range(_ROUNDS):
        signing = _us(sign) - _us(not_sign)
        checking = _us(check)
        costs["sign"].append(signing)
        costs["check"].append(checking)
        costs["both"].append(signing + checking)
        costs["forged"].append(_us(lambda: gate.check("GET", _TARGET, forged, _ADDRESS)))
        costs["no signature"].append(_us(lambda: gate.check("GET", _TARGET, odd, _ADDRESS)))
    report.begin("a signature, in processor time")
    report.spread("to sign a request", "µs", costs["sign"])
    report.spread("to check it", "µs", costs["check"])
    report.spread("both together", "µs", costs["both"], 30.0)
    report.spread("to refuse a forged one", "µs", costs["forged"])
    report.spread("to refuse what is no signature", "µs", costs["no signature"])


def _us(work: Callable[[], object]) -> float:
    started = time.thread_time()
    for _ in range(_EACH):
        work()
    return (time.thread_time() - started) / _EACH * 1e6
