"""The node agent: serves containerd's pulls, from this node's store or from the nearest peer.

`app` makes the parts and `lifecycle` runs them. `listen` takes requests. `content`, `holders` and `members`
know who has what. `pull` decides, `transfer` moves bytes, `peering` reaches other agents. CONTRIBUTING.md
says where to find what.
"""

__version__ = "0.1.0"
"""The version of this release; a test holds it against pyproject.toml."""
