"""Where an address is, by the node's routes: on this node, in a pod of this node, or on another node.

An address behind a gateway is on another node. An address that is reached directly is a pod of this node if
the interface is of a kind that pods use. It is another node if the interface belongs to the node's network.
Sources: ip-route(8); the routes that the CNI plugins bridge, Calico, AWS VPC and Flannel write.
"""

import asyncio
import json
from typing import Any

from agent.flows.verdicts import Location
from bpf.events import format_ip

_TIMEOUT_S = 2.0
_POD_INTERFACES = ("bridge", "veth", "netkit")


class Locator:
    """Asks the node's routing table. ``node_address``: the address by which other nodes reach this node."""

    def __init__(self, node_address: str) -> None:
        self._address = node_address

    async def locate(self, ip: bytes) -> Location:
        """Where an address is. UNSURE if the routes do not say. Takes a few milliseconds."""
        host = format_ip(ip)
        routes = await _ask("route", "get", host)
        if not routes:
            return Location.UNSURE
        route = routes[0]
        links = await _ask("-d", "address", "show")
        return place(route, links, node_address=self._address)


def place(route: dict[str, Any], links: list[dict[str, Any]], *, node_address: str) -> Location:
    """Where the destination of a route is. Pure. ``route``, ``links``: as ``ip -json`` prints them."""
    if route.get("type") == "local":
        return Location.HOST
    own = {entry.get("local") for link in links for entry in link.get("addr_info", ())}
    gateway = route.get("gateway") or (route.get("via") or {}).get("host")
    if gateway is not None:
        return Location.UNSURE if gateway in own else Location.REMOTE
    device = route.get("dev")
    for link in links:
        if link.get("ifname") != device:
            continue
        addresses = {entry.get("local") for entry in link.get("addr_info", ())}
        kind = (link.get("linkinfo") or {}).get("info_kind")
        if node_address in addresses:
            return Location.UNSURE if kind == "bridge" else Location.REMOTE  # pods may be bridged into it
        # Tunnels and further network cards may lead to other nodes or anywhere else.
        return Location.POD if kind in _POD_INTERFACES and node_address in own else Location.UNSURE
    return Location.UNSURE


async def _ask(*words: str) -> list[dict[str, Any]]:
    try:
        process = await asyncio.create_subprocess_exec(
            "ip",
            "-json",
            *words,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
    except OSError:
        return []
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            said, _ = await process.communicate()
        answer = json.loads(said or b"[]")
    except (TimeoutError, ValueError):
        return []
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return answer if isinstance(answer, list) else []
