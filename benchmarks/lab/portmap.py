"""HostPorts as a container runtime makes them: with the CNI plugin ``portmap``, Debian's binary.

It is called as CNI 0.4.0 specifies: in the node's host namespace, with the configuration and ``prevResult``
on its standard input, and the rest in the environment. Version 1.1.1 writes iptables rules, with ``snat``
on by default. It also sets ``route_localnet`` on the bridge, and does not reset it.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.lab.pods import NatNode, Pod
from benchmarks.lab.process import LabError, run

_FOLDER = Path("/usr/lib/cni")


@dataclass(frozen=True, slots=True, kw_only=True)
class HostPort:
    """A TCP port of the node, and the port of the pod that answers for it."""

    host_port: int
    container_port: int


def is_there() -> bool:
    """Whether this machine has the plugin."""
    return (_FOLDER / "portmap").exists()


def add(node: NatNode, pod: Pod, *ports: HostPort) -> None:
    """Map ports of a node to one of its pods. Raises `LabError` with the plugin's output."""
    _call("ADD", node, pod, ports)


def remove(node: NatNode, pod: Pod, *ports: HostPort) -> None:
    """Remove the mapping. Its connections stay. A second call is no error."""
    _call("DEL", node, pod, ports)


def _call(command: str, node: NatNode, pod: Pod, ports: tuple[HostPort, ...]) -> None:
    plugin = _FOLDER / "portmap"
    if not plugin.exists():
        raise LabError(f"{plugin} is missing: run `make setup`")
    run(
        [str(plugin)],
        netns=node.netns,
        text=json.dumps(_configuration(node, pod, ports)),
        env={
            **os.environ,
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": pod.name,
            "CNI_NETNS": f"/run/netns/{pod.netns}",
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(_FOLDER),
        },
    )


def _configuration(node: NatNode, pod: Pod, ports: tuple[HostPort, ...]) -> dict[str, Any]:
    ips = [{"version": "4", "interface": 0, "address": f"{pod.address}/24", "gateway": node.pod_address(1)}]
    if pod.address6 is not None:
        gateway = f"{node.pod_address6(1)}"
        ips.append({"version": "6", "interface": 0, "address": f"{pod.address6}/64", "gateway": gateway})
    mappings = [
        {"hostPort": port.host_port, "containerPort": port.container_port, "protocol": "tcp"}
        for port in ports
    ]
    return {
        "cniVersion": "0.4.0",
        "name": "shlab",
        "type": "portmap",
        "snat": True,
        "runtimeConfig": {"portMappings": mappings},
        "prevResult": {
            "cniVersion": "0.4.0",
            "interfaces": [{"name": "eth0", "sandbox": f"/run/netns/{pod.netns}"}],
            "ips": ips,
            "routes": [],
        },
    }
