"""What is wrong with the slices, as an operator should know it. Pure."""

from collections.abc import Callable, Collection, Iterator, Mapping

from agent.config import KubernetesSettings
from agent.members.checks import OwnAgent
from agent.members.kubernetes.slices import SliceTable
from agent.members.problems import Problem
from agent.observe.reloads import first_names
from topology.placement import NodeName, Zone


def slice_problems(
    table: SliceTable,
    settings: KubernetesSettings,
    *,
    own: OwnAgent,
    unlisted: bool,
    kept: int,
    unused: Collection[NodeName],
    elsewhere: Mapping[NodeName, tuple[Zone, Zone]],
) -> Iterator[Problem]:
    """The problems of now.

    ``unlisted``: this node was not listed for too long. ``kept``: how many agents are used although they
    vanished. ``unused``: nodes whose address is another's or this node's. ``elsewhere``: nodes that say that
    they are in another zone than their slice has, with both.
    """
    service = f"Service {settings.namespace}/{settings.service}"

    def problem(text: str, hint: str, node: NodeName = own.name) -> Problem:
        return Problem(node=node, problem=text, hint=hint)

    yield from _about_this_node(table, service, own, unlisted, problem)
    for why, number in sorted(table.wrong.items()):
        yield problem(
            f"{number} endpoints of {service} are not used: {why}",
            f"kubectl get endpointslices -n {settings.namespace} "
            f"-l kubernetes.io/service-name={settings.service} -o yaml",
        )
    for node, addresses in sorted(table.double.items()):
        yield problem(
            f"{node} has ready agents at {first_names(addresses)}: only {addresses[0]} is used",
            "is shorthaul installed twice on this cluster? A node may have one agent",
            node,
        )
    if unused:
        yield problem(
            f"{first_names(unused)}: listed at the address of another agent, and not used",
            "a node that is gone and whose address a new one has disappears by itself",
        )
    if kept:
        yield problem(
            f"{kept} agents vanished from the EndpointSlices together and were not stopped: still used",
            "is the control plane well? It may have lost its data, or the way to its nodes",
        )
    for node, (said, listed) in sorted(elsewhere.items()):
        yield problem(
            f"{node} says that it is in zone {said!r}, and its EndpointSlice has {listed!r}, which counts",
            "a slice follows a node's label at its next change: restart the agent of that node",
            node,
        )


def _about_this_node(
    table: SliceTable, service: str, own: OwnAgent, unlisted: bool, problem: Callable[[str, str], Problem]
) -> Iterator[Problem]:
    listed = table.agents.get(own.name)
    if listed is not None and (listed.port != own.port or listed.address not in own.addresses):
        yield problem(
            f"{service} lists this node's agent at {listed.address} port {listed.port}, but it is at {own}",
            "node.address has to be the pod's (status.podIP), and the Service's port that of listen.peer",
        )
    if not unlisted or listed is not None:
        return
    if table.other_types and not table.agents:
        yield problem(
            f"{service} lists {', '.join(table.other_types)} addresses only, and node.address is none",
            "set the Service's ipFamilies to that of the nodes; ipFamilyPolicy: PreferDualStack gives both",
        )
        return
    who = "nobody" if not table.agents else "others, but not this node"
    yield problem(
        f"{service} lists {who}, so peers do not know this node",
        "is this pod ready, and does the Service select it? kubectl get pods -o wide shows both",
    )
