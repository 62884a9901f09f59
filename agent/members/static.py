"""The membership in a YAML file. The file is read again when it changes.

It is a list of ``{name, address, port, region, zone, rack, labels}``. Only the first three are required.
``labels`` are those of the Kubernetes node. region, zone and rack win over them. If the file becomes invalid
while the agent runs, that is logged, and the last valid list is used.
"""

import asyncio
import ipaddress
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agent.config.values import InvalidValue, Labels, parse_labels, parse_name
from agent.config.yamlfile import YamlInvalid, read_yaml
from agent.members.files import follow_file
from agent.members.member import Peer, Peers
from topology.labels import FINER_LEVELS, configured_placement, read_labels
from topology.placement import NodeName

_log = logging.getLogger(__name__)

_KNOWN = {"name", "address", "port", "region", "zone", "rack", "labels"}


class MembersInvalid(Exception):
    """The file can't be used. The message has every mistake, one per line."""


def read_members(path: Path, *, own: NodeName, finer_levels: Sequence[str] = FINER_LEVELS) -> Peers:
    """The peers in the file, without ``own``. Raises `MembersInvalid`.

    ``finer_levels``: see `topology.labels.read_labels`.
    """
    try:
        entries = read_yaml(path)
    except OSError as error:
        raise MembersInvalid(f"{path}: {error.strerror} (membership.static names this file)") from error
    except YamlInvalid as error:
        raise MembersInvalid(f"{path}: {error}") from error
    if entries is None:
        entries = []
    if not isinstance(entries, list):
        raise MembersInvalid(f"{path}: not a list (write one '- {{name: …, address: …, port: …}}' a peer)")
    peers: dict[NodeName, Peer] = {}
    mistakes: list[str] = []
    for number, entry in enumerate(entries):
        own_mistakes = _mistakes(entry)
        mistakes.extend(f"{path}[{number}]{mistake}" for mistake in own_mistakes)
        if own_mistakes:
            continue
        peer = _peer(entry, finer_levels)
        if peer.name in peers:
            mistakes.append(f"{path}[{number}].name: {peer.name!r} is there twice (names are unique)")
        peers[peer.name] = peer
    if mistakes:
        raise MembersInvalid("\n".join(mistakes))
    peers.pop(own, None)
    return peers


class StaticMembership:
    """Follows one file."""

    def __init__(self, path: Path, *, own: NodeName, finer_levels: Sequence[str] = FINER_LEVELS) -> None:
        self._path = path
        self._own = own
        self._finer_levels = finer_levels

    async def run(self, changed: Callable[[Peers], None]) -> None:
        """See `Membership.run`."""
        async for _ in follow_file(self._path):
            try:
                # In a thread: thousands of entries take a while, and the loop serves pulls meanwhile.
                changed(await asyncio.to_thread(self._read))
            except MembersInvalid as error:
                _log.error("membership unchanged, as its file can't be used: %s", error)

    def _read(self) -> Peers:
        return read_members(self._path, own=self._own, finer_levels=self._finer_levels)


class NoMembership:
    """The membership of a node without peers."""

    async def run(self, changed: Callable[[Peers], None]) -> None:
        """See `Membership.run`."""
        changed({})


def _mistakes(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return [f": {entry!r} is not a mapping (write {{name: …, address: …, port: …}})"]
    found = [f".{key}: unknown key (known: {', '.join(sorted(_KNOWN))})" for key in entry.keys() - _KNOWN]
    try:
        parse_name(entry.get("name"))
    except InvalidValue as wrong:
        found.append(f".name: {wrong} (the peer's node.name: {wrong.hint})")
    try:
        ipaddress.ip_address(str(entry.get("address")))
    except ValueError:
        found.append(f".address: {entry.get('address')!r} is not an IP address (the peer's node.address)")
    port = entry.get("port")
    if isinstance(port, bool) or not isinstance(port, int) or not 0 < port < 65536:
        found.append(f".port: {port!r} is not a port (the peer's listen.peer port, 30020 by convention)")
    for level in ("region", "zone", "rack"):
        value = entry.get(level)
        if value is not None and (isinstance(value, bool) or not isinstance(value, str | int)):
            found.append(f".{level}: {value!r} is not text (put it in quotes)")
    try:
        _labels(entry)
    except InvalidValue as wrong:
        found.append(f".labels: {wrong} ({wrong.hint})")
    return found


def _labels(entry: dict[str, Any]) -> Labels:
    return parse_labels({} if entry.get("labels") is None else entry["labels"])


def _peer(entry: dict[str, Any], finer_levels: Sequence[str]) -> Peer:
    name = NodeName(parse_name(entry["name"]))
    configured = configured_placement(*(entry.get(level) for level in ("region", "zone", "rack")))
    placement, problems = read_labels(
        name, dict(_labels(entry).items), configured=configured, finer_levels=finer_levels
    )
    return Peer(
        name=name,
        address=str(ipaddress.ip_address(str(entry["address"]))),
        port=entry["port"],
        placement=placement,
        problems=problems,
    )
