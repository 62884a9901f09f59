"""What several tests of the preflight look at: rules that a real kube-proxy wrote, junk, a server."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from agent.preflight.rules import (
    RuleSet,
    iptables_rules,
    nft_rules,
)

# What a real kube-proxy 1.30 wrote.
DUMPS = Path(__file__).parents[3] / "lab/kubeproxy"
THREE = ("10.244.1.2:30022", "10.244.2.2:30022", "10.244.3.2:30022")
PORT_MAP = """\
*nat
:PREROUTING ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:CNI-DN-0123456789abcdef01234 - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A CNI-DN-0123456789abcdef01234 -s 10.244.1.0/24 -p tcp -m tcp --dport 30020 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef01234 -s 127.0.0.1/32 -p tcp -m tcp --dport 30020 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-0123456789abcdef01234 -p tcp -m tcp --dport 30020 -j DNAT --to-destination 10.244.1.2:30022
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \\"net\\" id: \\"x\\"" -m multiport --dports 30020 -j CNI-DN-0123456789abcdef01234
COMMIT
"""  # noqa: E501
PORT_MAP_NFT = """\
table ip cni_hostport {
	comment "CNI portmap plugin"
	chain hostports {
		tcp dport 30020 dnat to 10.244.1.2:30022 comment "net-x"
		udp dport 30020 dnat to 10.244.1.3:53 comment "net-y"
	}

	chain output {
		type nat hook output priority -100; policy accept;
		fib daddr type local jump hostports
	}
}
"""
IPVS = """\
IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  C0A83C01:7545 rr
  -> 0AF40102:7546      Masq    1      0          0
  -> 0AF40202:7546      Masq    1      0          0
TCP  0A600032:7544 rr
  -> 0AF40302:7546      Masq    1      0          0
UDP  0A60000A:7545 rr
  -> 0AF40909:0035      Masq    1      0          0
TCP  [fd00:0000:0000:0000:0000:0000:0000:0001]:7545 rr
"""
IPVS_NAT = """\
*nat
:OUTPUT ACCEPT [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-SERVICES - [0:0]
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
COMMIT
"""
JUNK = bytes(range(256)) * 64


def dump(name: str) -> str:
    return (DUMPS / name).read_text()


def sample(port: int = 30021, name: str = "iptables-cluster.iptables-save") -> RuleSet:
    text = dump(name)
    found = iptables_rules(text, port, "iptables-save") or nft_rules(text, port, "nft")
    assert found is not None
    return found


IPTABLES, NFTABLES = sample(), sample(name="nftables-cluster.nft")


def place(root: Path, path: str, text: str | bytes) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(text if isinstance(text, bytes) else text.encode())


@contextmanager
def server(serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server for one connection; its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)

        def work() -> None:
            try:
                connection, _ = listener.accept()
                with connection:
                    connection.recv(4096)
                    serve(connection)
            except OSError:
                pass

        thread = threading.Thread(target=work)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.join()


def nft_one_rule(destinations: str, *, family: str = "ip", more: str = "") -> str:
    """kube-proxy's table as 1.36 writes it: one rule for all endpoints of a Service, no chain for each."""
    return f"""\
table {family} kube-proxy {{
	comment "rules for kube-proxy"
{more}
	set nodeport-ips {{
		type ipv4_addr
		elements = {{ 192.168.60.1 }}
	}}

	map service-nodeports {{
		type inet_proto . inet_service : verdict
		comment "NodePort traffic"
		elements = {{ tcp . 30021 : goto external-2QRHZV4L-shorthaul/shorthaul/tcp/ }}
	}}

	chain service-2QRHZV4L-shorthaul/shorthaul/tcp/ {{
		meta l4proto tcp dnat {family} to {destinations}
	}}

	chain external-2QRHZV4L-shorthaul/shorthaul/tcp/ {{
		meta mark set meta mark | 0x00004000
		goto service-2QRHZV4L-shorthaul/shorthaul/tcp/
	}}

	chain services {{
		ip daddr @nodeport-ips meta l4proto . th dport vmap @service-nodeports
	}}

	chain nat-output {{
		type nat hook output priority -100; policy accept;
		jump services
	}}
}}
"""
