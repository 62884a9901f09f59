"""Where an address is, by the node's own routes: on this node, in a pod of it, or on another node.

An address that is reached through another router is not here. One that is reached directly, over an
interface of the kinds that pods hang on, is a pod's; over the interface of the node's own network it is
another node. Source: ip-route(8); the routes that bridge, Calico, AWS VPC and Flannel write.
"""

import asyncio
import json
from typing import Any

from agent.flows.verdicts import Location
from bpf.events import format_ip

_TIMEOUT_S = 2.0
_PODS_HANG_ON = ("bridge", "veth", "netkit")


class Locator:
    """Asks the node's routing table. ``node_address``: the one by which other nodes reach this one."""

    def __init__(self, node_address: str) -> None:
        self._address = node_address

    async def locate(self, ip: bytes) -> Location:
        """Where it is; UNSURE where the routes don't tell. Takes some milliseconds."""
        host = format_ip(ip)
        routes = await _ask("route", "get", host)
        if not routes:
            return Location.UNSURE
        route = routes[0]
        links = await _ask("-d", "address", "show")
        return place(route, links, node_address=self._address)


def place(route: dict[str, Any], links: list[dict[str, Any]], *, node_address: str) -> Location:
    """Where the destination of a route is. Pure. ``route``, ``links``: as ``ip -json`` tells them."""
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
        # Tunnels and further network cards lead to other nodes, or to who knows whom.
        return Location.POD if kind in _PODS_HANG_ON and node_address in own else Location.UNSURE
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
        said, _ = await asyncio.wait_for(process.communicate(), _TIMEOUT_S)
        answer = json.loads(said or b"[]")
    except (TimeoutError, ValueError):
        return []
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return answer if isinstance(answer, list) else []
