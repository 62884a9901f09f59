"""What containerd is to be told: the endpoints of this mirror, in order. Pure.

Sources: containerd, docs/hosts.md and remotes/docker/config/hosts.go. What it does with a value that it does
not know differs by version: a capability (``referrers``) makes 1.6 to 2.1 drop the whole file, a key
(``dial_timeout`` before 2.1) is ignored.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from agent.config import Endpoint
from agent.hosts.toml import quoted

CAPABILITIES = ("pull", "resolve")
"""What a mirror may be asked for: bytes by digest, and the digest of a tag. All versions know both."""

_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m))+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Mirror:
    """The endpoints in the order in which containerd is to try them, and what it may ask them for.

    ``dial_timeout``: how long containerd 2.1 and later wait for a connection, as Go writes durations. Empty:
    their own 30 s. ``token``: what proves to the endpoints in ``closed`` that a node of the cluster asks.
    Empty: nothing is sent.
    """

    endpoints: tuple[Endpoint, ...]
    capabilities: tuple[str, ...] = CAPABILITIES
    dial_timeout: str = ""
    token: str = field(default="", repr=False)
    closed: tuple[Endpoint, ...] = ()

    @property
    def urls(self) -> tuple[str, ...]:
        """The endpoints as hosts.toml names them."""
        return tuple(f"http://{endpoint}" for endpoint in self.endpoints)

    @property
    def without_tags(self) -> "Mirror":
        """The same for bytes only: containerd then asks the registry itself what a tag is."""
        return replace(self, capabilities=("pull",))

    def has_token(self, url: str) -> bool:
        """Whether the table of this address has the token in it."""
        return bool(self.token) and url in {f"http://{endpoint}" for endpoint in self.closed}

    def table(self, url: str) -> list[str]:
        """The lines of one host's table, and of the table of its headers if it has one."""
        lines = [f"[host.{quoted(url)}]"]
        lines.append(f"  capabilities = [{', '.join(quoted(name) for name in self.capabilities)}]")
        if self.dial_timeout:
            lines.append(f"  dial_timeout = {quoted(self.dial_timeout)}")
        if self.has_token(url):
            # containerd's debug log leaves this header out, and Go takes it off when another host is asked.
            lines.append(f"  [host.{quoted(url)}.header]")
            lines.append(f"    Authorization = [{quoted(f'Bearer {self.token}')}]")
        return lines

    def tables(self, urls: Sequence[str]) -> list[str]:
        """The lines of these hosts' tables."""
        return [line for url in urls for line in self.table(url)]


def is_duration(text: str) -> bool:
    """Whether containerd understands it as a duration. It drops a file that has another one."""
    return _DURATION.fullmatch(text) is not None
