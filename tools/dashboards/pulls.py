"""Pulls and latency: how fast content comes, from where, and what goes wrong on the way."""

from tools.dashboards.grafana import NODES, Dashboard, Panel, Query, Row, now, quantile, rate

_FIRST = "shorthaul_first_byte_seconds"
_BUCKETS = rate(_FIRST + "_bucket", "path!=peer")
_BY_NODE = f"{_BUCKETS} * on (cluster, instance) group_left (node_name) {NODES}"

PULLS = Dashboard(
    name="pulls",
    title="Pulls and latency",
    about="How fast content comes, from where, and what goes wrong on the way.",
    rows=(
        Row(
            title="Requests",
            panels=(
                Panel(
                    title="Requests by listener",
                    unit="reqps",
                    asks="hostport: this node's containerd. nodeport: a containerd whose own agent did not "
                    "answer. peer: other agents.",
                    queries=(
                        Query(
                            expr=f"sum by (path) ({rate('shorthaul_requests_total', 'kind=~manifest|blob')})",
                            legend="{{path}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Requests by result",
                    unit="reqps",
                    asks="not_found is usual for what no node has. cut: a body ended early. client_gone: "
                    "the client left. docs/operations.md has the others.",
                    queries=(
                        Query(
                            expr=f"sum by (result) ({rate('shorthaul_requests_total', 'path!=peer')})",
                            legend="{{result}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulMirrorSuccessLow",
                ),
                Panel(
                    title="Refused",
                    unit="reqps",
                    asks="Requests that were refused before anything was done for them, by reason: no "
                    "proof, too many connections and so on.",
                    queries=(
                        Query(
                            expr=f"sum by (listener, reason) ({rate('shorthaul_refused_total')}) > 0"
                            f" or sum by (listener) ({rate('shorthaul_refused_total')})",
                            legend="{{listener}} {{reason}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="Latency",
            panels=(
                Panel(
                    title="First byte",
                    kind="heatmap",
                    unit="s",
                    width=12,
                    asks="Clients' requests by the seconds from their arrival to their first body byte. "
                    "An exemplar's request_id is found in /api/requests of its agent.",
                    queries=(Query(expr=f"sum by (le) ({_BUCKETS})", legend="{{le}}"),),
                    runbook="ShorthaulFirstByteSlow",
                ),
                Panel(
                    title="Slowest nodes",
                    unit="s",
                    width=12,
                    asks="The ten nodes whose clients get first bytes latest: 95 of 100 come earlier.",
                    queries=(
                        Query(
                            expr=f"topk(10, histogram_quantile(0.95, sum by (le, node_name) ({_BY_NODE})))",
                            legend="{{node_name}}",
                        ),
                    ),
                    runbook="ShorthaulFirstByteSlow",
                ),
                Panel(
                    title="Whole requests",
                    unit="s",
                    asks="Seconds from a request's arrival to its last byte: 95 of 100, by where the bytes "
                    "came from.",
                    queries=(
                        Query(
                            expr=quantile(
                                0.95,
                                "shorthaul_request_duration_seconds",
                                "result=ok",
                                "path!=peer",
                                by="tier",
                            ),
                            legend="p95 {{tier}}",
                        ),
                    ),
                ),
                Panel(
                    title="Speed of a body",
                    unit="Bps",
                    asks="Half of the bodies of a MiB or more are faster than this, by where they came from.",
                    queries=(
                        Query(
                            expr=quantile(
                                0.5, "shorthaul_body_speed_bytes_per_second", "path!=peer", by="tier"
                            ),
                            legend="p50 {{tier}}",
                        ),
                    ),
                ),
                Panel(
                    title="Look-ups",
                    unit="s",
                    asks="Seconds to find out who has a digest.",
                    queries=(
                        Query(expr=quantile(0.5, "shorthaul_lookup_seconds"), legend="p50"),
                        Query(expr=quantile(0.99, "shorthaul_lookup_seconds"), legend="p99"),
                    ),
                    runbook="ShorthaulIndexDegraded",
                ),
            ),
        ),
        Row(
            title="Peers",
            panels=(
                Panel(
                    title="Fetches from peers, by result",
                    unit="ops",
                    asks="ok: delivered to the end. abandoned: not needed any more. silent, slow, "
                    "unreachable: the peer stalls. missing: the index was out of date. busy, shared: "
                    "it sends others to others.",
                    queries=(
                        Query(
                            expr=f"sum by (result) ({rate('shorthaul_peer_attempts_total')})",
                            legend="{{result}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulStalledPeers",
                ),
                Panel(
                    title="Hedges, resumes, stripes",
                    unit="ops",
                    asks="hedges: a second peer was asked because the first was slow. resumes: another peer "
                    "went on with a body. stripes: bodies that came from several peers at once.",
                    queries=(
                        Query(expr=f"sum({rate('shorthaul_hedges_total')})", legend="hedges"),
                        Query(
                            expr=f"sum by (reason) ({rate('shorthaul_resumes_total')})",
                            legend="resumes {{reason}}",
                        ),
                        Query(expr=f"sum({rate('shorthaul_striped_bodies_total')})", legend="stripes"),
                    ),
                    runbook="ShorthaulStalledPeers",
                ),
                Panel(
                    title="Peers that are avoided",
                    asks="Over the chosen agents: peers that cool off because they failed, and peers that "
                    "are not reached. One node that is down is counted by each agent that spoke with "
                    "it.",
                    queries=(
                        Query(expr=f"sum({now('shorthaul_peers_cooling')})", legend="cooling"),
                        Query(
                            expr=f"sum({now('shorthaul_peers')}) - sum({now('shorthaul_peers_reachable')})",
                            legend="not reached",
                        ),
                    ),
                    runbook="ShorthaulPeersUnreachable",
                ),
                Panel(
                    title="Uploads",
                    asks="Bodies that are being sent to peers now, and requests that were refused or sent "
                    "on because of that, per second.",
                    queries=(
                        Query(expr=f"sum({now('shorthaul_uploads')})", legend="under way"),
                        Query(
                            expr=f"sum({rate('shorthaul_uploads_refused_total')})",
                            legend="refused per second",
                        ),
                        Query(
                            expr=f"sum({rate('shorthaul_uploads_shared_total')})", legend="sent on per second"
                        ),
                    ),
                ),
                Panel(
                    title="Connections",
                    asks="Open now, by listener.",
                    queries=(
                        Query(
                            expr=f"sum by (listener) ({now('shorthaul_connections')})", legend="{{listener}}"
                        ),
                    ),
                ),
                Panel(
                    title="Event loop",
                    unit="s",
                    asks="How late the agents' event loops are: 99 of 100 beats. Every request waits that "
                    "long.",
                    queries=(Query(expr=quantile(0.99, "shorthaul_event_loop_lag_seconds"), legend="p99"),),
                    runbook="ShorthaulAgentLate",
                ),
                Panel(
                    title="Content that was wrong",
                    asks="Blobs that did not match their digest, found here (read, scrub) or at a peer "
                    "(check), in the chosen time.",
                    queries=(
                        Query(
                            expr="sum by (found_by) (increase(shorthaul_corrupt_blobs_total{"
                            f'cluster=~"$cluster"}}[$__range]) and on (cluster, instance) {NODES})',
                            legend="{{found_by}}",
                            instant=True,
                        ),
                        Query(
                            expr='sum(increase(shorthaul_suspect_checks_total{cluster=~"$cluster",result="wrong"}'
                            f"[$__range]) and on (cluster, instance) {NODES})",
                            legend="check",
                            instant=True,
                        ),
                    ),
                    kind="stat",
                    bounds=(1, 2),
                    runbook="ShorthaulCorruptContent",
                ),
            ),
        ),
    ),
)
