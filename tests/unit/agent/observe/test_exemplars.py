"""A bucket names a request, which is remembered as long as the bucket names it."""

import re
from dataclasses import dataclass, field

from agent.observe.exemplars import CURRENT, EVERY_S, KEPT_MAX
from agent.observe.metrics import Metrics
from agent.observe.requests import RecentRequests, RequestPath, RequestRecord, new_id
from agent.observe.steps import Steps
from topology.placement import Tier

_EXEMPLAR = re.compile(
    r'shorthaul_(\w+)_bucket\{(.*)\} \d+\.0 # \{request_id="(\w{16})"\} ([0-9.e-]+) [0-9.]+'
)


@dataclass
class Scene:
    """Metrics, and requests that come at certain moments."""

    metrics: Metrics = field(default_factory=Metrics)

    def request(self, at_s: float = 0.0, *, seconds: float = 0.2, tier: Tier = Tier.ZONE) -> RequestRecord:
        record = RequestRecord(
            id=new_id(),
            path=RequestPath.HOSTPORT,
            method="GET",
            kind="blob",
            tier=tier,
            first_byte_s=0.004,
            seconds=seconds,
            steps=Steps(lambda: at_s),
        )
        self.metrics.request(record)
        return record

    def named(self, metric: str) -> set[str]:
        """The requests that the buckets of a histogram name."""
        exposed = self.metrics.exposed("application/openmetrics-text").body.decode()
        return {found[3] for found in _EXEMPLAR.finditer(exposed) if found[1] == metric}


def test_bucket_names_the_request_that_it_counted() -> None:
    scene = Scene()
    quick, slow = scene.request(seconds=0.02), scene.request(seconds=20.0)
    assert scene.named("request_duration_seconds") == {quick.id, slow.id}
    assert scene.named("first_byte_seconds") == {quick.id}


def test_text_format_has_no_exemplars() -> None:
    scene = Scene()
    record = scene.request()
    assert record.id.encode() not in scene.metrics.expose()


def test_bucket_gets_another_request_after_a_while_and_never_for_each() -> None:
    scene = Scene()
    first = scene.request(at_s=100.0)
    scene.request(at_s=100.0 + EVERY_S / 2)
    assert scene.named("request_duration_seconds") == {first.id}
    later = scene.request(at_s=100.0 + EVERY_S)
    assert scene.named("request_duration_seconds") == {later.id}


def test_request_that_a_bucket_names_is_found_however_many_came_since() -> None:
    scene = Scene()
    recent = RecentRequests(keep=2, elsewhere=scene.metrics.exemplars.find)
    slow = scene.request(seconds=20.0)
    for record in [slow, *(scene.request(at_s=float(number)) for number in range(10))]:
        recent.add(record)
    found = recent.find(slow.id)
    assert found is not None
    assert found.id == slow.id
    assert recent.find("0" * 16) is None


def test_look_up_and_wait_name_the_request_that_the_task_answers() -> None:
    scene = Scene()
    record = RequestRecord(id=new_id(), path=RequestPath.HOSTPORT, method="GET")
    scene.metrics.lookup(0.001)
    assert scene.named("lookup_seconds") == set(), "nobody knows for whom"
    token = CURRENT.set(record)
    try:
        scene.metrics.lookup(0.001)
        scene.metrics.claim_waited("followed", 2.0)
    finally:
        CURRENT.reset(token)
    assert scene.named("lookup_seconds") == scene.named("claim_wait_seconds") == {record.id}


def test_what_is_remembered_for_exemplars_is_bounded() -> None:
    exemplars = Metrics().exemplars
    records = [RequestRecord(id=new_id(), path=RequestPath.PEER, method="GET") for _ in range(KEPT_MAX + 1)]
    kept = [exemplars.keep(bucket, record) for bucket, record in enumerate(records)]
    assert kept == [*[True] * KEPT_MAX, False]
    assert exemplars.find(records[-1].id) is None
    assert exemplars.keep(0, records[-1]), "a bucket that has one gets another"
    assert exemplars.find(records[0].id) is None
