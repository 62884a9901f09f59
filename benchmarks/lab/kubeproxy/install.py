"""Putting the rules into a network namespace, and taking them out again."""

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
    """What `install` takes: the text of each family that the node has."""

    mode: Mode
    text: dict[Family, str]
    route_localnet: bool


def rules(mode: Mode, services: Sequence[Service], node: NodeAddresses) -> Rules:
    """The rules of a kube-proxy in this mode. Services of a family that the node lacks are left out."""
    families: tuple[Family, ...] = (4, 6)
    write = iptables_rules if mode is Mode.IPTABLES else nftables_rules
    text = {family: write(services, node, family) for family in families if node.address(family)}
    return Rules(
        mode=mode, text=text, route_localnet=mode is Mode.IPTABLES and node.localhost_node_ports and 4 in text
    )


def install(netns: str, wanted: Rules) -> None:
    """Put the rules into a namespace in the place of the same mode's earlier ones, all of a family at once.

    Connections, conntrack entries, and other people's rules and chains stay. The other mode's rules stay as
    well: `remove` first. Sets route_localnet as kube-proxy does. Raises `LabError` with what the tool said.
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
    """Remove what `install` left, of any mode; route_localnet stays, as a real kube-proxy leaves it."""
    for family, ip in IP_WORDS.items():
        saved = run([f"{_TOOLS[family]}-save"], netns=netns)
        run([f"{_TOOLS[family]}-restore", "--noflush"], netns=netns, text=_removal_input(saved))
        # To add what is there changes nothing; to delete what is not there fails.
        script = f"add table {ip} kube-proxy\ndelete table {ip} kube-proxy\n"
        run(["nft", "-f", "-"], netns=netns, text=script)


def _sections(saved: str) -> dict[str, list[str]]:
    """The lines of each table that iptables-save printed."""
    tables: dict[str, list[str]] = {}
    lines: list[str] = []
    for line in saved.splitlines():
        if line.startswith("*"):
            lines = tables[line[1:]] = []
        elif line.startswith((":", "-A ")):
            lines.append(line)
    return tables


def _restore_input(saved: str, text: str) -> str:
    """The rules as input of ``iptables-restore --noflush``, given what is there.

    It flushes the chains that it names. Hooks are shared, so they are not named: a jump that is there already
    is left out, a new one goes to the front. Service chains that nobody wants any more are deleted.
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
    """The table as input of ``nft -f``: what is there is emptied, Services' old chains are deleted."""
    there = re.search(rf"^table {ip} kube-proxy {{$(.*?)^}}$", listed, re.MULTILINE | re.DOTALL)
    if there is None:
        return text
    head = [f"flush table {ip} kube-proxy"]
    for name, (key, _) in SETS.items():
        head.append(f"flush {kind_of(key)} {ip} kube-proxy {name}")
    # Only a Service's chains have a slash in their names.
    old = re.findall(r"^\tchain (\S+/\S+) {", there[1], re.MULTILINE)
    head += [f"delete chain {ip} kube-proxy {name}" for name in old if f"chain {name} " not in text]
    return "\n".join([*head, text])
