"""What a server says of itself (INFO). Pure. All of it may be missing, because an ACL may forbid to ask."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from agent.documents.index import IndexWarningEntry

_NEARLY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """``version``: name and number. ``run_id``: another one after each start. ``used_bytes``, ``most_bytes``:
    memory, and its limit, 0: none. ``policy``: what goes when it is full. ``evicted``: how many keys went.
    """

    version: str | None = None
    run_id: str | None = None
    is_replica: bool = False
    used_bytes: int | None = None
    most_bytes: int | None = None
    policy: str | None = None
    evicted: int = 0

    @property
    def may_evict_soon(self) -> bool:
        """Whether it is nearly full, and throws keys away then. What it evicted is soon to be known."""
        return _evicts(self) and (self.used_bytes or 0) > _NEARLY * (self.most_bytes or 0)


def facts_of(reply: object) -> Facts:
    """The facts in the answer to INFO, whatever it is."""
    if not isinstance(reply, bytes):
        return Facts()
    lines = (line.split(":", 1) for line in reply.decode(errors="replace").splitlines() if ":" in line)
    said = {name: value.strip() for name, value in lines}
    name = said.get("server_name") or "redis"
    number = said.get("valkey_version") or said.get("redis_version")
    return Facts(
        version=None if number is None else f"{name[:20]} {number[:20]}",
        run_id=said.get("run_id"),
        is_replica=said.get("role") == "slave",
        used_bytes=_number(said.get("used_memory")),
        most_bytes=_number(said.get("maxmemory")),
        policy=said.get("maxmemory_policy"),
        evicted=_number(said.get("evicted_keys")) or 0,
    )


def together(facts: list[Facts]) -> Facts:
    """The facts of all primaries of a Cluster as those of one server."""
    if len(facts) <= 1:
        return facts[0] if facts else Facts()
    used = [each.used_bytes for each in facts if each.used_bytes is not None]
    most = [each.most_bytes for each in facts if each.most_bytes is not None]
    ids = [each.run_id for each in facts if each.run_id is not None]
    return replace(
        facts[0],
        run_id=",".join(sorted(ids)) or None,
        used_bytes=sum(used) if used else None,
        most_bytes=0 if 0 in most or not most else sum(most),
        policy=next((each.policy for each in facts if _evicts(each)), facts[0].policy),
        evicted=sum(each.evicted for each in facts),
    )


def warnings_of(facts: Facts) -> tuple[IndexWarningEntry, ...]:
    """What works, and that a person should know."""
    return tuple(_warnings(facts))


def _warnings(facts: Facts) -> Iterator[IndexWarningEntry]:
    if _evicts(facts):
        gone = f"; {facts.evicted} keys have gone" if facts.evicted else ""
        yield IndexWarningEntry(
            problem=f"the server evicts keys when it is full (maxmemory-policy {facts.policy}){gone}",
            hint="set maxmemory-policy noeviction, and a maxmemory for the size of the cluster "
            "(docs/large-clusters.md)",
        )
    elif facts.most_bytes == 0:
        yield IndexWarningEntry(
            problem="the server has no limit of memory (maxmemory)",
            hint="set maxmemory to twice what docs/large-clusters.md has for the size of the cluster, so "
            "that the kernel does not end the server",
        )


def _evicts(facts: Facts) -> bool:
    """``volatile-*`` evicts keys with a time to live, and all keys of the index have one."""
    return bool(facts.most_bytes) and facts.policy not in (None, "noeviction")


def _number(text: str | None) -> int | None:
    return int(text) if text is not None and text.isdecimal() and text.isascii() and len(text) < 20 else None
