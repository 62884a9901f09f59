"""What a web page can make a browser ask here, and which of it is refused. Pure.

A page of another site can send requests to every address that its browser reaches, this node's loopback
included. It must neither read an answer nor change anything:

- A page whose own name suddenly leads to this node (DNS rebinding) may read answers. Its requests carry its
  name as their Host. So only names that lead here rightly are accepted. An IP address is always accepted: no
  page can have the address of this node as its own and come from elsewhere.
- A page that asks across sites says so: by ``Origin`` (every POST and every WebSocket has it), or by
  ``Sec-Fetch-Site`` where the browser sends that (https, and plain HTTP to loopback). A link that a person
  follows is not refused.

No client of a registry, no agent and no tool sends these two headers. Source: RFC 9110, 7.2 (Host); the
Fetch standard ("Origin"); W3C Fetch Metadata Request Headers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address

_LOCALHOST = "localhost"  # and everything below it: RFC 6761, 6.3
_OWN_SITE = ("same-origin", "none")
_KNOWN_MAX = 256  # hosts whose check is remembered; a node has a handful


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """Why a request is refused. ``code``: HOST_UNKNOWN or CROSS_SITE. ``hint``: the way out."""

    code: str
    message: str
    hint: str


class BrowserGuard:
    """Refuses requests that only a web page of another site sends.

    ``names``: the names under which clients may address this agent, besides localhost and IP addresses.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(_plain(name) for name in names)
        self._known: set[str] = set()

    def refusal(self, method: str, headers: Mapping[str, str]) -> Refusal | None:
        """Why the request is refused, or None. ``headers``: of any case."""
        host = headers.get("Host", "")
        if host not in self._known and not self._is_known(host):
            return Refusal(
                code="HOST_UNKNOWN",
                message=f"this agent does not answer to the name {_shown(host)}",
                hint="use localhost, an IP address or the node's name, or list the name in http.host_names",
            )
        if _is_cross_site(method, host, headers):
            return Refusal(
                code="CROSS_SITE",
                message="a web page of another site asks",
                hint="open the address itself, or use curl or the shorthaul command",
            )
        return None

    def _is_known(self, host: str) -> bool:
        name = _name_of(host)
        if name is None or not (_is_local_or_address(name) or name in self._names):
            return False
        if len(self._known) < _KNOWN_MAX:
            self._known.add(host)
        return True


def _name_of(host: str) -> str | None:
    """The name or address in a Host header, without the port. Empty without a header. None if it is wrong.

    Every browser and every client of HTTP/1.1 sends the header, so its absence is no page's doing.
    """
    if host.startswith("["):
        name, bracket, rest = host[1:].partition("]")
        if not bracket or ":" not in name or (rest and not rest.startswith(":")):
            return None
        port = rest[1:]
    else:
        name, _, port = host.partition(":")
    if port and not (port.isascii() and port.isdigit()):
        return None
    return _plain(name)


def _is_local_or_address(name: str) -> bool:
    if name in ("", _LOCALHOST) or name.endswith(f".{_LOCALHOST}"):
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True


def _is_cross_site(method: str, host: str, headers: Mapping[str, str]) -> bool:
    origin = headers.get("Origin")
    if origin is not None and origin.partition("://")[2].lower() != host.lower():
        return True
    site = headers.get("Sec-Fetch-Site")
    if site is None or site in _OWN_SITE:
        return False
    followed = headers.get("Sec-Fetch-Mode") == "navigate" and headers.get("Sec-Fetch-Dest") == "document"
    return not (followed and method in ("GET", "HEAD"))


def _plain(name: str) -> str:
    return name.lower().removesuffix(".")


def _shown(host: str) -> str:
    return repr(host if len(host) <= 80 else f"{host[:80]}…")
