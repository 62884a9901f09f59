"""The lab of `benchmarks.pull`: who asks the registry how often, and what dies is said and mended."""

import os
from collections import Counter
from collections.abc import Iterator

import pytest
from rich.console import Console

from benchmarks.coldstart.fleet import Release
from benchmarks.lab.cluster import REGISTRY
from benchmarks.lab.process import LabError
from benchmarks.pull.measuring import ALONE, Measurement, section_name
from benchmarks.pull.plan import Phase, Size, Way
from benchmarks.pull.stage import Links, Stage, stage
from benchmarks.reporting.recorder import Recorder
from tests.server.agents import PATIENT

pytestmark = pytest.mark.e2e

_SIZE = Size(megabytes=1, layers=2)
_LINKS = Links(registry_mbit_s=400.0, node_mbit_s=800.0)


@pytest.fixture(scope="module")
def made() -> Iterator[Stage]:
    if os.geteuid() != 0:
        pytest.fail("needs root, for network namespaces and containerd: run `make test` as root")
    with stage(_LINKS, zones=2, per_zone=2, versions=("2.1",), pull_s=120.0, settings=PATIENT) as found:
        yield found


@pytest.fixture(scope="module")
def release(made: Stage) -> Release:
    return made.release(_SIZE, 1)


def test_nginx_asks_the_registry_once_for_each_layer_when_all_nodes_pull_at_once(
    made: Stage, release: Release
) -> None:
    before = len(made.cluster.registry.answers())
    with made.ready(Way.NGINX):
        pulls = made.pull(Way.NGINX, Phase.CREATE, release)
    assert not pulls.outcome.failures
    assert not pulls.dead
    asked = Counter(
        answer.uri for answer in made.cluster.registry.answers()[before:] if "/blobs/" in answer.uri
    )
    assert set(asked.values()) == {1}, asked
    assert pulls.outcome.crossed_bytes > 2 * release.image.size_bytes  # nginx is in the first zone


def test_agent_that_dies_is_named_and_its_node_pulls_from_the_registry(made: Stage, release: Release) -> None:
    with made.ready(Way.SHORTHAUL):
        made.nodes[1].agent.kill()
        pulls = made.pull(Way.SHORTHAUL, Phase.ROLLING, release)
    assert pulls.dead == (f"the agent of {made.nodes[1].name}",)
    assert not pulls.outcome.failures
    assert set(pulls.outcome.seconds) == {node.name for node in made.nodes}


def test_containerd_that_dies_fails_its_pull_and_is_there_again_for_the_next_turn(
    made: Stage, release: Release
) -> None:
    victim = made.nodes[2]
    assert victim.containerd is not None
    with made.ready(Way.REGISTRY):
        victim.containerd.kill()
        pulls = made.pull(Way.REGISTRY, Phase.CREATE, release)
    assert len(pulls.outcome.failures) == 1
    assert pulls.dead == (f"the containerd of {victim.name}",)
    with made.ready(Way.REGISTRY):
        again = made.pull(Way.REGISTRY, Phase.CREATE, release)
    assert not again.outcome.failures
    assert not again.dead


def test_image_that_the_registry_does_not_have_fails_in_words(made: Stage, release: Release) -> None:
    missing = Release(image=release.image, reference=f"{REGISTRY}/bench/nothing:v1")
    with made.ready(Way.REGISTRY):
        pulls = made.pull(Way.REGISTRY, Phase.CREATE, missing)
    assert len(pulls.outcome.failures) == len(made.nodes)
    assert all("not found" in failure for failure in pulls.outcome.failures), pulls.outcome.failures


class _WithoutNginx(Stage):
    """A stage whose nginx does not start, and which has no room for one size."""

    def __init__(self, made: Stage) -> None:
        self.__dict__.update(made.__dict__)

    def _start_nginx(self):  # type: ignore[no-untyped-def]
        raise LabError("nginx did not come up")

    def release(self, size: Size, number: int) -> Release:
        if size.megabytes == 3:
            raise OSError(28, "No space left on device")
        return super().release(size, number)


def test_run_goes_on_where_it_can_and_its_report_has_what_there_is(made: Stage) -> None:
    report = Recorder(Console(quiet=True))
    sizes = {_SIZE: 1, Size(megabytes=3, layers=1): 1}
    Measurement(report, _WithoutNginx(made), "m").run(sizes, [Way.NGINX, Way.SHORTHAUL])
    assert any("No space left on device" in problem for problem in report.problems)
    assert any("nginx did not come up" in problem for problem in report.problems)
    sections = {section.name: section for section in report.sections}
    assert set(sections) == {ALONE, section_name(_SIZE)}
    figure = sections[section_name(_SIZE)].figure("all at once: from the registry")
    assert figure is not None
    nginx, ours = figure.way(Way.NGINX.value), figure.way(Way.SHORTHAUL.value)
    assert nginx is not None
    assert nginx.values == (None,)
    assert ours is not None
    assert len(ours.measured) == 1
