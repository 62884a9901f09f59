"""What the doctor says of who decides on images."""

from agent.documents.registries import BOTH, MIRROR, REGISTRY, RegistriesDocument, RegistryEntry
from agent.preflight.authority import who_decides
from agent.preflight.check import Status
from agent.preflight.gather import Unknown


def found(**registries: tuple[str, bool]) -> RegistriesDocument:
    """Registries by name: who decides, and whether somebody chose that."""
    entries = (
        RegistryEntry(registry=f"{name}.test", repositories=1, by=by, chosen=chosen)
        for name, (by, chosen) in registries.items()
    )
    return RegistriesDocument(time="", node="a1", registries=tuple(entries))


def test_registries_whose_images_anybody_gets_by_default_are_named_with_the_setting_to_write() -> None:
    (check,) = who_decides(found(a=(MIRROR, False), b=(REGISTRY, True), c=(BOTH, False), d=(MIRROR, True)))
    assert check.status is Status.WARN
    assert "images of a.test, c.test from nodes" in check.detail
    assert "registries.authorize to [{match: REGISTRY/*, by: registry}]" in check.hint


def test_what_somebody_chose_is_no_warning() -> None:
    (left,) = who_decides(found(b=(REGISTRY, True), d=(MIRROR, True)))
    (given,) = who_decides(found(d=(MIRROR, True)))
    assert (left.status, given.status) == (Status.GOOD, Status.GOOD)
    assert "b.test" in left.detail


def test_node_without_images_and_agent_that_does_not_answer_are_no_finding() -> None:
    assert who_decides(found()) == ()
    assert who_decides(Unknown(why="no answer")) == ()
