"""Which registries the images of this node are of, and who decides which pod may have them."""

from agent.content.sharing import Sharing
from agent.content.store import ContentStore
from agent.documents.registries import BOTH, MIRROR, REGISTRY, RegistriesDocument, RegistryEntry
from agent.documents.times import Moment
from agent.oci.authority import Authority
from agent.oci.reference import Repository
from agent.oci.registry import Registry
from topology.placement import NodeName


def registries_view(
    own: NodeName, store: ContentStore, sharing: Sharing, moment: Moment
) -> RegistriesDocument:
    """The registries of a store's images. Cost: a walk over all names."""
    found: dict[Registry, set[Repository]] = {}
    for registry, repository in {place for places in store.named.values() for place in places}:
        if sharing.says((registry, repository)).included and not sharing.mirrors.has(registry):
            found.setdefault(registry, set()).add(repository)
    entries = (_entry(sharing, registry, found[registry]) for registry in sorted(found))
    return RegistriesDocument(time=moment.text, node=own, registries=tuple(entries))


def _entry(sharing: Sharing, registry: Registry, repositories: set[Repository]) -> RegistryEntry:
    authorities = sharing.authorities
    by = {authorities.of(registry, repository) for repository in repositories}
    return RegistryEntry(
        registry=registry,
        repositories=len(repositories),
        by=BOTH if len(by) > 1 else REGISTRY if Authority.REGISTRY in by else MIRROR,
        chosen=all(authorities.has_rule(registry, repository) for repository in repositories),
    )
