"""Topology and cost: how far zones are apart, what goes between them, and what that costs and saves."""

from tools.dashboards.grafana import NODES, Dashboard, Panel, Query, Row, now, quantile, rate, selected

_FROM = f'label_replace({NODES}, "from", "$1", "node_zone", "(.*)")'
_RTT = f"{selected('shorthaul_zone_rtt_seconds')} * on (cluster, instance) group_left (from) {_FROM}"
_SAVED, _COST = rate("shorthaul_registry_saved_usd_total"), rate("shorthaul_zone_cost_usd_total")
_FROM_PEERS = rate("shorthaul_bytes_total", "path!=peer", "tier!~node|none")
_PER_HOUR = 3600

TOPOLOGY = Dashboard(
    name="topology",
    title="Topology and cost",
    about="How far zones are apart, what goes between them, and what that costs and saves.",
    rows=(
        Row(
            title="Zones",
            panels=(
                Panel(
                    title="Round trips between zones",
                    kind="table",
                    unit="s",
                    width=12,
                    asks="The median over the agents of a zone (row) of the round trip to a zone (column).",
                    queries=(
                        Query(expr=f"quantile by (from, zone) (0.5, {_RTT})", instant=True, table=True),
                    ),
                    matrix=("from", "zone"),
                    bounds=(0.002, 0.02),
                ),
                Panel(
                    title="Bytes between zones",
                    kind="table",
                    unit="bytes",
                    width=12,
                    asks="Body bytes in the chosen time, from a zone (row) to a zone (column).",
                    queries=(
                        Query(
                            expr="sum by (source_zone, destination_zone) ($__range_s * "
                            f"{rate('shorthaul_zone_bytes_total', window='$__range')})",
                            instant=True,
                            table=True,
                        ),
                    ),
                    matrix=("source_zone", "destination_zone"),
                ),
                Panel(
                    title="Agents by zone",
                    asks="Agents that Prometheus scrapes. An empty zone is not known.",
                    queries=(
                        Query(
                            expr=f"count by (node_region, node_zone) ({NODES})",
                            legend="{{node_region}} {{node_zone}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="How nodes' zones are known",
                    asks="As the agent that knows least sees it: labelled, inferred from latency, unknown. "
                    "suspect: its latency contradicts its labels.",
                    queries=(
                        Query(
                            expr=f"max by (placed) ({now('shorthaul_topology_nodes')})", legend="{{placed}}"
                        ),
                    ),
                ),
                Panel(
                    title="Contradictions",
                    asks="The most that one agent knows of: labels that are missing or contradict each "
                    "other, and problems of the list of peers and the filters. /api/topology lists "
                    "them.",
                    queries=(
                        Query(expr=f"max({now('shorthaul_label_problems')})", legend="labels"),
                        Query(expr=f"max({now('shorthaul_problems')})", legend="others"),
                    ),
                ),
            ),
        ),
        Row(
            title="Near or far",
            panels=(
                Panel(
                    title="Share of bytes from peers, by tier",
                    unit="percentunit",
                    width=12,
                    most=1,
                    asks="Of the bytes that came from other nodes. region: another zone. remote: another "
                    "region.",
                    queries=(
                        Query(
                            expr=f"sum by (tier) ({_FROM_PEERS}) / on () group_left () "
                            f"(sum({_FROM_PEERS}) > 0)",
                            legend="{{tier}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulCrossZoneShareHigh",
                ),
                Panel(
                    title="Round trips to peers",
                    unit="s",
                    width=12,
                    asks="As the kernels measured them: half of them, and 95 of 100, by tier.",
                    queries=(
                        Query(expr=quantile(0.5, "shorthaul_rtt_seconds", by="tier"), legend="p50 {{tier}}"),
                        Query(expr=quantile(0.95, "shorthaul_rtt_seconds", by="tier"), legend="p95 {{tier}}"),
                    ),
                ),
                Panel(
                    title="Measurements",
                    unit="ops",
                    asks="Attempts to measure the round trip to a peer, by result.",
                    queries=(
                        Query(
                            expr=f"sum by (result) ({rate('shorthaul_latency_measurements_total')})",
                            legend="{{result}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulPeersUnreachable",
                ),
                Panel(
                    title="Members, as agents see them",
                    asks="Peers in the lists of the chosen agents: the fewest and the most. They should be "
                    "equal.",
                    queries=(
                        Query(expr=f"min({now('shorthaul_peers')})", legend="fewest"),
                        Query(expr=f"max({now('shorthaul_peers')})", legend="most"),
                    ),
                    runbook="ShorthaulMembershipSilent",
                ),
                Panel(
                    title="Silence of the API server",
                    unit="s",
                    asks="Seconds since the agent that waits longest heard the Kubernetes API server. 0 "
                    "without one.",
                    queries=(
                        Query(expr=f"max({now('shorthaul_api_server_silent_seconds')})", legend="longest"),
                    ),
                    runbook="ShorthaulMembershipSilent",
                ),
            ),
        ),
        Row(
            title="Cost",
            panels=(
                Panel(
                    title="Saved and spent",
                    unit="currencyUSD",
                    width=12,
                    least=None,
                    asks="US dollars per hour: what clients' bytes would have cost from the registry, what "
                    "bytes between zones cost, and the difference.",
                    queries=(
                        Query(expr=f"{_PER_HOUR} * sum({_SAVED})", legend="saved at the registry"),
                        Query(expr=f"{_PER_HOUR} * sum({_COST})", legend="spent between zones"),
                        Query(
                            expr=f"{_PER_HOUR} * (sum({_SAVED}) - (sum({_COST}) or vector(0)))", legend="net"
                        ),
                    ),
                ),
                Panel(
                    title="Cost by pair of zones",
                    kind="table",
                    unit="currencyUSD",
                    width=12,
                    asks="US dollars in the chosen time, the dearest twenty pairs.",
                    queries=(
                        Query(
                            expr="topk(20, sum by (source_zone, destination_zone) ($__range_s * "
                            f"{rate('shorthaul_zone_cost_usd_total', window='$__range')}))",
                            instant=True,
                            table=True,
                        ),
                    ),
                ),
            ),
        ),
    ),
)
