"""The changes to containerd's directory of registries: from what it holds to what it should hold. Pure.

containerd reads one hosts.toml for each registry: the registry's own, or ``_default``'s if the registry has
no directory. So a registry with a file of its own needs our hosts in that file, and a new file for one
registry has to say all that ``_default`` said for it before.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from agent.hosts.hostsfile import read_hosts_file
from agent.hosts.merge import CantMerge, Merged, closed_mode, merge, merge_copy
from agent.hosts.mirror import Mirror
from agent.hosts.part import Made, Part, PartBroken, find_part, has_marks
from agent.hosts.toml import TomlInvalid, decode, parse, quoted, with_paths
from agent.oci.mirrors import is_loopback

DEFAULT = "_default"
"""The directory that containerd reads for registries without one of their own."""

_PORT = re.compile(r"(?::\d+|_\d+_)$")  # containerd knows both forms


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A registry's directory. ``hosts``: its hosts.toml, None if there is none. ``certificates``: the names
    of its certificate and key files, which containerd uses if there is no hosts.toml. ``problem``: why its
    hosts.toml can't be read, empty if it can. ``mode``: who may read and write its hosts.toml.
    """

    hosts: bytes | None = None
    certificates: tuple[str, ...] = ()
    problem: str = ""
    mode: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tree:
    """The directory of registries. ``exists``: whether it is there at all."""

    exists: bool = True
    entries: Mapping[str, Entry] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One hosts.toml, now and then. ``name``: of its directory. ``after``: None if the file goes.

    ``hosts``: what containerd will try, in order. ``server``: the registry's own address, if the file says
    it. ``owned``: whether somebody else wrote a part of it. ``remarks``: what a person should know.
    ``mode``: who may read and write it then; None: those of now. ``with_token``: those of ``hosts`` to which
    containerd is to prove that it is a node of this cluster.
    """

    name: str
    before: bytes | None
    after: bytes | None
    hosts: tuple[str, ...] = ()
    server: str = ""
    owned: bool = False
    made: frozenset[Made] = frozenset()
    like: str = ""
    remarks: tuple[str, ...] = ()
    mode: int | None = None
    mode_before: int | None = None
    with_token: frozenset[str] = frozenset()

    @property
    def changes(self) -> bool:
        """Whether anything is to be done."""
        return self.before != self.after or self.changes_mode

    @property
    def changes_mode(self) -> bool:
        """Whether others are to read or write the file than now."""
        return None not in (self.after, self.mode) and self.mode != self.mode_before


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """A hosts.toml that is left as it is although it should change."""

    name: str
    why: str
    hint: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to do. ``remarks``: what a person should know about directories that are left alone on purpose."""

    changes: tuple[Change, ...] = ()
    refusals: tuple[Refusal, ...] = ()
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    """An entry whose text is known. ``owner``: the text without our part; None if there was no file."""

    owner: str | None
    part: Part | None
    mode: int | None = None

    @property
    def mode_to_return(self) -> int | None:
        """The owner's mode of the file, if our part made it another one."""
        return self.part.mode if self.part else None

    @property
    def owners_mode(self) -> int | None:
        """The file's mode without our part."""
        return self.mode if self.mode_to_return is None else self.mode_to_return


def plan_configure(
    tree: Tree, mirror: Mirror, registries: Sequence[str] = (), *, tagless: Sequence[str] = ()
) -> Plan:
    """Put the mirror into the files of these registries, and into no other. None given: of all registries.

    ``tagless``: those of which it is asked for bytes only. Each needs a file of its own for that.
    """
    apart = [directory_of(registry, tree.entries) for registry in tagless]
    planner = _Planner(tree, mirror, frozenset(apart))
    if registries:
        names = dict.fromkeys(directory_of(registry, tree.entries) for registry in registries)
    else:
        taken = (name for name in sorted(tree.entries) if planner.takes(name))
        names = dict.fromkeys([DEFAULT, *taken, *apart])
    for name in names:
        planner.add(name)
    for name in sorted(tree.entries.keys() - names.keys()):
        planner.take_out(name)
    return planner.plan


def plan_unconfigure(tree: Tree) -> Plan:
    """Take out of every file what was put in."""
    planner = _Planner(tree, Mirror(endpoints=()))
    for name in sorted(tree.entries):
        planner.take_out(name)
    return planner.plan


