"""Installs the rules in a network namespace, and removes them."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import assert_never

from benchmarks.lab.kubeproxy.iptables import HOOKS, iptables_rules
from benchmarks.lab.kubeproxy.nftables import IP_WORDS, SETS, kind_of, nftables_rules
from benchmarks.lab.kubeproxy.service import Family, Mode, NodeAddresses, Service
from benchmarks.lab.network import inside
from benchmarks.lab.process import run

_SERVICE_CHAIN = re.compile(r"KUBE-(SVC|SVL|EXT|SEP|FW)-")
_TOOLS: dict[Family, str] = {4: "iptables", 6: "ip6tables"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The rules for `install`: the text for each address family of the node."""

    mode: Mode
    text: dict[Family, str]
    route_localnet: bool


def rules(mode: Mode, services: Sequence[Service], node: NodeAddresses) -> Rules:
    """The rules of a kube-proxy in this mode. Services of an address family that the node lacks are left
    out.
    """
    families: tuple[Family, ...] = (4, 6)
    write = iptables_rules if mode is Mode.IPTABLES else nftables_rules
    text = {family: write(services, node, family) for family in families if node.address(family)}
    return Rules(
        mode=mode, text=text, route_localnet=mode is Mode.IPTABLES and node.localhost_node_ports and 4 in text
    )


def install(netns: str, wanted: Rules) -> None:
    """Replace the earlier rules of the same mode in a namespace, one address family at a time.

    Connections, conntrack entries, and other tools' rules and chains stay. The other mode's rules stay too,
    so call `remove` first. Sets route_localnet like kube-proxy. Raises `LabError` with the tool's output.
    """
    if wanted.route_localnet:
        inside(netns, lambda: Path("/proc/sys/net/ipv4/conf/all/route_localnet").write_text("1"))
    for family, text in wanted.text.items():
        match wanted.mode:
            case Mode.IPTABLES:
                saved = run([f"{_TOOLS[family]}-save"], netns=netns)
                run([f"{_TOOLS[family]}-restore", "--noflush"], netns=netns, text=_restore_input(saved, text))
            case Mode.NFTABLES:
                listed = run(["nft", "list", "chains", IP_WORDS[family]], netns=netns)
                run(["nft", "-f", "-"], netns=netns, text=_nft_script(listed, text, IP_WORDS[family]))
            case _:
                assert_never(wanted.mode)


def remove(netns: str) -> None:
    """Remove the rules of any mode. route_localnet stays, as a real kube-proxy leaves it too."""
    for family, ip in IP_WORDS.items():
        saved = run([f"{_TOOLS[family]}-save"], netns=netns)
        run([f"{_TOOLS[family]}-restore", "--noflush"], netns=netns, text=_removal_input(saved))
        # Adding an existing table changes nothing. Deleting a missing one fails.
        script = f"add table {ip} kube-proxy\ndelete table {ip} kube-proxy\n"
        run(["nft", "-f", "-"], netns=netns, text=script)


def _sections(saved: str) -> dict[str, list[str]]:
    """The lines of each table in the output of iptables-save."""
    tables: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            lines = tables[line[1:]] = []
        elif line.startswith((":", "-A ")):
            lines.append(line)
    return tables


def _restore_input(saved: str, text: str) -> str:
    """The rules as input of ``iptables-restore --noflush``, given the existing rules.

    It flushes the chains that it declares. Built-in chains are shared, so they are not declared. A jump that
    exists already is left out, and a new jump goes to the front. Service chains that are no longer used are
    deleted.
    """
    before = _sections(saved)
    found: list[str] = []
    for table, lines in _sections(text).items():
        there = before.get(table, [])
        found.append(f"*{table}")
        jumps = dict.fromkeys(HOOKS[table], 0)
        for line in lines:
            name = line.split()[1] if line.startswith("-A ") else line.split()[0][1:]
            if name not in jumps:
                found.append(line)
            elif line.startswith("-A ") and line not in there:
                jumps[name] += 1
                found.append(line.replace(f"-A {name}", f"-I {name} {jumps[name]}", 1))
        names = [line.split()[0][1:] for line in there if line.startswith(":")]
        stale = [name for name in names if _SERVICE_CHAIN.match(name) and f":{name} " not in text]
        found += [f":{name} - [0:0]" for name in stale] + [f"-X {name}" for name in stale]
        found.append("COMMIT")
    return "\n".join([*found, ""])


def _removal_input(saved: str) -> str:
    found: list[str] = []
    for table, lines in _sections(saved).items():
        names = [line.split()[0][1:] for line in lines if line.startswith(":KUBE-")]
        jumps = [line for line in lines if " -j KUBE-" in line and not line.startswith("-A KUBE-")]
        found += [f"*{table}", *(f":{name} - [0:0]" for name in names)]
        found += [line.replace("-A", "-D", 1) for line in jumps]
        found += [*(f"-X {name}" for name in names), "COMMIT"]
    return "\n".join([*found, ""])


def _nft_script(listed: str, text: str, ip: str) -> str:
    """The table as input of ``nft -f``. Existing chains are emptied, and old Services' chains are deleted."""
    there = re.search(rf"^table {ip} kube-proxy {{$(.*?)^}}$", listed, re.MULTILINE | re.DOTALL)
    if there is None:
        return text
    head = [f"flush table {ip} kube-proxy"]
    for name, (key, _) in SETS.items():
        head.append(f"flush {kind_of(key)} {ip} kube-proxy {name}")
    # Only the chains of a Service have a slash in their names.
    old = re.findall(r"^\tchain (\S+/\S+) {", there[1], re.MULTILINE)
    head += [f"delete chain {ip} kube-proxy {name}" for name in old if f"chain {name} " not in text]
    return "\n".join([*head, text])
