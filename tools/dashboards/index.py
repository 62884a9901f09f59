"""The index and claims: who knows which node has what, and who fetches from the registry what nobody has."""

from tools.dashboards.grafana import Dashboard, Panel, Query, Row, now, quantile, rate

INDEX = Dashboard(
    name="index",
    title="Index and claims",
    about="Who knows which node has what, and who fetches from the registry what nobody has.",
    rows=(
        Row(
            title="The index's server (without one, agents ask each other, and this row is empty)",
            panels=(
                Panel(
                    title="Agents that use it",
                    kind="stat",
                    width=4,
                    unit="percentunit",
                    most=1,
                    asks="The others ask near peers in its place: pulls work, and cross zones more often.",
                    queries=(Query(expr=f"avg({now('shorthaul_index_up')})"),),
                    bounds=(1, 0.9),
                    falling=True,
                    runbook="ShorthaulIndexDegraded",
                ),
                Panel(
                    title="Look-ups, by who answered",
                    unit="ops",
                    width=10,
                    asks="cache: this agent, from a moment ago. server: the index. fallback: near peers, "
                    "because the server could not be asked or may not know everything yet.",
                    queries=(
                        Query(
                            expr=f"sum by (source, result) ({rate('shorthaul_index_lookups_total')})",
                            legend="{{source}} {{result}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulIndexDegraded",
                ),
                Panel(
                    title="How long the server takes",
                    unit="s",
                    width=10,
                    asks="Seconds for the digests of one look-up, the way there and back included.",
                    queries=(
                        Query(expr=quantile(0.5, "shorthaul_index_lookup_seconds"), legend="p50"),
                        Query(expr=quantile(0.99, "shorthaul_index_lookup_seconds"), legend="p99"),
                    ),
                ),
                Panel(
                    title="Errors",
                    unit="ops",
                    asks="Calls that failed, by kind. docs/large-clusters.md has what to do about each.",
                    queries=(
                        Query(
                            expr=f"sum by (kind) ({rate('shorthaul_index_errors_total')})", legend="{{kind}}"
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulIndexDegraded",
                ),
                Panel(
                    title="What it was told",
                    asks="Digests that the chosen nodes have and the server was told of, and changes that "
                    "it has yet to be told.",
                    queries=(
                        Query(expr=f"sum({now('shorthaul_index_announced_digests')})", legend="told"),
                        Query(expr=f"sum({now('shorthaul_index_pending_changes')})", legend="pending"),
                    ),
                ),
                Panel(
                    title="Resets",
                    unit="ops",
                    asks="Times that it lost what agents had told it. Everything is said again, slowly.",
                    queries=(Query(expr=f"sum({rate('shorthaul_index_resets_total')})", legend="resets"),),
                    runbook="ShorthaulIndexResets",
                ),
            ),
        ),
        Row(
            title="Asking peers",
            panels=(
                Panel(
                    title="Questions to peers",
                    unit="ops",
                    width=12,
                    asks="Questions about digests and tags, by whether they were answered.",
                    queries=(
                        Query(
                            expr=f"sum by (result) ({rate('shorthaul_lookup_questions_total')})",
                            legend="{{result}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulPeersUnreachable",
                ),
                Panel(
                    title="What nodes have",
                    width=12,
                    asks="Blobs in the stores of the chosen nodes, and those that the agents can't read.",
                    queries=(
                        Query(expr=f"sum({now('shorthaul_store_blobs')})", legend="blobs"),
                        Query(expr=f"sum({now('shorthaul_store_unreadable_blobs')})", legend="unreadable"),
                    ),
                    runbook="ShorthaulStoreUnreadable",
                ),
            ),
        ),
        Row(
            title="What nobody has",
            panels=(
                Panel(
                    title="Claims, by outcome",
                    unit="ops",
                    asks="granted: this node was told to fetch it from the registry. followed: it came from "
                    "a node that was fetching it. timeout, lost: in vain. refused: no room. alone: "
                    "nobody to ask.",
                    queries=(
                        Query(
                            expr=f"sum by (outcome) ({rate('shorthaul_claims_total')})", legend="{{outcome}}"
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulClaimsTimeOut",
                ),
                Panel(
                    title="Waiting for a claim",
                    unit="s",
                    asks="Seconds for which requests waited for the node that fetches, by what came of it.",
                    queries=(
                        Query(
                            expr=quantile(0.5, "shorthaul_claim_wait_seconds", by="outcome"),
                            legend="p50 {{outcome}}",
                        ),
                        Query(
                            expr=quantile(0.99, "shorthaul_claim_wait_seconds", by="outcome"),
                            legend="p99 {{outcome}}",
                        ),
                    ),
                    runbook="ShorthaulClaimsTimeOut",
                ),
                Panel(
                    title="Claims open now",
                    asks="held: a node fetches for others. waiting: a node waits. decided: a node decides "
                    "who fetches.",
                    queries=(
                        Query(expr=f"sum by (part) ({now('shorthaul_claims_open')})", legend="{{part}}"),
                    ),
                ),
                Panel(
                    title="Fetches that the registry was spared",
                    unit="ops",
                    asks="Contents that no node had when they were asked for, and that came from a peer all "
                    "the same.",
                    queries=(
                        Query(
                            expr=f"sum by (kind) ({rate('shorthaul_registry_fetches_avoided_total')})",
                            legend="{{kind}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Bytes from nodes that were still fetching them",
                    unit="Bps",
                    asks="By where that node is. Bodies that are sent like this now are counted beside them.",
                    queries=(
                        Query(
                            expr=f"sum by (tier) ({rate('shorthaul_in_flight_received_bytes_total')})",
                            legend="{{tier}}",
                        ),
                        Query(expr=f"sum({now('shorthaul_followers')})", legend="bodies now"),
                    ),
                ),
                Panel(
                    title="Fences",
                    unit="ops",
                    asks="Nodes that asked the index's server before they fetched from the registry. held: "
                    "another node did. unavailable: the zone's arbiter alone decided.",
                    queries=(
                        Query(
                            expr=f"sum by (outcome) ({rate('shorthaul_claims_fenced_total')})",
                            legend="{{outcome}}",
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
    ),
)
