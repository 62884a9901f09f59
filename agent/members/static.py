"""The membership in a YAML file. The file is read again when it changes.

It is a list of ``{name, address, port, region, zone, rack, labels}``. Only the first three are required.
``labels`` are those of the Kubernetes node. region, zone and rack win over them. If the file becomes invalid
or empty while the agent runs, that is told, and the last valid list is used. ``[]`` is an empty list.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.config.values import InvalidValue, Labels, parse_address, parse_labels, parse_name
from agent.config.yamlfile import YamlInvalid, read_yaml
from agent.members.checks import OwnAgent, check_members
from agent.members.files import follow_file
from agent.members.member import Peer, Peers, describe_change
from agent.members.problems import Problem, Problems
from agent.observe.reloads import Reloads, first_names
from topology.interning import Interned
from topology.labels import FINER_LEVELS, configured_placement, read_labels
from topology.placement import NodeName, Placement

_log = logging.getLogger("shorthaul")

_SOURCE = "peers file"
_KNOWN = {"name", "address", "port", "region", "zone", "rack", "labels"}


class MembersInvalid(Exception):
    """The file can't be used. The message has every mistake, one per line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listing:
    """The peers in the file, without this node, and what is wrong with the list.

    ``is_blank``: there is no list at all, as in a file that is being written. An empty list is ``[]``.
    """

    peers: Peers
    problems: tuple[Problem, ...]
    is_blank: bool


def read_members(path: Path, *, own: OwnAgent, finer_levels: Sequence[str] = FINER_LEVELS) -> Listing:
    """What the file lists. Raises `MembersInvalid`. ``finer_levels``: see `topology.labels.read_labels`."""
    try:
        document = read_yaml(path)
    except OSError as error:
        raise MembersInvalid(f"{path}: {error.strerror} (membership.static names this file)") from error
    except YamlInvalid as error:
        raise MembersInvalid(f"{path}: {error} ({error.hint})") from error
    entries = [] if document is None else document
    if not isinstance(entries, list):
        raise MembersInvalid(f"{path}: not a list (write one '- {{name: …, address: …, port: …}}' a peer)")
    listed: dict[NodeName, Peer] = {}
    shared = Interned[Placement]()
    mistakes: list[str] = []
    for number, entry in enumerate(entries):
        own_mistakes = _mistakes(entry)
        mistakes.extend(f"{path}[{number}]{mistake}" for mistake in own_mistakes)
        if own_mistakes:
            continue
        peer = _peer(entry, finer_levels, shared)
        if peer.name in listed:
            mistakes.append(f"{path}[{number}].name: {peer.name!r} is there twice (names are unique)")
        listed[peer.name] = peer
    if mistakes:
        raise MembersInvalid("\n".join(mistakes))
    peers, problems = check_members(tuple(listed.values()), own)
    return Listing(peers=peers, problems=problems, is_blank=document is None)


class _Listed:
    """A membership whose list is complete, and is at hand."""

    problem: str | None = None
    hint = ""
    silent_s: float | None = None

    def placed(self, peer: Peer, placement: Placement) -> None:
        """See `Membership.placed`. The list says where the peers are."""


class StaticMembership(_Listed):
    """Follows one file. ``problems``: is told what is wrong with the list; ``reloads``: each reading."""

    def __init__(
        self,
        path: Path,
        *,
        own: OwnAgent,
        problems: Problems,
        reloads: Reloads,
        finer_levels: Sequence[str] = FINER_LEVELS,
    ) -> None:
        self._path = path
        self._own = own
        self._problems = problems
        self._reloads = reloads
        self._finer_levels = finer_levels
        self._again = asyncio.Event()
        self._last: Listing | None = None

    async def run(self, changed: Callable[[Peers], None]) -> None:
        """See `Membership.run`."""
        async for _ in follow_file(self._path, again=self._again):
            try:
                # In a thread: thousands of entries take a while, and the loop serves pulls meanwhile.
                listing = await asyncio.to_thread(self._read)
                self._require_list(listing)
            except MembersInvalid as error:
                self._fail(error)
            else:
                self._use(listing, changed)

    def reread(self) -> None:
        """See `Membership.reread`."""
        self._again.set()

    def _read(self) -> Listing:
        return read_members(self._path, own=self._own, finer_levels=self._finer_levels)

    def _require_list(self, listing: Listing) -> None:
        """Raises `MembersInvalid` if the file was emptied: so looks a file that is just being written."""
        if listing.is_blank and self._last is not None and self._last.peers:
            raise MembersInvalid(f"{self._path}: empty (write [] if there are no peers any more)")

    def _use(self, listing: Listing, changed: Callable[[Peers], None]) -> None:
        before, self._last = self._last, listing
        self._problems.found(_SOURCE, listing.problems)
        if before is None:
            changed(listing.peers)
            names = first_names(listing.peers)
            _log.info("peers", extra={"fields": {"peers": len(listing.peers), "names": names}})
        elif before.peers == listing.peers:
            self._reloads.unchanged("peers")
        else:
            changed(listing.peers)
            self._reloads.changed("peers", describe_change(before.peers, listing.peers))

    def _fail(self, error: MembersInvalid) -> None:
        mistakes = str(error).splitlines()
        self._reloads.failed("peers", mistakes, "correct the file; it is read again when it changes")
        last = self._last
        instead = "the last good one stays in force" if last else "this node has no peers"
        said = Problem(
            node=self._own.name,
            problem=f"the list can't be used, so {instead}: {mistakes[0]}",
            hint="correct the file; the log has its mistakes",
        )
        self._problems.found(_SOURCE, (said, *(last.problems if last else ())))


class NoMembership(_Listed):
    """The membership of a node without peers."""

    async def run(self, changed: Callable[[Peers], None]) -> None:
        """See `Membership.run`."""
        changed({})

    def reread(self) -> None:
        """See `Membership.reread`. There is nothing to read."""


def _mistakes(entry: Any) -> list[str]:
    if not isinstance(entry, dict):
        return [f": {entry!r} is not a mapping (write {{name: …, address: …, port: …}})"]
    found = [f".{key}: unknown key (known: {', '.join(sorted(_KNOWN))})" for key in entry.keys() - _KNOWN]
    try:
        parse_name(entry.get("name"))
    except InvalidValue as wrong:
        found.append(f".name: {wrong} (the peer's node.name: {wrong.hint})")
    try:
        parse_address(entry.get("address"))
    except InvalidValue as wrong:
        found.append(f".address: {wrong} (the peer's node.address)")
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


def _peer(entry: dict[str, Any], finer_levels: Sequence[str], shared: Interned[Placement]) -> Peer:
    name = NodeName(parse_name(entry["name"]))
    configured = configured_placement(*(entry.get(level) for level in ("region", "zone", "rack")))
    placement, problems = read_labels(
        name, dict(_labels(entry).items), configured=configured, finer_levels=finer_levels
    )
    return Peer(
        name=name,
        address=parse_address(entry["address"]),
        port=entry["port"],
        placement=shared.of(placement),
        problems=problems,
    )