def directory_of(registry: str, present: Iterable[str]) -> str:
    """The directory that containerd reads for this registry. ``present``: those that are there."""
    host, colon, port = registry.rpartition(":")
    names = [f"{host}_{port}_", registry] if colon and port.isdigit() else [registry]
    there = set(present)
    return next((name for name in names if name in there), registry)


class _Planner:
    def __init__(self, tree: Tree, mirror: Mirror, tagless: frozenset[str] = frozenset()) -> None:
        self._tree = tree
        self._tagless = tagless
        self._mirror = mirror
        self._known: dict[str, _Known] = {}
        self._changes: list[Change] = []
        self._refusals: list[Refusal] = []
        self._remarks: list[str] = []
        self._made_certs_d = not tree.exists or any(
            f", {Made.CERTS_D.value}]".encode() in (entry.hosts or b"") for entry in tree.entries.values()
        )

    @property
    def plan(self) -> Plan:
        return Plan(
            changes=tuple(self._changes), refusals=tuple(self._refusals), remarks=tuple(self._remarks)
        )

    def takes(self, name: str) -> bool:
        """Whether a registry that nobody named gets the mirror into its own file."""
        entry = self._tree.entries[name]
        if name == DEFAULT:
            return False
        if entry.hosts is None:
            if entry.certificates:
                self._remarks.append(
                    f"{name} has certificates and no hosts.toml, so pulls from it use no mirror; name it "
                    "with --registry if they should"
                )
            else:
                self._hides_default(name, "no hosts.toml")
            return False
        try:
            known = self._read(name)
        except (TomlInvalid, PartBroken, CantMerge):
            return True  # and it is refused, with its reason
        if not known.owner or not known.owner.strip():
            if known.part is None:
                self._hides_default(name, "an empty hosts.toml")
            return False
        if _is_this_node(name):
            self._remarks.append(f"{name} is left alone: it is another registry on each node")
            return False
        return True

    def _hides_default(self, name: str, has: str) -> None:
        if not name.startswith(".") and not _is_this_node(name):
            self._remarks.append(
                f"{name} has {has}, so pulls from it use no mirror; remove it, or name it with --registry"
            )

    def add(self, name: str) -> None:
        """Plan this registry's file with the mirror in it."""
        entry = self._tree.entries.get(name)
        try:
            known = self._read(name)
            merged, made = self._merged(name, known)
        except (TomlInvalid, PartBroken, CantMerge) as error:
            self._refuse(name, error)
            return
        remarks = []
        if merged.kept:
            remarks.append(f"it named {', '.join(merged.kept)} already: left where it is")
        if tokenless := [url for url in merged.kept if self._mirror.has_token(url)]:
            remarks.append(f"what it says for {', '.join(tokenless)} has no token of ours: take it out there")
        if not merged.in_order:
            wanted = ", ".join(self._mirror.urls)
            remarks.append(f"containerd does not try {wanted} first and in this order: move them in the file")
        said = read_hosts_file(merged.text.encode())
        if said.problem:
            remarks.append(f"containerd ignores this file: {said.problem}")
        elif said.old_problem and not any("[" in url for url in self._mirror.urls):
            remarks.append(f"containerd 1.6 and 1.7 ignore this file: {said.old_problem}")
        self._changes.append(
            Change(
                name=name,
                before=entry.hosts if entry else None,
                after=merged.text.encode(),
                hosts=merged.hosts,
                server=said.server,
                owned=bool(known.owner),
                made=made,
                like=DEFAULT if self._copies_default(name, known, made) else "",
                remarks=tuple(remarks),
                mode=closed_mode(known.owners_mode) if merged.secret else known.mode_to_return,
                mode_before=known.mode,
                with_token=frozenset(
                    url for url in merged.hosts if url not in merged.kept and self._mirror.has_token(url)
                ),
            )
        )

    def take_out(self, name: str) -> None:
        """Plan this registry's file without our part, if it has one."""
        entry = self._tree.entries[name]
        if entry.problem:
            self._remarks.append(f"{name} may have lines of ours, but can't be read: {entry.problem}")
        if entry.hosts is None or not has_marks(entry.hosts):
            return
        try:
            known = self._read(name)
        except (TomlInvalid, PartBroken) as error:
            self._refuse(name, error)
            return
        if known.part is None:
            return
        gone = Made.FILE in known.part.made and not known.owner
        after = None if gone else (known.owner or "").encode()
        self._changes.append(
            Change(
                name=name,
                before=entry.hosts,
                after=after,
                owned=not gone,
                made=known.part.made,
                mode=known.mode_to_return,
                mode_before=known.mode,
            )
        )

    def _read(self, name: str) -> _Known:
        """Raises `TomlInvalid`, `PartBroken`, and `CantMerge` for a file that can't be read."""
        if name not in self._known:
            entry = self._tree.entries.get(name)
            if entry is not None and entry.problem:
                raise CantMerge(
                    f"it can't be read: {entry.problem}", hint="let root read it, and run this again"
                )
            if entry is None or entry.hosts is None:
                self._known[name] = _Known(None, None)
            else:
                text = decode(entry.hosts)
                part = find_part(text)
                owner = text if part is None else part.cut_from(text)
                self._known[name] = _Known(owner, part, entry.mode)
        return self._known[name]

    def _merged(self, name: str, known: _Known) -> tuple[Merged, frozenset[Made]]:
        """The new file, and what is made with it. Raises `TomlInvalid`, `CantMerge`."""
        mirror = self._mirror.without_tags if name in self._tagless else self._mirror
        old = known.part.made if known.part else frozenset()
        if known.owner or (known.owner is not None and Made.FILE not in old):
            made = old - {Made.NEWLINE}
            return merge(known.owner, mirror, made, mode=known.owners_mode), made
        made = old | {Made.FILE}
        if name not in self._tree.entries:
            made |= {Made.DIRECTORY}
        if self._made_certs_d:
            made |= {Made.CERTS_D}
        return merge_copy(self._said_before(name, made), mirror, made), made

    def _copies_default(self, name: str, known: _Known, made: frozenset[Made]) -> bool:
        return not known.owner and Made.DIRECTORY in made and name != DEFAULT

    def _said_before(self, name: str, made: frozenset[Made]) -> str:
        """What containerd read for this registry before it had a hosts.toml of its own."""
        own = self._tree.entries.get(name, Entry())
        if Made.DIRECTORY not in made or name == DEFAULT:
            return _certificates(own.certificates)
        default = self._tree.entries.get(DEFAULT, Entry())
        try:
            owner = self._read(DEFAULT).owner
            if owner:
                parse(owner)
                return with_paths(owner, _beside_default)
        except (TomlInvalid, PartBroken, CantMerge):
            pass  # containerd can't read it either, and takes the certificates beside it
        return _certificates([_beside_default(each) for each in default.certificates])

    def _refuse(self, name: str, error: Exception) -> None:
        if isinstance(error, CantMerge):
            why, hint = str(error), error.hint
        elif isinstance(error, PartBroken):
            why = str(error)
            hint = "remove shorthaul's lines by hand, or put hosts.toml.before-shorthaul in its place"
        else:
            why = f"it can't be used: {error}"
            hint = "correct it; until then containerd ignores it, and asks the registry alone"
        self._refusals.append(Refusal(name=name, why=why, hint=hint))


def _certificates(names: Sequence[str]) -> str:
    """The keys that say what containerd finds by itself where there is no hosts.toml."""
    authorities = [name for name in names if name.endswith(".crt")]
    keys = {name for name in names if name.endswith(".key")}
    pairs = [
        (name, key if (key := name.removesuffix(".cert") + ".key") in keys else "")
        for name in names
        if name.endswith(".cert")
    ]
    lines = []
    if authorities:
        lines.append(f"ca = [{', '.join(quoted(name) for name in authorities)}]\n")
    if pairs:
        lines.append(f"client = [{', '.join(f'[{quoted(one)}, {quoted(other)}]' for one, other in pairs)}]\n")
    return "".join(lines)


def _beside_default(path: str) -> str:
    return path if path.startswith("/") else f"../{DEFAULT}/{path}"


def _is_this_node(name: str) -> bool:
    """Whether the registry of this directory is another one on each node."""
    return is_loopback(_PORT.sub("", name).removeprefix("[").removesuffix("]"))
