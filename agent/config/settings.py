"""Every setting, in frozen groups: its meaning, its unit, its default and the reason for the default.

``docs/configuration.md`` is held to this module by a test.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from agent.config.values import (
    ContainerdStore,
    Endpoint,
    Labels,
    OciLayoutStore,
    ZonePrice,
    amount,
    limit,
    parse_address,
    parse_endpoint,
    parse_endpoints,
    parse_file,
    parse_flag,
    parse_index,
    parse_labels,
    parse_levels,
    parse_local,
    parse_name,
    parse_optional_label,
    parse_path,
    parse_patterns,
    parse_prices,
    parse_store,
    parse_transfer_mode,
    parse_uids,
    seconds,
    whole_number,
)
from topology.labels import FINER_LEVELS

_T = TypeVar("_T")
_REQUIRED: Any = object()


def option(parse: Callable[[object], object], doc: str, *, default: object = _REQUIRED) -> Any:
    """A field of a settings group: how to read it, what it means, and its default (none: required)."""
    metadata = {"parse": parse, "doc": doc}
    return field(metadata=metadata) if default is _REQUIRED else field(metadata=metadata, default=default)


def group(cls: type[_T]) -> Any:
    """A nested group whose own fields all have defaults."""
    return field(metadata={"group": cls}, default_factory=cls)


def required_group(cls: type[_T]) -> Any:
    """A nested group with required fields."""
    return field(metadata={"group": cls})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Who this node is."""

    name: str = option(parse_name, "The node's name, unique in the cluster; Kubernetes' node name there.")
    address: str = option(parse_address, "The IP address at which peers reach this node.")


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSettings:
    """Where this node sits. A level left out is taken from the labels, or unknown."""

    region: str | None = option(parse_optional_label, "Region (topology.kubernetes.io/region).", default=None)
    zone: str | None = option(parse_optional_label, "Zone (topology.kubernetes.io/zone).", default=None)
    rack: str | None = option(parse_optional_label, "Rack, or any level finer than the zone.", default=None)
    labels: Labels = option(
        parse_labels,
        "This node's labels, as Kubernetes has them; those that say where it is count.",
        default=Labels(),
    )
    labels_file: Path | None = option(
        parse_path,
        'A file of the downward API with the pod\'s labels (KEY="VALUE" lines), which Kubernetes 1.35 copies '
        "from the node. Relative to the configuration file.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """The four sockets. Each request's path is known from the socket it came in by."""

    local: Endpoint = option(
        parse_local,
        "HostPort: containerd on this node. Loopback only, as it has no authentication.",
        default=Endpoint(host="127.0.0.1", port=30020),
    )
    peer: Endpoint = option(parse_endpoint, "Other agents; the node's address, port 30020 by convention.")
    service: Endpoint = option(
        parse_endpoint, "What the NodePort Service (30021) targets: the fallback of other nodes' containerds."
    )
    admin: Endpoint = option(
        parse_endpoint,
        "Metrics, health and API; loopback, so that publishing them is a decision.",
        default=Endpoint(host="127.0.0.1", port=9090),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSettings:
    """Where the list of peers comes from."""

    static: Path | None = option(
        parse_path,
        "YAML file with a list of {name, address, port, region, zone, rack, labels}; re-read when it "
        "changes. Relative to the configuration file. None: a node without peers.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologySettings:
    """How labels nest."""

    finer_levels: tuple[str, ...] = option(
        parse_levels,
        "Keys of the labels below the zone, the widest level first. The default has those of AWS, GKE, "
        "NVIDIA topograph, OCI, Azure's fault domain, Rook and racks; one that no node has is of no effect.",
        default=FINER_LEVELS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySettings:
    """Measuring round trips to peers."""

    probe: bool = option(
        parse_flag,
        "Whether to keep probe connections; without them only pulls and questions measure.",
        default=True,
    )
    own_zone: int = option(
        whole_number(most=1000),
        "Probe connections to peers of this zone, rotating; where most bytes come from.",
        default=32,
    )
    other_zones: int = option(
        whole_number(most=1000),
        "Probe connections to peers of each other zone, rotating; a median needs three.",
        default=3,
    )
    connections_max: int = option(
        whole_number(most=5000),
        "Probe connections in all; with more zones than fit, the zones take turns.",
        default=192,
    )
    interval_s: float = option(
        seconds(least=0.25, most=3600),
        "Seconds between two probes of a connection; more than 0.2 s plus the round trip, below which the "
        "peer's kernel would delay its acknowledgement.",
        default=2.0,
    )
    window_s: float = option(
        seconds(least=0.1, most=36000),
        "Seconds for which a sample counts: so long can it take until a peer that became slower is "
        "believed to be. Ten intervals: among so many samples some are free of jitter.",
        default=20.0,
    )
    half_life_s: float = option(
        seconds(least=0.1, most=36000),
        "Seconds in which an estimate without new samples loses half of its weight.",
        default=120.0,
    )
    rotate_s: float = option(
        seconds(least=0.1, most=36000),
        "Seconds after which a quarter of the probed peers is exchanged for others.",
        default=30.0,
    )
    report_s: float = option(
        seconds(least=0.1, most=3600),
        "Seconds between two reports to each probed peer about what was measured.",
        default=15.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSettings:
    """What bytes between nodes cost, in US dollars per GB (10^9 bytes)."""

    same_zone: float = option(amount(most=1000), "Within a zone; free on the large clouds.", default=0.0)
    cross_zone: float = option(
        amount(most=1000),
        "Between zones of a region: the large clouds bill 0.01 on each side (AWS: EC2 On-Demand Pricing, "
        "Data Transfer).",
        default=0.02,
    )
    cross_region: float = option(
        amount(most=1000),
        "Between regions: the same list has 0.02 for near regions and up to 0.09 for far ones.",
        default=0.02,
    )
    pairs: tuple[ZonePrice, ...] = option(
        parse_prices,
        "Exceptions: a list of {from, to, usd_per_gb}, zones by name or as REGION/ZONE.",
        default=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesSettings:
    """Which images the mirror answers for."""

    include: tuple[str, ...] = option(
        parse_patterns, "Globs on REGISTRY/REPOSITORY:TAG of what is mirrored; everything.", default=("*",)
    )
    exclude: tuple[str, ...] = option(
        parse_patterns,
        "Globs of what is not, even if included. containerd goes to the registry.",
        default=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupSettings:
    """Asking peers who has what."""

    patience_s: float = option(
        seconds(least=0.001, most=10),
        "Seconds to wait for a ring of peers before the next ring is asked as well; 30 times a slow "
        "cross-zone round trip, so that only a sick peer lets it pass.",
        default=0.05,
    )
    timeout_s: float = option(
        seconds(least=0.01, most=60),
        "Seconds after which a peer that has not answered counts as failed; covers the widest round "
        "trips between continents.",
        default=0.5,
    )
    positive_ttl_s: float = option(
        seconds(most=600),
        "Seconds for which 'this peer has it' is believed. Long enough for the blob requests that follow "
        "a manifest; a wrong one costs one 404 from the peer.",
        default=10.0,
    )
    negative_ttl_s: float = option(
        seconds(most=60),
        "Seconds for which 'nobody has it' is believed. Short: the first node's pull makes it untrue.",
        default=1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSettings:
    """Fetching from peers."""

    connect_s: float = option(
        seconds(least=0.01, most=60),
        "Seconds for a TCP connection to a peer; one SYN retransmission fits in.",
        default=1.5,
    )
    patience_s: float = option(
        seconds(least=0.01, most=60),
        "Longest wait for a first byte before the next peer is asked as well (the slow one may still win); "
        "sooner where 95 % of the tier's first bytes come sooner. Well above any healthy peer's.",
        default=0.5,
    )
    deadline_s: float = option(
        seconds(least=0.1, most=300),
        "Seconds after which a pull without a first byte is answered 404, so that containerd goes on. "
        "containerd itself would wait minutes.",
        default=10.0,
    )
    stall_s: float = option(
        seconds(least=0.1, most=300),
        "Seconds without a byte after which a peer is given up and the body goes on from the next one. Ten "
        "times the longest pause of a healthy one, retransmissions included.",
        default=3.0,
    )
    attempts_max: int = option(
        whole_number(least=1, most=100),
        "Peers tried among the nearest holders, and again among all, before a request is answered 404 or its "
        "body is cut; a body that went on for a MiB starts counting anew.",
        default=8,
    )
    cooloff_s: float = option(
        seconds(most=600),
        "Seconds for which a peer that failed is the last resort and is not asked who has what; twice as "
        "long after each further failure in a row.",
        default=5.0,
    )
    cooloff_max_s: float = option(
        seconds(most=3600),
        "The longest of these; a peer that came back is noticed within it, or sooner by another's failure.",
        default=80.0,
    )
    floor_ratio: float = option(
        amount(most=1),
        "A peer slower than this share of what is usual in its tier is replaced, if another has the blob. "
        "A tenth: equally near peers of different size differ by less.",
        default=0.1,
    )
    floor_bytes_per_s: int = option(
        whole_number(most=1 << 30),
        "A peer slower than this is given up in any case, as if it were silent; the registry is faster.",
        default=65536,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """How bytes move, and how many at once."""

    mode: str = option(
        parse_transfer_mode,
        "relay: this agent passes a peer's bytes on, and goes on elsewhere when the peer fails; redirect: "
        "the client is sent to the peer (307); this agent moves no bytes, and can't help when that peer "
        "stalls.",
        default="relay",
    )
    zero_copy: bool = option(
        parse_flag,
        "Whether bytes go from socket to socket inside the kernel (splice); false copies them, for sandboxes "
        "without splice, at twice the processor time.",
        default=True,
    )
    stripe_buffer_bytes: int = option(
        whole_number(most=1 << 32),
        "Memory for bytes fetched ahead from further peers when one is slower than its reader, for all "
        "bodies together; four ranges. Below 16 MiB: never fetch from several.",
        default=32 << 20,
    )
    stripe_min_bytes: int = option(
        whole_number(least=1 << 20, most=1 << 40),
        "What must be left of a body for it to be worth fetching from several peers; eight ranges.",
        default=64 << 20,
    )
    uploads_max: int = option(
        whole_number(least=1, most=100_000),
        "Bodies sent to peers at once; beyond it they are told to go elsewhere. Some 64 streams share a "
        "10 Gbit/s link at 150 Mbit/s each.",
        default=64,
    )
    upload_bytes_max: int = option(
        whole_number(least=1, most=1 << 50),
        "Bytes of those bodies that are still to be sent; about seven seconds of a 10 Gbit/s link. One body "
        "is always let in.",
        default=8 << 30,
    )
    upload_bytes_per_s: int = option(
        limit(least=2 << 16, most=1 << 40),
        "Limit on what peers are sent, all together; 0: none. Only so many bodies are sent at once then that "
        "each gets twice pull.floor_bytes_per_s: the others would be given up for slowness.",
        default=0,
    )
    download_bytes_per_s: int = option(
        limit(least=2 << 16, most=1 << 40),
        "Limit on what is fetched from peers, all together; 0: none. Local content is never limited.",
        default=0,
    )
    commit_s: float = option(
        seconds(least=0.1, most=3600),
        "Seconds within which a blob that containerd was sent whole must be in its store; else its sources "
        "are suspect. containerd needs 0.1 s, and longer to sync a large file to a slow disk.",
        default=30.0,
    )
    suspect_s: float = option(
        seconds(most=86400),
        "Seconds for which a suspect source is not asked for that blob again; longer than a kubelet's "
        "longest back-off of 300 s.",
        default=600.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubSettings:
    """Reading this node's own content again, to find what the disk spoiled before a peer does."""

    bytes_per_s: int = option(
        whole_number(most=1 << 40),
        "How fast; 0: not at all. 8 MiB/s reads 100 GB in three and a half hours and takes 1 % of a core.",
        default=8 << 20,
    )
    round_s: float = option(
        seconds(least=1, most=365 * 86400),
        "Seconds from the beginning of a round through the store to that of the next.",
        default=86400.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Bounds on clients."""

    idle_s: float = option(
        seconds(least=1, most=3600),
        "Seconds for a request's head to arrive and for an idle connection to be kept; longer than the "
        "15 s for which peers keep theirs, so that the client closes first.",
        default=30.0,
    )
    send_stall_s: float = option(
        seconds(least=1, most=3600),
        "Seconds for which a client may take no byte of a body before it is cut; containerd pauses "
        "reading while it unpacks on a busy disk.",
        default=60.0,
    )
    head_max_bytes: int = option(
        whole_number(least=1024, most=1 << 20), "Longest request line and longest header field.", default=8190
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """eBPF: proving that the local leg is direct. Read by ``shorthaul probe`` and ``verify``, and by the
    agent, which needs to know where the probe is.
    """

    socket: Path = option(
        parse_file,
        "Unix socket by which the probe tells the agent its verdicts; in a volume that both containers have.",
        default=Path("/run/shorthaul/probe.sock"),
    )
    readers: tuple[int, ...] = option(
        parse_uids,
        "Numeric user ids that may read from it besides root and the probe's own: the agent's, if it is "
        "another.",
        default=(),
    )
    node_port: int = option(
        whole_number(least=1, most=65535),
        "The NodePort of the Service that leads to the agents.",
        default=30021,
    )
    services: tuple[Endpoint, ...] = option(
        parse_endpoints,
        "IP:PORT of Services that lead to agents (ClusterIPs), if a client may use them.",
        default=(),
    )
    endpoints: tuple[Endpoint, ...] = option(
        parse_endpoints,
        "IP:PORT that canaries are sent to. None: those of this node that hosts.toml files name, or else "
        "listen.local and the NodePort at node.address.",
        default=(),
    )
    hosts_dir: Path = option(
        parse_file,
        "containerd's directory of REGISTRY/hosts.toml files.",
        default=Path("/etc/containerd/certs.d"),
    )
    canary_interval_s: float = option(
        seconds(least=1, most=3600),
        "Seconds between two canaries to each endpoint; after 2.5 intervals without one nothing is proved.",
        default=30.0,
    )
    cgroup: Path | None = option(
        parse_path,
        "The cgroup (v2) whose sockets are watched, with all below it. None: the root, as mounted.",
        default=None,
    )
    containerd_cgroup: Path | None = option(
        parse_path,
        "containerd's own cgroup, where kernels before 6.15 see connect() first. None: it is looked for.",
        default=None,
    )
    ring_bytes: int = option(
        whole_number(least=65536, most=1 << 28),
        "Size of the ring buffer, rounded up to a power of two; 1 MiB holds 5,400 events, and is read 20 "
        "times a second. It counts twice in the probe's memory.",
        default=1 << 20,
    )
    metrics: Endpoint = option(
        parse_endpoint, "The probe's own metrics.", default=Endpoint(host="127.0.0.1", port=9091)
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSettings:
    """Stopping: unready, then no new connections, then draining, then gone."""

    unready_s: float = option(
        seconds(most=300),
        "Seconds between turning unready and closing the listeners; kube-proxy hears of it in 20 to 70 ms.",
        default=0.2,
    )
    drain_s: float = option(
        seconds(most=3600),
        "Seconds for running responses to end; within Kubernetes' 30 s of grace.",
        default=25.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything the agent can be told."""

    node: NodeSettings = required_group(NodeSettings)
    placement: PlacementSettings = group(PlacementSettings)
    listen: ListenSettings = required_group(ListenSettings)
    store: ContainerdStore | OciLayoutStore = option(
        parse_store,
        "Where this node's content is: containerd:// or oci-layout://.",
        default=OciLayoutStore(directory=Path("/var/lib/shorthaul")),
    )
    membership: MembershipSettings = group(MembershipSettings)
    topology: TopologySettings = group(TopologySettings)
    latency: LatencySettings = group(LatencySettings)
    costs: CostSettings = group(CostSettings)
    index: str = option(parse_index, "How holders are found; scatter asks the peers.", default="scatter")
    registries: RegistriesSettings = group(RegistriesSettings)
    resolve_tags: bool = option(
        parse_flag, "Whether tags are resolved at all; false sends every tag to the registry.", default=True
    )
    tag_max_age_s: float = option(
        seconds(most=10 * 365 * 86400),
        "Seconds since a peer last saw a tag from the registry for which its answer is taken; the "
        "longest that a moved tag can stay unseen by a node that never pulled it.",
        default=3600.0,
    )
    tag_exclude: tuple[str, ...] = option(
        parse_patterns,
        "Globs of tags that are never resolved here; latest is the one that everybody moves.",
        default=("*:latest",),
    )
    state_dir: Path | None = option(
        parse_path,
        "Directory in which the ages of mirrored tags outlive a restart; None keeps them in memory. "
        "Relative to the configuration file.",
        default=None,
    )
    lookup: LookupSettings = group(LookupSettings)
    pull: PullSettings = group(PullSettings)
    transfer: TransferSettings = group(TransferSettings)
    scrub: ScrubSettings = group(ScrubSettings)
    http: HttpSettings = group(HttpSettings)
    probe: ProbeSettings = group(ProbeSettings)
    stop: StopSettings = group(StopSettings)
