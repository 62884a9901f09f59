"""What bodies between nodes cost, and which of them are load."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from agent.listen.caller import Caller, CallerKind
from agent.listen.traffic import Traffic
from agent.members.roster import Roster
from agent.observe.metrics import Metrics
from agent.observe.requests import RequestPath, RequestRecord, SourceBytes
from agent.oci.errors import OciError, Overloaded, SharedWithOthers, TooManyRequests
from agent.oci.ranges import ByteRange
from agent.pull.admission import Admission
from agent.pull.arrival import FOLLOW_HEADER, SHARED_HEADER
from agent.pull.fanout import LEAST_BYTES, Fanout
from tests.unit.exposition import total
from tests.unit.twins import located, node, peer, peers, sha256
from topology.ledger import CostLedger, Prices
from topology.placement import Tier

GB = 10**9
REQUEST = make_mocked_request("GET", "/v2/")


def caller(listener: RequestPath, kind: CallerKind, name: str | None = None) -> Caller:
    known = None if name is None else node(name)
    address = f"192.0.2.{1 + sum(map(ord, name or ''))}"
    return Caller(listener=listener, address=address, cookie=1, connected_s=0.0, kind=kind, node=known)


OWN_CONTAINERD = caller(RequestPath.HOSTPORT, CallerKind.OWN_CONTAINERD)
OTHER_CONTAINERD = caller(RequestPath.NODEPORT, CallerKind.OTHER_CONTAINERD, "far")
AGENT = caller(RequestPath.PEER, CallerKind.AGENT, "far")
REDIRECTED = caller(RequestPath.PEER, CallerKind.OTHER_CONTAINERD, "far")


class Node:
    """A node of zone a, with a peer in its zone and one in zone b. A GB across zones costs a cent."""

    def __init__(self, *, uploads_max: int = 1, fanout: Fanout | None = None) -> None:
        roster = Roster(own=node("own"), placement=located("r", "a"), clock=lambda: 0.0)
        near, far, beside = located("r", "a"), located("r", "b"), located("r", "b")
        roster.update(peers(peer("near", near), peer("far", far), peer("beside", beside)))
        self.metrics = Metrics()
        self.traffic = Traffic(
            ledger=CostLedger(Prices(cross_zone=0.01)),
            roster=roster,
            metrics=self.metrics,
            admission=Admission(uploads_max=uploads_max, bytes_max=1 << 40),
            young_s=1.0,
            fanout=fanout,
            clock=lambda: 0.0,
        )

    def record(self, who: Caller, body_bytes: int = GB, **sources: int) -> None:
        given = tuple(SourceBytes(node(name), Tier.ZONE, size) for name, size in sources.items())
        made = RequestRecord(path=who.listener, method="GET", body_bytes=body_bytes, sources=given)
        self.traffic.record_costs(made, who)

    @property
    def ways(self) -> list[tuple[str, str, int, float]]:
        """From where, to where, how many bytes, for how much."""
        return sorted(
            (str(entry.source), str(entry.destination), entry.size_bytes, round(entry.usd, 6))
            for entry in self.traffic.ledger.entries()
        )


def test_each_source_of_a_body_costs_by_its_own_zone() -> None:
    made = Node()
    made.record(OWN_CONTAINERD, near=GB // 4, far=GB)
    assert made.ways == [("r/a", "r/a", GB // 4, 0.0), ("r/b", "r/a", GB, 0.01)]
    assert total(made.metrics.expose(), "zone_bytes_total", source_zone="r/b") == GB


def test_bytes_that_this_node_fetched_for_itself_cost_as_those_for_a_client() -> None:
    made = Node()
    made.traffic.fetched(node("far"), GB)
    assert made.ways == [("r/b", "r/a", GB, 0.01)]
    assert total(made.metrics.expose(), "zone_bytes_total", source_zone="r/b") == GB


@pytest.mark.parametrize("who", [OTHER_CONTAINERD, REDIRECTED])
def test_bytes_of_another_node_s_containerd_are_counted_by_the_node_that_sends_them(who: Caller) -> None:
    made = Node()
    made.record(who)
    assert made.ways == [("r/a", "r/b", GB, 0.01)]


@pytest.mark.parametrize("who", [AGENT, OWN_CONTAINERD])
def test_agent_counts_itself_and_local_bytes_cost_nothing(who: Caller) -> None:
    made = Node()
    made.record(who)
    assert made.ways == []


def test_bytes_that_crossed_cost_also_if_the_client_was_not_sent_them() -> None:
    made = Node()
    given = (SourceBytes(node("far"), Tier.ZONE, 0, received_bytes=GB),)
    record = RequestRecord(path=RequestPath.HOSTPORT, method="GET", body_bytes=0, sources=given)
    made.traffic.record_costs(record, OWN_CONTAINERD)
    assert made.ways == [("r/b", "r/a", GB, 0.01)]


def test_answer_without_a_body_costs_nothing() -> None:
    made = Node()
    made.record(OTHER_CONTAINERD, body_bytes=0)
    assert made.ways == []


@contextlib.contextmanager
def uploading(made: Node, who: Caller = AGENT) -> Iterator[None]:
    with made.traffic.upload(who, REQUEST, 100) as sent:
        sent(60)
        yield


def test_body_for_a_peer_is_load_until_it_ends() -> None:
    made = Node()
    with uploading(made):
        assert made.traffic.uploads == 1
        assert made.traffic.admission.left_bytes == 40
    assert made.traffic.uploads == made.traffic.admission.left_bytes == 0


def test_body_that_breaks_off_is_no_load_any_more() -> None:
    made = Node()
    with pytest.raises(ConnectionError), uploading(made):
        raise ConnectionError
    assert made.traffic.uploads == made.traffic.admission.left_bytes == 0


def test_body_for_a_local_client_is_no_load_and_never_refused() -> None:
    made = Node()
    with uploading(made, OWN_CONTAINERD), uploading(made, OWN_CONTAINERD):
        assert made.traffic.uploads == 0
        made.traffic.check_room(OWN_CONTAINERD)


@pytest.mark.parametrize(("who", "error"), [(AGENT, TooManyRequests), (REDIRECTED, Overloaded)])
def test_without_room_a_peer_is_refused_in_the_way_that_it_understands(
    who: Caller, error: type[OciError]
) -> None:
    made = Node()
    with uploading(made):
        with pytest.raises(error), uploading(made, who):
            pass
        with pytest.raises(error):
            made.traffic.check_room(who)
        assert made.traffic.uploads == 1
    assert total(made.metrics.expose(), "uploads_refused_total") == 2
    made.traffic.check_room(who)


FOLLOWING = make_mocked_request("GET", "/v2/", headers={FOLLOW_HEADER: "1"})
LAYER = sha256("layer")
BESIDE, NEAR = (caller(RequestPath.PEER, CallerKind.AGENT, name) for name in ("beside", "near"))
MANY = 10


@contextlib.contextmanager
def following(
    made: Node,
    who: Caller,
    *,
    size_bytes: int = LEAST_BYTES,
    selected: ByteRange | None = None,
    in_flight: bool = False,
    request: web.BaseRequest = FOLLOWING,
    whole: bool = False,
) -> Iterator[None]:
    with made.traffic.upload(
        who, request, size_bytes, digest=LAYER, selected=selected, in_flight=in_flight
    ) as sent:
        sent(size_bytes if whole else 1)
        yield


def sharing(followers_max: int = 1) -> Node:
    return Node(uploads_max=MANY, fanout=Fanout(followers_max=followers_max))


def test_second_node_of_a_zone_is_told_from_whom_to_take_it() -> None:
    made = sharing()
    with following(made, AGENT):
        with pytest.raises(SharedWithOthers) as told, following(made, BESIDE):
            pass
        assert told.value.headers[SHARED_HEADER] == "far"
        assert told.value.status == 429
        with following(made, NEAR):
            assert made.traffic.uploads == 2
    with following(made, BESIDE):
        assert made.traffic.uploads == 1


def test_node_that_is_told_is_no_load_and_does_not_count_as_refused() -> None:
    made = sharing()
    with following(made, AGENT):
        with contextlib.suppress(SharedWithOthers), following(made, BESIDE):
            pass
        assert made.traffic.uploads == 1
    assert total(made.metrics.expose(), "uploads_refused_total") == 0
    assert total(made.metrics.expose(), "uploads_shared_total") == 1


PART = ByteRange(start=1, stop=LEAST_BYTES, size_bytes=LEAST_BYTES)
OLDER = make_mocked_request("GET", "/v2/")


@pytest.mark.parametrize(
    "asked",
    [{"size_bytes": LEAST_BYTES - 1}, {"selected": PART}, {"request": OLDER}],
    ids=["small", "resumes", "does not understand"],
)
def test_what_is_small_or_resumes_or_for_an_older_agent_is_given_to_everybody(asked: dict[str, Any]) -> None:
    made = sharing()
    with following(made, AGENT), following(made, BESIDE, **asked):
        assert made.traffic.uploads == 2


def test_what_still_arrives_is_given_to_a_few_whatever_their_range_and_others_hear_of_their_zone() -> None:
    made = sharing(followers_max=2)
    with following(made, AGENT, in_flight=True), following(made, NEAR, in_flight=True, selected=PART):
        with pytest.raises(SharedWithOthers) as told, following(made, BESIDE, in_flight=True):
            pass
        assert told.value.headers[SHARED_HEADER] == "far"
        assert made.traffic.followers == 2
    assert made.traffic.followers == 0


def test_caller_of_no_known_node_is_sent_nowhere() -> None:
    made = sharing()
    with following(made, AGENT), following(made, caller(RequestPath.PEER, CallerKind.AGENT)):
        assert made.traffic.uploads == 2


def test_without_cold_starts_nobody_is_sent_elsewhere() -> None:
    made = Node(uploads_max=MANY)
    with following(made, AGENT), following(made, BESIDE):
        assert made.traffic.uploads == 2


def test_body_that_finds_no_room_is_not_among_those_that_others_are_told_of() -> None:
    made = Node(uploads_max=1, fanout=Fanout(followers_max=1))
    with uploading(made, NEAR):
        with pytest.raises(TooManyRequests), following(made, AGENT):
            pass
        with pytest.raises(TooManyRequests) as refused, following(made, BESIDE):
            pass
        assert not isinstance(refused.value, SharedWithOthers)


def test_whoever_got_it_whole_is_named_afterwards() -> None:
    made = sharing()
    with following(made, AGENT, whole=True):
        pass
    with pytest.raises(SharedWithOthers) as told, following(made, BESIDE):
        pass
    assert told.value.headers[SHARED_HEADER] == "far"
    with following(made, NEAR):
        pass
