"""Checks whether containerd is told to use this node's agent: the proof is worth nothing if it is not.

Source: containerd's docs/hosts.md. `agent.hosts.named` reads the files. This says what they mean.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agent.preflight.check import Check, PreflightTarget, bad, good, listed

NAME = "hosts.toml"


@dataclass(frozen=True, slots=True, kw_only=True)
class ToldMirrors:
    """What containerd is told to use. ``folder``: where its hosts.toml files are; ``files``: how many.

    ``own``: the addresses in them that are this node's HostPort or NodePort. ``others``: all others.
    ``by_settings``: probe.endpoints, the operator's word on what containerd uses.
    """

    folder: Path
    files: int = 0
    own: Sequence[str] = ()
    others: Sequence[str] = ()
    by_settings: Sequence[str] = ()


def mirrors(target: PreflightTarget, told: ToldMirrors) -> Check:
    """Check that containerd is told to use this node's agent."""
    host = f"[{target.host_address}]" if ":" in target.host_address else target.host_address
    to_write = f'[host."http://{host}:{target.host_port}"]'
    if told.own:
        return good(NAME, f"containerd is told to use {listed(told.own)}")
    if told.by_settings:
        return good(
            NAME, f"no file in {told.folder} names the agent; by probe.endpoints {listed(told.by_settings)}"
        )
    hint = (
        f"run `shorthaul configure`, or write {to_write} into {told.folder}/_default/hosts.toml; set "
        "probe.hosts_dir if containerd reads another directory"
    )
    if not told.files:
        return bad(NAME, f"{told.folder} has no REGISTRY/hosts.toml: containerd uses no mirror", hint=hint)
    named = f"only {listed(told.others)}" if told.others else "no mirror"
    return bad(NAME, f"containerd is told to use {named}, and not this node's agent", hint=hint)
