"""The content store of a containerd: names and liveness over gRPC, bytes from its files."""

from agent.content.containerd.client import Client
from agent.content.containerd.store import Containerd

__all__ = ["Client", "Containerd"]
