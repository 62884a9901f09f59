"""Which content store, by the settings. The one place that names the implementations."""

from agent.config import ContainerdStore, Settings
from agent.content.ocilayout import OciLayout
from agent.content.store import ContentStore


def make_store(settings: Settings) -> ContentStore:
    """The store that ``settings.store`` names. Opens nothing yet."""
    store = settings.store
    if isinstance(store, ContainerdStore):
        # Imported only when used: gRPC costs memory that a layout store need not pay.
        from agent.content.containerd import Client, Containerd

        return Containerd(client=Client(store.socket, store.namespace), root=store.root)
    return OciLayout(store.directory)
