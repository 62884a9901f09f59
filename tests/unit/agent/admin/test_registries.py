"""Who decides on the images of a store, by registry."""

from agent.admin.registries import registries_view
from agent.documents.times import Moment
from tests.unit.agent.content.test_sharing import make_sharing
from tests.unit.agent.holders.test_tags import image
from tests.unit.evidence import MemoryStore
from tests.unit.twins import named, node


def test_each_registry_of_mirrored_images_is_there_with_who_decides_on_it() -> None:
    store = MemoryStore()
    store.names.replace(
        [
            image(named("acme/app", registry="ghcr.io")),
            image(named("other/app", registry="ghcr.io")),
            image(named("team/app", registry="quay.io")),
            image(named("library/nginx")),
            image(named("excluded/app", registry="left.out")),
            image(named("library/nginx", registry="own:30020")),
        ]
    )
    sharing = make_sharing(exclude=("left.out",), private=("ghcr.io/acme/*", "quay.io"))
    document = registries_view(node("own"), store, sharing, Moment(now_s=0.0, unix_s=0.0))
    assert [(each.registry, each.repositories, each.by, each.chosen) for each in document.registries] == [
        ("docker.io", 1, "mirror", False),
        ("ghcr.io", 2, "both", False),
        ("quay.io", 1, "registry", True),
    ]
