"""The proof of the local path: does containerd reach its own node's agent, and nothing in between?"""

from tools.dashboards.grafana import NODES, Dashboard, Panel, Query, Row, now, rate, selected

_UNPROVED = f"{now('shorthaul_local_path_proved')} == 0"

PROOF = Dashboard(
    name="proof",
    title="Local path proof",
    about="Does each containerd reach the agent of its own node, and nothing in between? The eBPF probe "
    "tells.",
    rows=(
        Row(
            title="Now",
            panels=(
                Panel(
                    title="Proved",
                    kind="stat",
                    width=6,
                    height=4,
                    asks="Agents whose path from containerd is proved to be direct.",
                    queries=(Query(expr=f"sum({now('shorthaul_local_path_proved')})"),),
                    runbook="ShorthaulHostPortUnproved",
                ),
                Panel(
                    title="Not proved",
                    kind="stat",
                    width=6,
                    height=4,
                    asks="Agents with a probe that does not prove it.",
                    queries=(
                        Query(
                            expr=f"count({_UNPROVED} and on (cluster, instance) "
                            f"({selected('shorthaul_probe_connected')} == 1)) or vector(0)"
                        ),
                    ),
                    bounds=(1, 5),
                    runbook="ShorthaulHostPortUnproved",
                ),
                Panel(
                    title="Probe not running",
                    kind="stat",
                    width=6,
                    height=4,
                    asks="Agents that hear of no probe: nothing is proved there.",
                    queries=(Query(expr=f"count({now('shorthaul_probe_connected')} == 0) or vector(0)"),),
                    bounds=(1, 5),
                    runbook="ShorthaulProbeAbsent",
                ),
                Panel(
                    title="Contradictions",
                    kind="stat",
                    width=6,
                    height=4,
                    asks="Connections in the chosen time whose two ends contradict each other. Any is an "
                    "alarm.",
                    queries=(
                        Query(
                            expr=f"sum(increase({selected('shorthaul_flow_contradictions_total')}[$__range]) "
                            f"and on (cluster, instance) {NODES})",
                            instant=True,
                        ),
                    ),
                    bounds=(1, 2),
                    runbook="ShorthaulFlowContradiction",
                ),
                Panel(
                    title="Nodes that are not proved",
                    kind="table",
                    width=24,
                    asks="Up to twenty of them. /api/flows of each says why.",
                    queries=(
                        Query(
                            expr="topk(20, 1 - max by (node_name, node_zone, instance) ("
                            f"{selected('shorthaul_local_path_proved')} * on (cluster, instance) "
                            f"group_left (node_name, node_zone) {NODES}) == 1)",
                            instant=True,
                            table=True,
                        ),
                    ),
                    hidden=("Value",),
                    height=6,
                    runbook="ShorthaulHostPortUnproved",
                ),
            ),
        ),
        Row(
            title="Verdicts",
            panels=(
                Panel(
                    title="Connections to the HostPort, by verdict",
                    unit="cps",
                    width=12,
                    asks="Of containerd and of the probe's canaries. DIRECT is proved; UNKNOWN lacks "
                    "evidence; all others went through something.",
                    queries=(
                        Query(
                            expr="sum by (verdict) "
                            f"({rate('shorthaul_local_flows_total', 'endpoint=hostport')})",
                            legend="{{verdict}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulLocalTrafficThroughKubeProxy",
                ),
                Panel(
                    title="Connections to the NodePort, by verdict",
                    unit="cps",
                    width=12,
                    asks="kube-proxy translates these. KUBE_PROXY_REMOTE left the node: its own agent did "
                    "not answer.",
                    queries=(
                        Query(
                            expr="sum by (verdict) "
                            f"({rate('shorthaul_local_flows_total', 'endpoint=nodeport')})",
                            legend="{{verdict}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulNodePortLeavesNode",
                ),
                Panel(
                    title="Requests of the node's clients, by verdict",
                    unit="reqps",
                    asks="By endpoint and by the verdict on the connection that carried them.",
                    queries=(
                        Query(
                            expr=f"sum by (endpoint, verdict) ({rate('shorthaul_local_requests_total')})",
                            legend="{{endpoint}} {{verdict}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Bytes that left nodes through the NodePort",
                    unit="Bps",
                    asks="Of containerd's connections that kube-proxy sent to another node. They count when "
                    "the connection ends.",
                    queries=(
                        Query(
                            expr=f"sum by (direction) ({rate('shorthaul_nodeport_remote_bytes_total')})",
                            legend="{{direction}}",
                        ),
                    ),
                    runbook="ShorthaulNodePortLeavesNode",
                ),
                Panel(
                    title="Other processes' connections",
                    unit="cps",
                    asks="They prove and disprove nothing.",
                    queries=(
                        Query(
                            expr=f"sum by (endpoint) ({rate('shorthaul_other_flows_total')})",
                            legend="{{endpoint}}",
                        ),
                    ),
                ),
            ),
        ),
        Row(
            title="The probes themselves, of the chosen clusters",
            panels=(
                Panel(
                    title="Canaries of the last round",
                    asks="Connections that the probes make themselves, by endpoint and verdict.",
                    queries=(
                        Query(
                            expr=f"sum by (endpoint, verdict) ({selected('shorthaul_probe_canaries')})",
                            legend="{{endpoint}} {{verdict}}",
                        ),
                    ),
                    stacked=True,
                ),
                Panel(
                    title="Handshakes of canaries",
                    unit="s",
                    asks="The longest of the last round, on the slowest node.",
                    queries=(
                        Query(
                            expr=f"max by (endpoint) ({selected('shorthaul_probe_canary_rtt_seconds')})",
                            legend="{{endpoint}}",
                        ),
                    ),
                ),
                Panel(
                    title="Lost",
                    unit="ops",
                    asks="What probes lost, by what it was. held_back is other users' noise, and harmless.",
                    queries=(
                        Query(
                            expr="sum by (what) (rate("
                            f"{selected('shorthaul_probe_lost_total')}[$__rate_interval]))",
                            legend="{{what}}",
                        ),
                    ),
                    runbook="ShorthaulProbeLosesEvents",
                ),
            ),
        ),
    ),
)
