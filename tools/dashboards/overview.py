"""The overview: is it working, is it near, is it local, what does it save, what is slow."""

from tools.dashboards.grafana import Dashboard, Panel, Query, Row, now, quantile, rate, selected

_REQUESTS = "shorthaul_mirror_requests_total"
_SAVED = rate("shorthaul_registry_saved_usd_total", window="$__range")
_COST = rate("shorthaul_zone_cost_usd_total", window="$__range")
_FINDINGS = now("shorthaul_doctor_findings", "status!=ok")


def _served_of(outcomes: str) -> str:
    every = rate(_REQUESTS, f"outcome=~{outcomes}")
    return f"sum({rate(_REQUESTS, 'outcome=served')}) / (sum({every}) > 0)"


OVERVIEW = Dashboard(
    name="overview",
    title="Overview",
    about="Is the mirror working, is it near, is it local, what does it save, what is slow?",
    rows=(
        Row(
            title="Is it working?",
            panels=(
                Panel(
                    title="Agents",
                    kind="stat",
                    width=3,
                    height=4,
                    asks="Agents that Prometheus scrapes, of the chosen zones.",
                    queries=(Query(expr=f"count({now('shorthaul_ready')})"),),
                    runbook="ShorthaulAgentsAbsent",
                ),
                Panel(
                    title="Not ready",
                    kind="stat",
                    width=3,
                    height=4,
                    asks="Agents that serve no pulls now.",
                    queries=(Query(expr=f"count({now('shorthaul_ready')} == 0) or vector(0)"),),
                    bounds=(1, 5),
                    runbook="ShorthaulAgentUnready",
                ),
                Panel(
                    title="Served of what was there",
                    kind="stat",
                    width=4,
                    height=4,
                    unit="percentunit",
                    asks="The share of clients' requests that were served, of those that some node could "
                    "serve. What no node has yet, and what the settings leave to the registry, is not "
                    "counted.",
                    queries=(Query(expr=_served_of("served|failed")),),
                    bounds=(0.99, 0.9),
                    falling=True,
                    most=1,
                    runbook="ShorthaulMirrorSuccessLow",
                ),
                Panel(
                    title="Served of all",
                    kind="stat",
                    width=4,
                    height=4,
                    unit="percentunit",
                    asks="The share of clients' requests that needed no registry. New images have to be "
                    "fetched from there once.",
                    queries=(Query(expr=_served_of("served|failed|missed")),),
                    most=1,
                ),
                Panel(
                    title="HostPort proved direct",
                    kind="stat",
                    width=4,
                    height=4,
                    unit="percentunit",
                    asks="The share of agents whose path from containerd is proved to be direct by the "
                    "probe.",
                    queries=(Query(expr=f"avg({now('shorthaul_local_path_proved')})"),),
                    bounds=(1, 0.9),
                    falling=True,
                    most=1,
                    runbook="ShorthaulHostPortUnproved",
                ),
                Panel(
                    title="Saved",
                    kind="stat",
                    width=3,
                    height=4,
                    unit="currencyUSD",
                    asks="US dollars in the chosen time: what the bytes would have cost from the registry, "
                    "minus what bytes between zones cost. The prices are the agents' settings costs.*.",
                    queries=(
                        Query(
                            expr=f"$__range_s * (sum({_SAVED}) - (sum({_COST}) or vector(0)))",
                            instant=True,
                        ),
                    ),
                    least=None,
                ),
                Panel(
                    title="Alerts",
                    kind="stat",
                    width=3,
                    height=4,
                    asks="Alerts of shorthaul that fire now. Needs the chart's metrics.rules.",
                    queries=(
                        Query(
                            expr=f"count({selected('ALERTS', 'alertname=~Shorthaul.+', 'alertstate=firing')})"
                            " or vector(0)"
                        ),
                    ),
                    bounds=(1, 3),
                ),
                Panel(
                    title="Requests of clients, by outcome",
                    unit="reqps",
                    asks="served; missed: no node had it, so it came from the registry; failed: a fault of "
                    "the mirror; left: the settings leave it to the registry.",
                    queries=(Query(expr=f"sum by (outcome) ({rate(_REQUESTS)})", legend="{{outcome}}"),),
                    stacked=True,
                    runbook="ShorthaulMirrorSuccessLow",
                ),
                Panel(
                    title="Parts with a problem",
                    asks="Agents that say so of a part of theirs, by part. An agent may serve all the same.",
                    queries=(
                        Query(
                            expr=f"sum by (component) ({now('shorthaul_component_problem')})",
                            legend="{{component}}",
                        ),
                    ),
                    runbook="ShorthaulComponentProblem",
                ),
                Panel(
                    title="What the doctor finds",
                    asks="Nodes on which the last `shorthaul doctor` found something, by how bad it is. "
                    "bad: it keeps pulls from being served.",
                    queries=(Query(expr=f"sum by (status) ({_FINDINGS} > bool 0)", legend="{{status}}"),),
                    runbook="ShorthaulDoctorFailing",
                ),
            ),
        ),
        Row(
            title="Is it near, and what is slow?",
            panels=(
                Panel(
                    title="Bytes to clients, by where they came from",
                    unit="Bps",
                    width=12,
                    asks="node: this node had them. rack, zone: another node of the same one. region: "
                    "another zone. remote: another region. What comes from the registry does not pass "
                    "through the mirror.",
                    queries=(
                        Query(
                            expr=f"sum by (tier) ({rate('shorthaul_bytes_total', 'path!=peer')})",
                            legend="{{tier}}",
                        ),
                    ),
                    stacked=True,
                    runbook="ShorthaulCrossZoneShareHigh",
                ),
                Panel(
                    title="First byte",
                    unit="s",
                    width=12,
                    asks="Seconds from a client's request to its first body byte: half of them, and 99 of "
                    "100, by source.",
                    queries=(
                        Query(
                            expr=quantile(0.5, "shorthaul_first_byte_seconds", "path!=peer", by="source"),
                            legend="p50 {{source}}",
                        ),
                        Query(
                            expr=quantile(0.99, "shorthaul_first_byte_seconds", "path!=peer", by="source"),
                            legend="p99 {{source}}",
                        ),
                    ),
                    runbook="ShorthaulFirstByteSlow",
                ),
            ),
        ),
        Row(
            title="What do the agents cost?",
            panels=(
                Panel(
                    title="Processor per agent",
                    unit="percentunit",
                    asks="Of one core, over all chosen agents: the mean and the most.",
                    queries=(
                        Query(expr=f"avg({rate('process_cpu_seconds_total')})", legend="mean"),
                        Query(expr=f"max({rate('process_cpu_seconds_total')})", legend="most"),
                    ),
                ),
                Panel(
                    title="Memory per agent",
                    unit="bytes",
                    asks="Resident memory over all chosen agents: the mean and the most.",
                    queries=(
                        Query(expr=f"avg({now('process_resident_memory_bytes')})", legend="mean"),
                        Query(expr=f"max({now('process_resident_memory_bytes')})", legend="most"),
                    ),
                ),
                Panel(
                    title="Versions",
                    asks="Agents by version. More than one for long is an upgrade that did not end.",
                    queries=(
                        Query(
                            expr=f"count by (version) ({now('shorthaul_build_info')})", legend="{{version}}"
                        ),
                    ),
                    stacked=True,
                ),
            ),
        ),
    ),
)
