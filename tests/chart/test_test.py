"""`helm test`: the doctor on every node, with rights that last as long as the test."""

from agent.cli.commands import make_parser
from tests.chart.rendering import Manifest, hooks, one


def _hook(kind: str) -> Manifest:
    (found,) = [each for each in hooks() if each["kind"] == kind]
    return found


def test_doctor_is_asked_in_the_pods_of_all_agents() -> None:
    (container,) = _hook("Pod")["spec"]["containers"]
    arguments = make_parser().parse_args(container["args"])
    labels = one("DaemonSet")["spec"]["template"]["metadata"]["labels"]
    wanted = dict(label.split("=") for label in arguments.selector.split(","))
    assert arguments.command == ["doctor"]
    assert make_parser().parse_args(arguments.command).command == "doctor"
    assert arguments.daemonset == one("DaemonSet")["metadata"]["name"]
    assert wanted.items() <= labels.items()
    assert wanted["app.kubernetes.io/component"] == "agent"


def test_test_is_not_a_pod_of_an_agent() -> None:
    selector = one("DaemonSet")["spec"]["selector"]["matchLabels"]
    assert not selector.items() <= _hook("Pod")["metadata"]["labels"].items()


def test_rights_are_those_of_the_test_alone_and_go_with_it() -> None:
    role, binding = _hook("Role"), _hook("RoleBinding")
    assert role["rules"] == [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/exec"], "verbs": ["get", "create"]},
        {
            "apiGroups": ["apps"],
            "resources": ["daemonsets"],
            "resourceNames": ["shorthaul"],
            "verbs": ["get"],
        },
    ]
    account = _hook("ServiceAccount")["metadata"]["name"]
    assert [each["name"] for each in binding["subjects"]] == [account]
    assert account == _hook("Pod")["spec"]["serviceAccountName"] != one("ServiceAccount")["metadata"]["name"]
    for each in (role, binding, _hook("ServiceAccount")):
        policy = each["metadata"]["annotations"]["helm.sh/hook-delete-policy"]
        assert policy == "before-hook-creation,hook-succeeded"
        assert int(each["metadata"]["annotations"]["helm.sh/hook-weight"]) < 0, "before the pod"


def test_test_pod_needs_no_rights_on_its_node() -> None:
    spec = _hook("Pod")["spec"]
    (container,) = spec["containers"]
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["allowPrivilegeEscalation"] is False
    assert not {"hostNetwork", "volumes"} & spec.keys()


def test_test_ends_by_itself() -> None:
    """Helm waits for five minutes by default."""
    spec = _hook("Pod")["spec"]
    assert spec["restartPolicy"] == "Never"
    assert spec["activeDeadlineSeconds"] < 300
