"""The content store of a containerd: names and liveness by gRPC, bytes from its files."""

from agent.content.containerd.store import Containerd

__all__ = ["Containerd"]
