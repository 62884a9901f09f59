"""When the agent is ready, and what it says when it is not."""

import pytest

from agent.admin.readiness import Phase, Readiness
from agent.observe.components import Component


def serving(**problems: str | None) -> Readiness:
    """A serving agent with these parts; one whose name begins with ``extra`` is not required."""
    readiness = Readiness()
    readiness.watch(
        [
            Component(
                name=name,
                key=name,
                problem=lambda problem=problem: problem,  # type: ignore[misc]
                hint=f"mend {name}",
                required=not name.startswith("extra"),
                state=lambda name=name: f"{name} is fine",  # type: ignore[misc]
            )
            for name, problem in problems.items()
        ]
    )
    readiness.phase = Phase.SERVING
    return readiness


@pytest.mark.parametrize("phase", [phase for phase in Phase if phase is not Phase.SERVING])
@pytest.mark.parametrize("problem", [None, "containerd is gone"])
def test_agent_that_does_not_serve_is_not_ready_and_says_what_it_does(
    phase: Phase, problem: str | None
) -> None:
    readiness = serving(store=problem)
    readiness.phase = phase
    assert readiness.reason() == phase.value
    assert f"[-] phase: {phase.value}" in readiness.report()


def test_agent_is_not_ready_before_anybody_says_so() -> None:
    assert Readiness().reason() == "starting"


def test_serving_agent_is_as_ready_as_the_parts_that_it_needs() -> None:
    assert serving(store=None, listener=None).reason() is None
    assert serving(store=None, listener="nobody accepts").reason() == "nobody accepts"
    assert serving(store="gone", listener="nobody accepts").reason() == "gone"


def test_agent_is_ready_without_a_part_that_it_does_not_need() -> None:
    assert serving(store=None, extra="the API server is away").reason() is None


def test_report_has_a_line_for_each_part_and_says_what_to_do() -> None:
    report = serving(store=None, listener="nobody accepts", extra="away").report()
    assert report.splitlines() == [
        "[+] phase: serving",
        "[+] store: store is fine",
        "[-] listener: nobody accepts (mend listener)",
        "[!] extra: away (mend extra)",
        "not ready: nobody accepts",
    ]


def test_report_of_a_ready_agent_ends_with_ready() -> None:
    assert serving(store=None).report().splitlines()[-1] == "ready"
