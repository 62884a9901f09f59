"""Whether containerd has the token that the agents ask it for, and whether others can read it. Pure.

A wrong one costs the fallback: containerd is refused at the NodePort, and goes on to the registry. In a pod's
network the HostPort asks for it as well. No token is ever shown.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from agent.hosts.hostsfile import Host, HostsFile
from agent.keyring import KeyRing
from agent.preflight.answering import spelled
from agent.preflight.check import Check, bad, good, listed, warn

TOKEN = "the token"
_OTHERS = 0o077
_CONFIGURE = (
    "run `shorthaul configure --key-file FILE` (in Kubernetes the container `hosts` does: see its log)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The hosts.toml files by the name of their directory, who may read each, and which addresses are ours.

    ``name_of``: hostport, nodeport, clusterip; empty: not of the agents. ``pod_network``: the agent is in a
    pod's network.
    """

    certs_d: str
    files: Mapping[str, HostsFile]
    modes: Mapping[str, int]
    name_of: Callable[[Host], str]
    pod_network: bool = False


def tokens(told: Told, ring: KeyRing | None) -> tuple[Check, ...]:
    """What containerd shows to the agents. Empty if it is asked for nothing. ``ring``: the cluster's keys."""
    if ring is None:
        return ()
    asked = [*_asked(told)]
    checks = [
        *_wrong(asked, ring),
        *_readable(told, [name for name, _, host in asked if host.authorization]),
    ]
    if not checks and asked:
        where = " and ".join(dict.fromkeys(spelled(kind) for _, kind, _ in asked))
        return (good(TOKEN, f"containerd shows the {where} what the key {ring.signs.id} makes"),)
    return tuple(checks)


def _asked(told: Told) -> Iterator[tuple[str, str, Host]]:
    """The hosts that ask for a token: in which file, which kind."""
    for name, file in told.files.items():
        for host in file.hosts:
            kind = told.name_of(host)
            if kind in ("nodeport", "clusterip") or (kind == "hostport" and told.pod_network):
                yield f"{told.certs_d}/{name}/hosts.toml", kind, host


def _wrong(asked: list[tuple[str, str, Host]], ring: KeyRing) -> Iterator[Check]:
    first, *others = (f"Bearer {token}" for token in ring.service_tokens)
    for kind in dict.fromkeys(kind for _, kind, _ in asked):
        hosts = [(file, host) for file, each, host in asked if each == kind]
        none = [file for file, host in hosts if not host.authorization]
        older = [file for file, host in hosts if host.authorization in others]
        wrong = [file for file, host in hosts if host.authorization not in ("", first, *others)]
        refused = bad if kind == "hostport" else warn  # the HostPort is the way of all pulls
        if none:
            detail = f"{listed(none, 3, width=120)}: none for the {spelled(kind)}, which refuses containerd"
            yield refused(TOKEN, detail, hint=_CONFIGURE)
        if wrong:
            detail = f"{listed(wrong, 3, width=120)}: one for the {spelled(kind)} that no key of now makes"
            yield refused(TOKEN, detail, hint=_CONFIGURE)
        if older:
            yield warn(
                TOKEN,
                f"{listed(older, 3, width=120)}: that of an older key, which is still accepted",
                hint=f"before that key is removed: {_CONFIGURE}",
            )


def _readable(told: Told, files: list[str]) -> Iterator[Check]:
    modes = {f"{told.certs_d}/{name}/hosts.toml": mode for name, mode in told.modes.items()}
    for file in dict.fromkeys(files):
        mode = modes.get(file)
        if mode is not None and mode & _OTHERS:
            yield warn(
                TOKEN,
                f"{listed([file], width=120)} is open to others on this node (mode {mode:04o}), and has the "
                "token in it",
                hint=f"chmod 0600 {file}",
            )
