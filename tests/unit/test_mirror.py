"""The unit tests mirror the packages: whoever looks for a module's tests finds them at once.

Tests of ``agent/pull/machine.py`` are in ``tests/unit/agent/pull/test_machine.py``, and in
``test_machine_*.py`` beside it.
"""

import pytest

from tests.unit.twins import REPOSITORY_ROOT

_PACKAGES = ("agent", "topology", "bpf")

ELSEWHERE = {
    # Values, contracts and wiring: nothing in them decides anything.
    "agent/app/admin.py": "makes parts; every test in tests/server starts it",
    "agent/app/background.py": "makes parts; every test in tests/server starts it",
    "agent/app/core.py": "makes parts; every test in tests/server starts it",
    "agent/app/feed.py": "makes parts; every test in tests/server starts it",
    "agent/app/inbound.py": "makes parts; every test in tests/server starts it",
    "agent/app/outbound.py": "makes parts; every test in tests/server starts it",
    "agent/app/parts.py": "makes parts; every test in tests/server starts it",
    "agent/config/settings.py": "held against docs/configuration.md by agent/config/test_load.py",
    "agent/content/containerd/api_pb2.py": "generated",
    "agent/content/factory.py": "chooses the store; tests/server and tests/e2e start each",
    "agent/documents/claims.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/cluster.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/events.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/explain.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/flows.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/history.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/index.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/pulls.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/map.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/overview.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/reach.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/registries.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/requests.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/scrub.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/sums.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/topology.py": "shapes; agent/documents/test_codec.py",
    "agent/documents/transfers.py": "shapes; agent/documents/test_codec.py",
    "agent/holders/factory.py": "chooses the index; every test in tests/server starts it",
    "agent/holders/index.py": "the contract: tests/conformance/test_holder_index.py",
    "agent/holders/valkey/asked.py": "a contract: agent/holders/valkey/test_server.py",
    "agent/observe/refusals.py": "values; agent/listen/test_refusals.py",
    "agent/members/introduction.py": "values; agent/members/test_identities.py",
    "agent/members/factory.py": "chooses the membership; every test in tests/server starts it",
    "agent/cli/errors.py": "an error; agent/cli/test_adminclient.py reads its lines",
    "bpf/errors.py": "errors",
    "bpf/source.py": "the contract of sources of events",
    # Driven whole, over real sockets, files or a real kernel.
    "agent/cli/agent.py": "driven whole by tests/server/test_lifecycle.py",
    "agent/cli/probe.py": "driven whole by tests/probe",
    "agent/cli/watch.py": "driven whole by tests/probe/test_watching.py",
    "agent/content/containerd/client.py": "driven whole by tests/conformance/test_content_store.py",
    "agent/content/ocilayout.py": "driven whole by tests/conformance/test_content_store.py",
    "agent/admin/stream.py": "driven whole by tests/server/test_stream.py",
    "agent/succession.py": "driven whole by tests/server/test_handover.py",
    "agent/lifecycle.py": "driven whole by tests/server/test_lifecycle.py",
    "agent/holders/valkey/fences.py": "driven whole by tests/conformance/test_fences.py",
    "agent/listen/arriving.py": "driven whole by tests/server/test_arriving.py",
    "agent/listen/accepting.py": "driven whole by tests/server/test_floods.py",
    "agent/listen/heads.py": "driven whole by tests/server/test_ranges.py and test_oci_pull.py",
    "agent/listen/http.py": "driven whole by tests/server/test_requests_out_of_line.py",
    "agent/listen/lost.py": "driven whole by tests/server/test_reloads.py and test_admin_access.py",
    "agent/listen/local.py": "driven whole by tests/server/test_bodies.py",
    "agent/listen/recorder.py": "driven whole by tests/server/test_admin.py",
    "agent/listen/relay.py": "driven whole by tests/server/test_fault_matrix.py and test_chunks.py",
    "agent/listen/remote.py": "driven whole by tests/server/test_fault_matrix.py and test_redirect.py",
    "agent/listen/server.py": "driven whole by tests/server/test_oci_pull.py",
    "agent/admin/gauges.py": "driven whole by tests/server/test_admin.py",
    "agent/probe/follower.py": "driven whole by tests/probe/test_following.py",
    "agent/probe/run.py": "driven whole by tests/probe",
    "bpf/libbpf.py": "driven whole by tests/probe and tests/e2e/test_verdicts.py",
    "bpf/live.py": "driven whole by tests/probe and tests/e2e/test_verdicts.py",
    "bpf/loader.py": "driven whole by bpf/test_child.py",
    # Tested with the module that they are a half or a part of.
    "agent/handover/link.py": "agent/handover/test_giving.py and test_taking.py, its two ends",
    "agent/cli/findings.py": "agent/cli/test_doctor.py prints it",
    "agent/cli/drawing.py": "agent/cli/test_topology.py",
    "agent/content/blobfiles.py": "agent/content/test_blobdir.py",
    "agent/content/fileblob.py": "agent/content/test_blobdir.py",
    "agent/cli/hosts.py": "agent/cli/test_configure.py and test_unconfigure.py, which it serves",
    "agent/cli/everywhere.py": "agent/fleet/test_execution.py",
    "agent/cli/picture.py": "agent/cli/test_topology.py",
    "agent/peering/channel.py": "agent/peering/test_channels.py",
    "agent/peering/websocket.py": "agent/peering/test_accept.py and test_channels.py, its two ends",
    "agent/probe/reader.py": "agent/probe/test_publisher.py, its other end",
    "agent/transfer/reader.py": "agent/transfer/test_relays.py",
}
"""Modules without a test module of their own, and the reason."""


def _modules() -> set[str]:
    paths = (path for package in _PACKAGES for path in (REPOSITORY_ROOT / package).rglob("*.py"))
    return {path.relative_to(REPOSITORY_ROOT).as_posix() for path in paths if path.name != "__init__.py"}


def _test_modules() -> set[str]:
    """Of the packages, without ``tests/unit/`` and ``test_``."""
    here = REPOSITORY_ROOT / "tests" / "unit"
    paths = (path for package in _PACKAGES for path in (here / package).rglob("test_*.py"))
    return {path.relative_to(here).as_posix().replace("/test_", "/") for path in paths}


def _is_about(test: str, module: str) -> bool:
    stem = module.removesuffix(".py")
    return test == module or test.startswith(f"{stem}_")


MODULES, TESTS = _modules(), _test_modules()


@pytest.mark.parametrize("module", sorted(MODULES))
def test_module_has_a_test_module_or_a_reason_why_not(module: str) -> None:
    tests = [test for test in TESTS if test == module]
    assert bool(tests) != (module in ELSEWHERE), "either a test module, or a reason in ELSEWHERE"


@pytest.mark.parametrize("test", sorted(TESTS))
def test_test_module_has_its_module(test: str) -> None:
    assert any(_is_about(test, module) for module in MODULES), "name it for the module that it tests"


def test_reasons_are_about_modules_that_are_there() -> None:
    assert not ELSEWHERE.keys() - MODULES
