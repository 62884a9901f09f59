"""What the doctor says of the token in hosts.toml, and that it shows none."""

from collections.abc import Mapping

from agent.hosts.hostsfile import Host, HostsFile
from agent.keyring import parse_keys
from agent.preflight.check import Status
from agent.preflight.tokens import Told, tokens

OLD, NEW = "old-key-0123456789abcdefghijklmnopqrst", "new-key-ABCDEFGHIJKLMNOPQRSTUVWXYZ-9876"
RING = parse_keys(f"{NEW}\n{OLD}")
FIRST, SECOND = (f"Bearer {token}" for token in RING.service_tokens)
KINDS = {
    "http://127.0.0.1:30020": "hostport",
    "http://10.0.0.1:30021": "nodeport",
    "http://10.96.0.1:80": "clusterip",
}
HOSTPORT, NODEPORT, CLUSTERIP = KINDS


def told(
    hosts: Mapping[str, str], *, mode: int = 0o600, pod_network: bool = False, more: Mapping[str, str] = {}
) -> Told:
    """Two files. ``hosts``: what each host is shown, in the one; ``more``: in the other."""
    files = {
        name: HostsFile(hosts=tuple(Host(url=url, authorization=shown) for url, shown in each.items()))
        for name, each in (("_default", hosts), ("docker.io", more))
    }
    return Told(
        certs_d="/etc/containerd/certs.d",
        files=files,
        modes={"_default": mode, "docker.io": 0o644},
        name_of=lambda host: KINDS.get(host.url, ""),
        pod_network=pod_network,
    )


def test_token_of_the_first_key_is_right_and_its_key_is_named() -> None:
    (check,) = tokens(told({HOSTPORT: "", NODEPORT: FIRST, CLUSTERIP: FIRST}), RING)
    assert check.status is Status.GOOD
    assert check.detail == f"containerd shows the NodePort and ClusterIP what the key {RING.ids[0]} makes"


def test_no_token_is_said_with_the_file_and_what_to_run() -> None:
    (check,) = tokens(told({NODEPORT: FIRST}, more={NODEPORT: ""}), RING)
    assert check.status is Status.WARN
    assert check.detail == (
        "/etc/containerd/certs.d/docker.io/hosts.toml: none for the NodePort, which refuses containerd"
    )
    assert "shorthaul configure --key-file" in check.hint


def test_token_of_an_older_key_is_accepted_still_and_said() -> None:
    (check,) = tokens(told({NODEPORT: SECOND}), RING)
    assert check.status is Status.WARN
    assert "that of an older key, which is still accepted" in check.detail
    assert check.hint.startswith("before that key is removed")


def test_token_that_no_key_makes_is_said() -> None:
    for shown in (f"Bearer {parse_keys('x-' + NEW).service_tokens[0]}", "Basic abc", FIRST.lower()):
        (check,) = tokens(told({NODEPORT: shown}), RING)
        assert "one for the NodePort that no key of now makes" in check.detail
        assert check.status is Status.WARN


def test_without_a_token_the_hostport_of_a_pods_network_serves_nobody() -> None:
    (check,) = tokens(told({HOSTPORT: "", NODEPORT: FIRST}, pod_network=True), RING)
    assert check.status is Status.BAD
    assert "none for the HostPort" in check.detail
    (good,) = tokens(told({HOSTPORT: FIRST}, pod_network=True), RING)
    assert good.status is Status.GOOD
    assert tokens(told({HOSTPORT: ""}), RING) == (), "the kernel tells who asks there"


def test_file_with_a_token_that_others_may_read_is_said() -> None:
    (check,) = tokens(told({NODEPORT: FIRST}, mode=0o640), RING)
    assert check.status is Status.WARN
    assert "is open to others on this node (mode 0640)" in check.detail
    assert check.hint == "chmod 0600 /etc/containerd/certs.d/_default/hosts.toml"


def test_other_hosts_and_a_cluster_without_a_key_are_nobodys_business() -> None:
    assert tokens(told({"https://registry.example": "Basic abc"}, mode=0o644), RING) == ()
    assert tokens(told({NODEPORT: ""}), None) == ()


def test_no_finding_shows_a_token() -> None:
    for shown in ("", FIRST, SECOND, "Bearer other-secret"):
        said = str(tokens(told({NODEPORT: shown, HOSTPORT: shown}, mode=0o666, pod_network=True), RING))
        assert not any(each in said for each in (*RING.service_tokens, "other-secret"))
