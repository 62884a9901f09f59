"""What the agents may ask of the API server, and who may connect to them."""

from tests.chart.rendering import kinds, manifests, one
from tests.chart.samples import SAMPLES

POLICIES = SAMPLES["policies"]


def test_agents_may_list_and_watch_endpoint_slices_of_their_namespace_and_their_node_and_nothing_else() -> (
    None
):
    rules = {each["kind"]: each["rules"] for each in manifests() if "rules" in each}
    assert rules == {
        "Role": [
            {"apiGroups": ["discovery.k8s.io"], "resources": ["endpointslices"], "verbs": ["list", "watch"]}
        ],
        "ClusterRole": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get", "watch"]}],
    }


def test_rights_are_given_to_the_agents_account_alone() -> None:
    account = [{"kind": "ServiceAccount", "name": "shorthaul", "namespace": "images"}]
    for kind, role in (("RoleBinding", "shorthaul"), ("ClusterRoleBinding", "shorthaul-nodes")):
        binding = one(kind)
        assert binding["subjects"] == account
        assert binding["roleRef"]["name"] == role
        assert one(binding["roleRef"]["kind"])["metadata"]["name"] == role


def test_without_node_labels_no_right_to_nodes_is_asked_for() -> None:
    values = {"membership": {"nodeLabels": False}}
    assert one("ClusterRole", values)["rules"] == []
    assert "ClusterRoleBinding" not in dict(kinds(values))


def test_cluster_role_has_one_name_for_every_release() -> None:
    """Helm refuses an object that another release has: the last resort against two releases on a cluster."""
    names = {
        each["metadata"]["name"]
        for name in ("a", "b")
        for values in ({}, {"membership": {"nodeLabels": False}})
        for each in manifests(values, name=name)
        if each["kind"] == "ClusterRole"
    }
    assert names == {"shorthaul-nodes"}


def test_chart_makes_no_account_and_no_roles_if_told_so() -> None:
    values = SAMPLES["no objects of its own"]
    assert {"ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}.isdisjoint(
        dict(kinds(values))
    )
    assert one("DaemonSet", values)["spec"]["template"]["spec"]["serviceAccountName"] == "mine"


def test_network_policy_opens_the_two_ports_and_no_other() -> None:
    spec = one("NetworkPolicy")["spec"]
    assert spec["policyTypes"] == ["Ingress"]
    assert spec["ingress"] == [
        {"ports": [{"protocol": "TCP", "port": 30020}, {"protocol": "TCP", "port": 30022}]}
    ]


def test_network_policy_selects_the_agents() -> None:
    labels = one("DaemonSet")["spec"]["template"]["metadata"]["labels"].items()
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"].items() <= labels


def test_network_policy_lets_only_nodes_and_agents_in_if_the_nodes_are_known() -> None:
    first, metrics = one("NetworkPolicy", POLICIES)["spec"]["ingress"]
    selector = one("NetworkPolicy", POLICIES)["spec"]["podSelector"]
    assert first["from"] == [
        {"podSelector": selector},
        {"ipBlock": {"cidr": "10.0.0.0/16"}},
        {"ipBlock": {"cidr": "fd00::/64"}},
    ]
    assert [each["port"] for each in metrics["ports"]] == [9090, 9091]
    assert metrics["from"] == [{"namespaceSelector": {}}]


def test_network_policy_keeps_pods_from_the_hostports_target() -> None:
    """In hostPort mode that listener has no authentication; the pod's own node always gets in."""
    ports = [
        each["port"] for each in one("NetworkPolicy", {"network": "hostPort"})["spec"]["ingress"][0]["ports"]
    ]
    assert 30029 not in ports


def test_ciliums_policy_closes_our_ports_and_no_others() -> None:
    spec = one("CiliumClusterwideNetworkPolicy", POLICIES)["spec"]
    ours = [{"ports": [{"protocol": "TCP", "port": "30020"}, {"protocol": "TCP", "port": "30022"}]}]
    assert spec["enableDefaultDeny"] == {"ingress": False, "egress": False}, "it would lock the nodes"
    assert spec["ingress"] == [{"fromEntities": ["host", "remote-node"], "toPorts": ours}]
    assert spec["ingressDeny"] == [{"fromEntities": ["world"], "toPorts": ours}]
    assert "CiliumClusterwideNetworkPolicy" not in dict(kinds())


def test_budget_counts_agents() -> None:
    assert one("PodDisruptionBudget", SAMPLES["operations"])["spec"]["minAvailable"] == 3
    assert "PodDisruptionBudget" not in dict(kinds())


def test_quota_allows_the_priority_class() -> None:
    spec = one("ResourceQuota", SAMPLES["operations"])["spec"]
    assert spec["scopeSelector"]["matchExpressions"] == [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["system-node-critical"]}
    ]
