"""Every setting, in frozen groups: its meaning, its unit, its default and the reason for the default.

A test checks that ``docs/configuration.md`` lists every setting of this module.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from agent.config.indexurl import (
    SCATTER,
    IndexUrl,
    parse_cluster_name,
    parse_index,
    parse_key_prefix,
    parse_login_name,
    parse_tls_name,
)
from agent.config.values import (
    Authorization,
    ContainerdStore,
    Endpoint,
    Labels,
    OciLayoutStore,
    ZonePrice,
    amount,
    limit,
    parse_address,
    parse_authorizations,
    parse_certificate_name,
    parse_cold_start_mode,
    parse_cold_start_scope,
    parse_dns_label,
    parse_endpoint,
    parse_endpoints,
    parse_file,
    parse_flag,
    parse_host_names,
    parse_labels,
    parse_levels,
    parse_local_callers,
    parse_log_level,
    parse_name,
    parse_optional_label,
    parse_path,
    parse_patterns,
    parse_prices,
    parse_store,
    parse_tag_patterns,
    parse_transfer_mode,
    parse_uids,
    parse_url,
    seconds,
    whole_number,
)
from topology.labels import FINER_LEVELS

_T = TypeVar("_T")
_REQUIRED: Any = object()


def option(parse: Callable[[object], object], doc: str, *, default: object = _REQUIRED) -> Any:
    """A field of a settings group: how to parse it, what it means, and its default (none: required)."""
    metadata = {"parse": parse, "doc": doc}
    return field(metadata=metadata) if default is _REQUIRED else field(metadata=metadata, default=default)


def group(cls: type[_T]) -> Any:
    """A nested group whose own fields all have defaults."""
    return field(metadata={"group": cls}, default_factory=cls)


def optional_group(cls: type[_T]) -> Any:
    """A nested group that may be absent: None then, which is not the same as a group of defaults."""
    return field(metadata={"group": cls, "optional": True}, default=None)


def required_group(cls: type[_T]) -> Any:
    """A nested group with required fields."""
    return field(metadata={"group": cls})


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSettings:
    """Who this node is."""

    name: str = option(parse_name, "The node's name, unique in the cluster; in Kubernetes the Node's name.")
    address: str = option(parse_address, "The IP address at which peers reach this node.")
    pod_network: bool = option(
        parse_flag,
        "Whether this agent is in a pod that is not on the host's network. Then a hostPort of the pod leads "
        "to listen.hostport, which is an address of the pod, and any pod that reaches it may read images: "
        "close it with a NetworkPolicy.",
        default=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementSettings:
    """Where this node sits. A level that is left out comes from the labels, or is unknown."""

    region: str | None = option(parse_optional_label, "Region (topology.kubernetes.io/region).", default=None)
    zone: str | None = option(parse_optional_label, "Zone (topology.kubernetes.io/zone).", default=None)
    rack: str | None = option(parse_optional_label, "Rack, or any level finer than the zone.", default=None)
    labels: Labels = option(
        parse_labels,
        "This node's labels, as in Kubernetes. Only those that say where the node is are used.",
        default=Labels(),
    )
    labels_file: Path | None = option(
        parse_path,
        'A file of the downward API with the pod\'s labels (KEY="VALUE" lines). Kubernetes 1.35 copies the '
        "node's labels there. Followed while the agent runs. Relative to the configuration file.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenSettings:
    """The four listening sockets. The socket tells by which path a request came."""

    hostport: Endpoint = option(
        parse_endpoint,
        "HostPort, for containerd on this node. Loopback only, because the kernel says whose a client's "
        "socket is if the client is on this node.",
        default=Endpoint(host="127.0.0.1", port=30020),
    )
    peer: Endpoint = option(
        parse_endpoint, "For other agents: the node's address, and port 30020 by convention."
    )
    nodeport: Endpoint = option(
        parse_endpoint,
        "The target of the NodePort Service (30021), which is the fallback of other nodes' containerds.",
    )
    admin: Endpoint = option(
        parse_endpoint,
        "Metrics, health and API. Loopback, so that publishing them is a decision. Who comes from elsewhere "
        "needs the cluster's admin token for all but /livez, /readyz and /metrics.",
        default=Endpoint(host="127.0.0.1", port=9090),
    )
    local_callers: str = option(
        parse_local_callers,
        "Which processes of this node the HostPort answers, by the maker of the socket. root: those of root "
        "and of the agent's own user, so that a pod on the host's network that runs as an ordinary user gets "
        "nothing. containerd: of these only those in containerd's cgroup (see probe.containerd_cgroup). any: "
        "all, so every process of this node may read every image that the mirror answers for. Who sends the "
        "cluster's service token is always answered.",
        default="root",
    )

    @property
    def endpoints(self) -> dict[str, Endpoint]:
        """The four addresses, by their names in the settings."""
        found = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        return {name: value for name, value in found.items() if isinstance(value, Endpoint)}


@dataclass(frozen=True, slots=True, kw_only=True)
class KubernetesSettings:
    """The agents of a Kubernetes cluster. If this group is there, even empty (``{}``), they are the peers."""

    service: str = option(
        parse_dns_label,
        "The Service whose EndpointSlices list the agents (label kubernetes.io/service-name).",
        default="shorthaul-peers",
    )
    namespace: str = option(parse_dns_label, "The namespace of that Service.", default="shorthaul")
    port_name: str = option(
        parse_dns_label, "The name of the Service's port that leads to listen.peer.", default="peer"
    )
    node_labels: bool = option(
        parse_flag,
        "Whether to read and watch this node's own Node for its labels, which takes a permission. false: "
        "placement.labels_file, and the zone in the EndpointSlice, say where this node is.",
        default=True,
    )
    api: str | None = option(
        parse_url,
        "URL of the API server, for an agent outside of a pod. None: that of the pod's cluster.",
        default=None,
    )
    ca_file: Path | None = option(
        parse_path,
        "File with the certificate of the API server's issuer. It is read again when it changes. Relative to "
        "the configuration file. None: that of the pod's service account; with membership.kubernetes.api, "
        "those of the system.",
        default=None,
    )
    token_file: Path | None = option(
        parse_path,
        "File with the token for the API server. It is read at each request. Relative to the configuration "
        "file. None: that of the pod's service account; with membership.kubernetes.api, no token.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class MembershipSettings:
    """Where the list of peers comes from."""

    static: Path | None = option(
        parse_path,
        "YAML file with a list of {name, address, port, region, zone, rack, labels}. It is read again when "
        "it changes. Relative to the configuration file. None: this node has no peers, unless "
        "membership.kubernetes is there.",
        default=None,
    )
    kubernetes: KubernetesSettings | None = optional_group(KubernetesSettings)

    @property
    def name(self) -> str:
        """What is used, in a word or two."""
        if self.kubernetes is not None:
            return f"kubernetes ({self.kubernetes.namespace}/{self.kubernetes.service})"
        return str(self.static or "none")


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsSettings:
    """TLS between agents: this node's certificate, and who may sign those of the others."""

    certificate: Path = option(
        parse_file,
        "This node's certificate in PEM, with its chain: cert-manager's tls.crt. Relative to the "
        "configuration file, as the other two are. All three are read again when they change.",
    )
    key: Path = option(parse_file, "The key of the certificate in PEM, without a password: tls.key.")
    ca: Path = option(
        parse_file,
        "The CAs that sign agents' certificates, in PEM: ca.crt. Whoever gets a certificate from one of them "
        "with a name that is asked for here is an agent, so let it be a CA of the agents alone.",
    )
    name: str | None = option(
        parse_certificate_name,
        "The DNS name or URI that the certificates of all agents have. A Secret of cert-manager is one "
        "certificate for all pods of a DaemonSet, so it can have no node's name. By default each certificate "
        "has to have its node's name (as a DNS name, or as a URI that ends in /node/NAME) or its address.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PeeringSettings:
    """How agents prove to each other that they belong to one cluster."""

    key: Path | None = option(
        parse_path,
        "File with the cluster's key, the same on all nodes: `shorthaul key new FILE` makes one. It has a "
        "key a line; the first signs, all are accepted (at most 4), so that a new one comes before the old "
        "one goes. It is read again when it changes. Relative to the configuration file. None: this agent "
        "can't have peers, unless peering.open is true.",
        default=None,
    )
    open: bool = option(
        parse_flag,
        "Whether everybody who reaches listen.peer may read this node's images. Only for labs, and while a "
        "cluster is being closed: with a key, this agent signs in any case.",
        default=False,
    )
    tls: TlsSettings | None = optional_group(TlsSettings)


@dataclass(frozen=True, slots=True, kw_only=True)
class TopologySettings:
    """How labels nest."""

    finer_levels: tuple[str, ...] = option(
        parse_levels,
        "Keys of the labels below the zone, widest level first. The default has those of AWS, GKE, NVIDIA "
        "topograph, OCI, Azure's fault domain, Rook and racks. A key that no node has has no effect.",
        default=FINER_LEVELS,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencySettings:
    """Measuring round trips to peers."""

    measure: bool = option(
        parse_flag,
        "Whether to keep measuring connections to peers. Without them, only pulls and questions measure.",
        default=True,
    )
    own_zone: int = option(
        whole_number(most=1000),
        "Measuring connections to peers of this zone, rotating. Most bytes come from there.",
        default=32,
    )
    other_zones: int = option(
        whole_number(most=1000),
        "Measuring connections to peers of each other zone, rotating. A median needs three.",
        default=3,
    )
    connections_max: int = option(
        whole_number(most=5000),
        "Measuring connections in total. If the zones do not fit, they take turns.",
        default=192,
    )
    interval_s: float = option(
        seconds(least=0.25, most=3600),
        "Seconds between two measurements on a connection. It must be more than 0.2 s plus the round trip. "
        "Otherwise the peer's kernel delays its acknowledgement.",
        default=2.0,
    )
    window_s: float = option(
        seconds(least=0.1, most=36000),
        "Seconds for which a sample counts. If a peer becomes slower, the estimate needs up to this long to "
        "follow. The default is ten intervals: among so many samples some are free of jitter.",
        default=20.0,
    )
    half_life_s: float = option(
        seconds(least=0.1, most=36000),
        "Seconds after which an estimate without new samples has half of its weight.",
        default=120.0,
    )
    rotate_s: float = option(
        seconds(least=0.1, most=36000),
        "Seconds after which a quarter of the measured peers is replaced by others.",
        default=30.0,
    )
    report_s: float = option(
        seconds(least=0.1, most=3600),
        "Seconds between two reports of this node's measurements to each measured peer.",
        default=15.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CostSettings:
    """What bytes between nodes cost, in US dollars per GB (10^9 bytes)."""

    same_zone: float = option(amount(most=1000), "Within a zone. Free on the large clouds.", default=0.0)
    cross_zone: float = option(
        amount(most=1000),
        "Between zones of a region. AWS bills 0.01 on each side (EC2 On-Demand Pricing, Data Transfer). "
        "Google bills 0.01 once (VPC pricing, VM-to-VM): set 0.01. Azure has billed nothing since 2024: "
        "set 0.",
        default=0.02,
    )
    cross_region: float = option(
        amount(most=1000),
        "Between regions. AWS has 0.02 for near regions and up to 0.09 for far ones.",
        default=0.02,
    )
    registry: float = option(
        amount(most=1000),
        "From the registry to a node: what the mirror saves. The default is what a NAT gateway costs for "
        "a GB that passes it: 0.045 on AWS in the US (Amazon VPC Pricing; 0.059 in Singapore, for example) "
        "and on Azure (Virtual Network pricing), and 0.045 for a GiB on Google (Cloud NAT pricing). Set 0 if "
        "your nodes reach the registry without one.",
        default=0.045,
    )
    pairs: tuple[ZonePrice, ...] = option(
        parse_prices,
        "Exceptions: a list of {from, to, usd_per_gb}. A zone is given by its name or as REGION/ZONE.",
        default=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistriesSettings:
    """Which images the mirror answers for."""

    include: tuple[str, ...] = option(
        parse_patterns,
        "Globs on REGISTRY/REPOSITORY:TAG of the images to mirror. The default is all images.",
        default=("*",),
    )
    exclude: tuple[str, ...] = option(
        parse_patterns,
        "Globs of images not to mirror, even if they are included. containerd goes to the registry for them.",
        default=(),
    )
    authorize: tuple[Authorization, ...] = option(
        parse_authorizations,
        "A list of {match: PATTERN, by: registry or mirror}: who decides which pod may have an image. The "
        "first pattern that matches counts. registry: containerd asks the registry with the pod's own "
        "credentials, and then takes the bytes from peers. mirror, also for what no pattern matches: any pod "
        "gets it without credentials, so that pods start while the registry is down.",
        default=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ValkeySettings:
    """How the server that ``index`` names is used."""

    username: str | None = option(
        parse_login_name, "The ACL user to log in as. None: the one in the URL, or default.", default=None
    )
    password_file: Path | None = option(
        parse_path,
        "File with the password, in its first line. It is read again when the server refuses it, so that it "
        "can be replaced. Relative to the configuration file, as the other files are. None: the password in "
        "the URL, or none.",
        default=None,
    )
    ca_file: Path | None = option(
        parse_path,
        "The CAs that sign the server's certificate, in PEM. It is read at each connection. None: those of "
        "the system, or the public ones where it has none (in a pod).",
        default=None,
    )
    certificate_file: Path | None = option(
        parse_path,
        "This node's certificate for the server in PEM, with its chain. None: the server asks for none.",
        default=None,
    )
    key_file: Path | None = option(
        parse_path, "The key of valkey.certificate_file in PEM, without a password.", default=None
    )
    server_name: str | None = option(
        parse_tls_name,
        "The name that the server's certificate has. None: the host that is connected to, which with "
        "Sentinel and Cluster is often an address.",
        default=None,
    )
    prefix: str = option(
        parse_key_prefix,
        "What the names of all keys begin with. Clusters that share a server need different ones.",
        default="shorthaul",
    )
    cluster: str = option(
        parse_cluster_name,
        "The name of this cluster on the server, by which a second cluster with the same prefix is noticed "
        "and refused. Empty: an id made of the cluster's key (peering.key). Needed without such a key.",
        default="",
    )
    timeout_s: float = option(
        seconds(least=0.01, most=10),
        "Seconds for each question to the server. The first answer that is late has all pulls ask the peers "
        "instead, until the server answers in time again. The default is a hundred times what a server in "
        "the region takes.",
        default=0.15,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class TagSettings:
    """Which digest a tag has, and how long that is believed."""

    resolve: bool = option(
        parse_flag, "Whether tags are resolved here. false leaves every tag to the registry.", default=True
    )
    max_age_s: float = option(
        seconds(most=10 * 365 * 86400),
        "A tag is answered only if the registry was known to have it at most so many seconds ago, by this "
        "node's own store or by a peer. After that, containerd is sent to the registry with one HEAD, and "
        "the bytes still come from here or from peers. So a tag that moves is seen within this time. The "
        "default makes the HEADs of a node that starts pods all day rare.",
        default=3600.0,
    )
    exclude: tuple[str, ...] = option(
        parse_tag_patterns,
        "Globs of tags that are never resolved here, for example rc-*, *:stable or ghcr.io/acme/*. latest is "
        "never resolved anyway.",
        default=(),
    )
    resolve_latest: bool = option(
        parse_flag,
        "Whether the tag latest is resolved here, as far as tags.exclude allows it. The default is false, "
        "because it is the tag that everybody moves.",
        default=False,
    )
    share_imported: bool = option(
        parse_flag,
        "Whether tags are also answered that no registry is known to have had: those of images that were "
        "imported or built on a node, and those of an OCI layout that does not say where its content is "
        "from. They have no age. For clusters without a registry; set it on every node. By default a name "
        "that somebody gave to content on one node stays on that node. Digests do not depend on it.",
        default=False,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LookupSettings:
    """Asking peers which of them have a blob."""

    at_once: int = option(
        whole_number(least=1, most=1024),
        "How many peers are asked together, the nearest. Farther ones are asked tier by tier if none of "
        "these has the blob. The default asks every peer of most clusters in one round trip, and costs a "
        "node a few milliseconds of CPU time for a blob that nobody has.",
        default=64,
    )
    patience_s: float = option(
        seconds(least=0.001, most=10),
        "Seconds to wait for the answers of the peers that were asked before farther ones are asked too, and "
        "for a near peer while a farther one has answered, if it is not known how long the near one usually "
        "takes. The default is 30 times a slow cross-zone round trip, so that only a sick peer takes longer.",
        default=0.05,
    )
    timeout_s: float = option(
        seconds(least=0.01, most=60),
        "Seconds after which a peer that has not answered counts as failed. Longer than the longest round "
        "trips between continents.",
        default=0.5,
    )
    positive_ttl_s: float = option(
        seconds(most=600),
        "Seconds for which the answer 'this peer has it' is kept. Long enough for the blob requests that "
        "follow a manifest. A wrong answer costs one 404 from the peer.",
        default=10.0,
    )
    negative_ttl_s: float = option(
        seconds(most=60),
        "Seconds for which the answer 'nobody has it' is kept. Short, because it is wrong as soon as one "
        "node has pulled the blob.",
        default=1.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class PullSettings:
    """Fetching from peers."""

    connect_s: float = option(
        seconds(least=0.01, most=60),
        "Seconds for opening a TCP connection to a peer. There is time for one SYN retransmission.",
        default=1.5,
    )
    patience_s: float = option(
        seconds(least=0.01, most=60),
        "Seconds to wait for a first byte before the next peer is asked too (the slow one may still win). If "
        "95 % of the tier's first bytes come sooner, the wait is that much shorter. The default is far above "
        "a healthy peer's time.",
        default=0.5,
    )
    deadline_s: float = option(
        seconds(least=0.1, most=300),
        "Seconds after which a pull without a first byte gets a 404, so that containerd goes to its next "
        "host. containerd itself would wait for minutes.",
        default=10.0,
    )
    stall_s: float = option(
        seconds(least=0.1, most=300),
        "Seconds without a byte after which a peer is given up, and the next peer continues the body. The "
        "default is ten times the longest pause of a healthy peer, with retransmissions.",
        default=3.0,
    )
    attempts_max: int = option(
        whole_number(least=1, most=100),
        "How many peers are tried among the nearest holders, and then again among all, before a request gets "
        "a 404 or its body is cut. The count restarts after each MiB of a body.",
        default=8,
    )
    cooloff_s: float = option(
        seconds(most=600),
        "Seconds for which a peer that failed is the last resort, and is not asked which blobs it has. The "
        "time doubles with each further failure in a row.",
        default=5.0,
    )
    cooloff_max_s: float = option(
        seconds(most=3600),
        "The longest such time in seconds. A peer that works again is used again after at most this time, or "
        "earlier if other peers fail.",
        default=80.0,
    )
    floor_ratio: float = option(
        amount(most=1),
        "A peer is replaced if it is slower than this fraction of the usual speed in its tier, and another "
        "peer has the blob. The default is a tenth, because equally near peers of different size differ by "
        "less.",
        default=0.1,
    )
    floor_bytes_per_s: int = option(
        whole_number(most=1 << 30),
        "A peer that is slower than this many bytes per second is always given up, as if it were silent. The "
        "registry is faster.",
        default=65536,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ColdStartSettings:
    """What happens when many nodes pull at once what no node has."""

    mode: str = option(
        parse_cold_start_mode,
        "claims: one node fetches it from the registry, and the others take it from that node while it "
        "arrives. off: every node that finds no complete copy goes to the registry. Set it on all nodes: a "
        "node without it neither waits nor shares what is still arriving.",
        default="claims",
    )
    scope: str = option(
        parse_cold_start_scope,
        "zone: the registry is asked once per zone, and nothing that is still arriving crosses zones. "
        "cluster: it is asked once, and one node of each further zone fetches from another zone. zone is the "
        "default, because most registries are as near as the next zone and have the wider link.",
        default="zone",
    )
    claim_wait_s: float = option(
        seconds(least=0.1, most=300),
        "Seconds for which a request waits at most until the node that fetches from the registry has its "
        "first bytes; three times as long while that node's containerd is busy with other layers of the "
        "image, of which it fetches three at a time. Then it gets a 404, as without claims. The default has "
        "time for a slow registry's first answer, and for three nodes that fail to start.",
        default=20.0,
    )
    claim_start_s: float = option(
        seconds(least=0.1, most=300),
        "Seconds for which the node that is to fetch may make no progress. Then the next one does. A "
        "registry with its tokens and redirects takes one or two to send a first byte. Less than "
        "cold_start.claim_wait_s.",
        default=5.0,
    )
    followers_max: int = option(
        whole_number(least=1, most=100),
        "To how many nodes at once a node passes on what is still arriving. Each of them passes it on in "
        "turn, so with the default of 2 a zone of 60 nodes is 5 steps deep. These nodes share its link: "
        "where nodes' links are narrower than what the registry gives, a zone is half as fast with 4. With "
        "1 it is a chain, which is as deep as the zone has nodes.",
        default=2,
    )

    @property
    def claims(self) -> bool:
        """Whether claims are made, and content is shared while it arrives."""
        return self.mode == "claims"


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """How bytes are moved, and the limits on them."""

    mode: str = option(
        parse_transfer_mode,
        "relay: this agent passes a peer's bytes on, and continues with another peer if that one fails. "
        "redirect: the client is redirected to the peer (307). Then this agent moves no bytes, and can't "
        "help if that peer stalls.",
        default="relay",
    )
    zero_copy: bool = option(
        parse_flag,
        "Whether bytes go from socket to socket inside the kernel (splice). false copies them, which takes "
        "twice the processor time, for sandboxes without splice.",
        default=True,
    )
    stripe_buffer_bytes: int = option(
        whole_number(most=1 << 32),
        "Memory for bytes that are fetched ahead from further peers if one peer is slower than the client, "
        "for all bodies together. The default holds four ranges. Below 16 MiB, a body never comes from "
        "several peers.",
        default=32 << 20,
    )
    stripe_min_bytes: int = option(
        whole_number(least=1 << 20, most=1 << 40),
        "A body is fetched from several peers only if at least so many bytes of it are left. The default is "
        "eight ranges.",
        default=64 << 20,
    )
    uploads_max: int = option(
        whole_number(least=1, most=100_000),
        "How many bodies are sent to peers at the same time. Further requests are refused, so that the peer "
        "goes elsewhere. 64 streams share a 10 Gbit/s link at 150 Mbit/s each.",
        default=64,
    )
    upload_bytes_max: int = option(
        whole_number(least=1, most=1 << 50),
        "How many bytes of these bodies may be left to send, in total. The default is about seven seconds of "
        "a 10 Gbit/s link. One body is always accepted.",
        default=8 << 30,
    )
    upload_bytes_per_s: int = option(
        limit(least=2 << 16, most=1 << 40),
        "Limit in bytes per second on what is sent to all peers together. 0: no limit. With a limit, fewer "
        "bodies are sent at the same time, so that each gets at least twice pull.floor_bytes_per_s and no "
        "peer gives this node up for slowness.",
        default=0,
    )
    download_bytes_per_s: int = option(
        limit(least=2 << 16, most=1 << 40),
        "Limit in bytes per second on what is fetched from all peers together. 0: no limit. Local content is "
        "never limited.",
        default=0,
    )
    commit_s: float = option(
        seconds(least=0.1, most=3600),
        "Seconds within which a blob that containerd received whole must appear in its store. Otherwise the "
        "peers that it came from are suspect: asked last, and checked. containerd needs 0.1 s, and more to "
        "sync a large file to a slow disk.",
        default=30.0,
    )
    suspect_s: float = option(
        seconds(most=86400),
        "Seconds for which a peer is asked last for a blob that it is suspected of, or not at all if a check "
        "found its bytes wrong. Longer than a kubelet's longest back-off of 300 s.",
        default=600.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ScrubSettings:
    """Reading this node's own content again, to find corrupt blobs before a peer gets them."""

    bytes_per_s: int = option(
        whole_number(most=1 << 40),
        "Bytes read per second. 0: never read. 8 MiB/s reads 100 GB in three and a half hours and takes 1 % "
        "of a core.",
        default=8 << 20,
    )
    round_s: float = option(
        seconds(least=1, most=365 * 86400),
        "Seconds from the start of one round through the store to the start of the next.",
        default=86400.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorSettings:
    """Having `shorthaul doctor` look at this node now and then, for metrics and alarms."""

    interval_s: float = option(
        seconds(most=86400),
        "Seconds from one look to the next, each with another tenth more or less. 0: never. A look takes "
        "half a second of processor time and 50 MB for a second, at the lowest priority: every quarter of an "
        "hour is a two-thousandth of a core.",
        default=900.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpSettings:
    """Bounds on clients."""

    idle_s: float = option(
        seconds(least=1, most=3600),
        "Seconds for a request's head to arrive, and for which an idle connection is kept. Longer than the "
        "15 s for which peers keep their idle connections, so that the client closes first.",
        default=30.0,
    )
    send_stall_s: float = option(
        seconds(least=1, most=3600),
        "Seconds for which a client may read no byte of a body before the connection is cut. containerd "
        "stops reading while it unpacks on a busy disk.",
        default=60.0,
    )
    head_max_bytes: int = option(
        whole_number(least=1024, most=1 << 20),
        "Longest request line, and longest header field, in bytes.",
        default=8190,
    )
    connections_max: int = option(
        whole_number(least=16, most=1 << 20),
        "Most connections of a listener of the pull API, and never more than a quarter of the files that the "
        "agent may open (an eighth for the NodePort). A node of a cluster of 200 has up to 600 at its peer "
        "listener.",
        default=2048,
    )
    host_names: tuple[str, ...] = option(
        parse_host_names,
        "Further names under which clients address this agent, on any listener. localhost, IP addresses and "
        "node.name always work. Any other name is refused, because a web page could make its own name lead "
        "here.",
        default=(),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeSettings:
    """eBPF: proving that connections from containerd to the agent are direct. ``shorthaul probe`` and
    ``verify`` read these settings, and so does the agent, which needs to find the probe.
    """

    socket: Path = option(
        parse_file,
        "Unix socket over which the probe sends its verdicts to the agent. In a pod, both containers need a "
        "volume with it.",
        default=Path("/run/shorthaul/probe.sock"),
    )
    readers: tuple[int, ...] = option(
        parse_uids,
        "Numeric user ids that may read from this socket, and that are believed when they say which sockets "
        "are the agent's, besides root and the probe's own user. Add the agent's user id if it is a "
        "different one: without it no connection is DIRECT.",
        default=(),
    )
    node_port: int = option(
        whole_number(least=1, most=65535),
        "The NodePort of the Service that leads to the agents.",
        default=30021,
    )
    services: tuple[Endpoint, ...] = option(
        parse_endpoints,
        "IP:PORT of Services that lead to agents (ClusterIPs), if clients use them.",
        default=(),
    )
    endpoints: tuple[Endpoint, ...] = option(
        parse_endpoints,
        "IP:PORT to which canaries are sent. None: this node's endpoints in the hosts.toml files, or "
        "listen.hostport and the NodePort at node.address if there are none.",
        default=(),
    )
    hosts_dir: Path = option(
        parse_file,
        "containerd's directory of REGISTRY/hosts.toml files. `verify` proves nothing if none of them names "
        "this node's agent, unless probe.endpoints says what containerd uses.",
        default=Path("/etc/containerd/certs.d"),
    )
    canary_interval_s: float = option(
        seconds(least=1, most=3600),
        "Seconds between two canaries to each endpoint. After 2.5 intervals without a canary, nothing is "
        "proved.",
        default=30.0,
    )
    cgroup: Path | None = option(
        parse_path,
        "The cgroup (v2) whose sockets are watched, with all cgroups below it. None: the mounted root.",
        default=None,
    )
    containerd_cgroup: Path | None = option(
        parse_path,
        "containerd's own cgroup, which tells its connections from others': only they and canaries count for "
        "the proof. Before Linux 6.15, connect() is read there first. None: search for it, and take all if "
        "the node has several containerds.",
        default=None,
    )
    ring_bytes: int = option(
        whole_number(least=65536, most=1 << 28),
        "Size of the ring buffer, rounded up to a power of two. 1 MiB holds 5,200 events, and the probe "
        "reads it 20 times a second. It counts twice in the probe's memory.",
        default=1 << 20,
    )
    metrics: Endpoint = option(
        parse_endpoint,
        "Where the probe serves its own metrics.",
        default=Endpoint(host="127.0.0.1", port=9091),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged."""

    level: str = option(
        parse_log_level,
        "The least level that is logged: debug, info, warning or error. --log-level wins over it.",
        default="info",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthSettings:
    """Asking this very agent how it is."""

    socket: Path | None = option(
        parse_path,
        "Unix socket on which this agent answers what listen.admin answers, and the only place where it "
        "takes orders (`shorthaul scrub start`): root and the agent's user can open it. During an upgrade "
        "another agent may have that port; `shorthaul ready` asks here. In a pod: in a volume of its own. "
        "None: no such socket, because two agents with one path would take it from each other.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverSettings:
    """Upgrading without a gap: a newer agent of this node takes over the older one's listening sockets."""

    socket: Path | None = option(
        parse_path,
        "Unix socket at which the running agent gives its listening sockets to a newer one of the same node, "
        "which then serves in its place. In pods: in a directory of the node, the same for the old and the "
        "new pod. None: an agent whose ports another agent has does not start.",
        default=None,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StopSettings:
    """Stopping: the agent turns unready, accepts no more connections, drains, and ends."""

    unready_s: float = option(
        seconds(most=300),
        "Seconds between turning unready and closing listen.peer and listen.nodeport. The HostPort answers "
        "503 from the first moment to the last, because containerd then goes to its next host. kube-proxy "
        "follows within 20 to 70 ms. Neither applies if a newer agent has taken over.",
        default=0.2,
    )
    drain_s: float = option(
        seconds(most=3600),
        "Seconds for running responses to end. Less than the 30 s that Kubernetes allows.",
        default=25.0,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings."""

    node: NodeSettings = required_group(NodeSettings)
    placement: PlacementSettings = group(PlacementSettings)
    listen: ListenSettings = required_group(ListenSettings)
    store: ContainerdStore | OciLayoutStore = option(
        parse_store,
        "Where this node's content is: containerd:// or oci-layout://.",
        default=OciLayoutStore(directory=Path("/var/lib/shorthaul")),
    )
    membership: MembershipSettings = group(MembershipSettings)
    peering: PeeringSettings = group(PeeringSettings)
    topology: TopologySettings = group(TopologySettings)
    latency: LatencySettings = group(LatencySettings)
    costs: CostSettings = group(CostSettings)
    index: str | IndexUrl = option(
        parse_index,
        "How holders are found. scatter asks the peers, which is enough for up to 200 nodes. For more, the "
        "URL of a Valkey (or Redis) server, the same on all nodes: "
        "valkey://[USER:PASSWORD@]HOST[:6379][/DATABASE], "
        "or valkeys:// with TLS; valkey+sentinel://HOST[:26379],HOST/NAME[/DATABASE]; "
        "valkey+cluster://HOST,HOST. redis:// and rediss:// work, too. A password is better in "
        "valkey.password_file.",
        default=SCATTER,
    )
    valkey: ValkeySettings = group(ValkeySettings)
    registries: RegistriesSettings = group(RegistriesSettings)
    tags: TagSettings = group(TagSettings)
    state_dir: Path | None = option(
        parse_path,
        "Directory in which the ages of mirrored tags are kept across a restart. None: only in memory. "
        "Relative to the configuration file.",
        default=None,
    )
    lookup: LookupSettings = group(LookupSettings)
    pull: PullSettings = group(PullSettings)
    cold_start: ColdStartSettings = group(ColdStartSettings)
    transfer: TransferSettings = group(TransferSettings)
    scrub: ScrubSettings = group(ScrubSettings)
    doctor: DoctorSettings = group(DoctorSettings)
    http: HttpSettings = group(HttpSettings)
    probe: ProbeSettings = group(ProbeSettings)
    log: LogSettings = group(LogSettings)
    health: HealthSettings = group(HealthSettings)
    handover: HandoverSettings = group(HandoverSettings)
    stop: StopSettings = group(StopSettings)
