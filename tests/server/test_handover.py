"""A newer agent of a node takes over from the older one: no connection is refused, reset or lost."""

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from benchmarks.lab.process import Process

from .agents import (
    ADMIN,
    AT_MOST_S,
    LOCAL,
    PEER,
    REPLY_S,
    SERVICE,
    Node,
    Site,
    digest_of,
    fresh_address,
    log_lines,
    service_proof,
    wait_for,
)
from .proofs import OPEN
from .test_stream import Stream
from .wire import Ending, connected, read_reply, read_to_end, request_bytes

PEERING = OPEN  # some of these tests ask the peer listener, and are no peers

_BIG_BYTES = 48 << 20  # more than the kernel's buffers of both sides take
_LONG_S = 300.0


class Pod:
    """One agent of a node that may have several. Its health socket is its own."""

    def __init__(self, site: Site, node: Node, name: str, *overrides: str) -> None:
        self.name = name
        self.health = site.folder / f"{name}.sock"
        self.log = site.folder / f"{name}.log"
        sets = [word for one in (f"health.socket={self.health}", *overrides) for word in ("--set", one)]
        self.process = Process([*node.command, *sets], log=self.log)

    def ready(self) -> str:
        """What `shorthaul ready` prints. It begins with ``not ready`` if the status says so."""
        command = [str(Path(sys.executable).parent / "shorthaul"), "ready", "--socket", str(self.health)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=REPLY_S, check=False)
        assert done.returncode in (0, 1), done.stderr
        return done.stdout if done.returncode == 0 else f"not ready {done.stdout}"

    def wait(self) -> None:
        """Wait until it serves."""
        self.process.wait_until(lambda: not self.ready().startswith("not ready"), self.name)

    def wait_for_phase(self, phase: str) -> None:
        """Wait until it says that it is in this phase."""
        wait_for(lambda: f"phase: {phase}" in self.ready(), f"{self.name} is {phase}")

    def ends_well(self) -> None:
        """Wait until it has ended, with status 0 and no traceback."""
        wait_for(lambda: not self.process.running, f"{self.name} ends")
        assert self.process.kill() == 0
        assert "Traceback" not in self.log.read_text()

    def says(self, message: str) -> int:
        """How often its log has a message."""
        lines = [line for line in log_lines(self.log) if line.startswith("{")]
        return sum(json.loads(line)["message"].startswith(message) for line in lines)


@pytest.fixture
def pods(site: Site) -> Iterator["Pods"]:
    """A node with content, and its pods."""
    with Pods(site) as pods:
        yield pods


class Pods:
    """The pods of one node."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.node = site.add(
            "n", handover={"socket": str(site.folder / "handover.sock")}, stop={"drain_s": _LONG_S}
        )
        self.node.put(b"content")
        self._all: list[Pod] = []

    def __enter__(self) -> "Pods":
        return self

    def __exit__(self, *_: object) -> None:
        for pod in self._all:
            pod.process.signal(signal.SIGCONT)
            pod.process.kill()

    def launch(self, name: str, *overrides: str) -> Pod:
        """Start a pod, and do not wait."""
        pod = Pod(self._site, self.node, name, *overrides)
        self._all.append(pod)
        return pod

    def start(self, name: str, *overrides: str) -> Pod:
        """Start a pod, and wait until it serves."""
        pod = self.launch(name, *overrides)
        pod.wait()
        return pod


class Load:
    """Clients that connect anew for each request, and ones that keep their connection."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._stop = threading.Event()
        self.results: Counter[str] = Counter()

    @contextmanager
    def running(self) -> Iterator["Load"]:
        threads = [
            threading.Thread(target=self._ask, args=(port, keep))
            for port in (LOCAL, PEER, SERVICE)
            for keep in (False, True)
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _ask(self, port: int, keep: bool) -> None:
        path = f"/v2/library/app/blobs/{digest_of(b'content')}"
        proof = service_proof() if port == SERVICE else {}
        while not self._stop.is_set():
            try:
                with self._node.connection(port=port, timeout_s=30) as connection:
                    for _ in range(5 if keep else 1):
                        connection.request("GET", path, headers=proof)
                        reply = connection.getresponse()
                        body = reply.read()
                        self.results["good" if body == b"content" else f"{port}: {reply.status}"] += 1
                        if reply.will_close:
                            break
                        time.sleep(0.005)
            except OSError as error:
                self.results[f"{port}: {type(error).__name__}"] += 1

    @property
    def failed(self) -> dict[str, int]:
        return {what: number for what, number in self.results.items() if what != "good"}

    def more(self, number: int) -> None:
        """Wait for more good answers."""
        enough = self.results["good"] + number
        wait_for(lambda: self.results["good"] >= enough or bool(self.failed), "more answers")


def test_a_newer_agent_takes_over_and_no_request_notices(pods: Pods) -> None:
    old = pods.start("old")
    with Load(pods.node).running() as load:
        load.more(50)
        new = pods.start("new")
        load.more(50)
        assert old.process.running
        old.wait_for_phase("standing by")
        old.process.signal(signal.SIGTERM)
        old.ends_well()
        load.more(50)
        last = pods.start("last")  # the newer one is an older one by now
        new.process.signal(signal.SIGTERM)
        new.ends_well()
        load.more(50)
    assert load.failed == {}
    assert new.says("took over from the agent of this node") == 1
    assert last.says("took over from the agent of this node") == 1
    assert "phase: serving" in pods.node.ask("/readyz?verbose", port=ADMIN).body.decode()
    assert "phase: serving" in last.ready()


def test_what_waits_to_be_accepted_is_served_by_the_newer_agent(pods: Pods) -> None:
    old = pods.start("old")
    new = pods.launch("new")
    new.wait()
    old.process.signal(signal.SIGSTOP)
    with connected(pods.node.address, LOCAL) as sock:
        sock.sendall(request_bytes(f"/v2/library/app/blobs/{digest_of(b'content')}"))
        assert read_reply(sock).body == b"content"


def test_the_older_agent_serves_on_until_the_newer_one_can(pods: Pods) -> None:
    old = pods.start("old")
    new = pods.launch("new", f"store=oci-layout://{pods.node.layout}.missing")
    new.wait_for_phase("getting ready to take over")
    assert "phase: serving" in old.ready()
    assert pods.node.blob(b"content").body == b"content"
    pods.node.layout.with_suffix(".missing").symlink_to(pods.node.layout)
    new.wait()
    old.wait_for_phase("standing by")
    assert pods.node.blob(b"content").body == b"content"


def test_a_newer_agent_that_dies_before_it_serves_changes_nothing(pods: Pods) -> None:
    old = pods.start("old")
    with Load(pods.node).running() as load:
        new = pods.launch("new", f"store=oci-layout://{pods.node.layout}.missing")
        new.wait_for_phase("getting ready to take over")
        new.process.kill()
        load.more(50)
        pods.start("another")  # it is not taken for busy with the one that died
        load.more(50)
    assert load.failed == {}
    assert old.process.running


def test_the_older_agent_serves_again_if_the_newer_one_is_killed(pods: Pods) -> None:
    old = pods.start("old")
    new = pods.start("new")
    old.wait_for_phase("standing by")
    new.process.kill()
    wait_for(lambda: "phase: serving" in old.ready(), "the older one serves again")
    assert pods.node.blob(b"content").body == b"content"
    pods.start("newest")  # it is restarted, and takes over again
    old.wait_for_phase("standing by")
    old.process.signal(signal.SIGTERM)
    old.ends_well()
    assert pods.node.blob(b"content").body == b"content"


def test_the_older_agent_serves_again_if_the_newer_one_is_taken_back(pods: Pods) -> None:
    old = pods.start("old")
    with Load(pods.node).running() as load:
        new = pods.start("new")
        load.more(20)
        new.process.signal(signal.SIGTERM)
        new.ends_well()
        load.more(50)
    assert load.failed == {}
    assert "phase: serving" in old.ready()


def test_an_older_agent_that_stops_hurries_the_newer_one(pods: Pods) -> None:
    old = pods.start("old")
    with Load(pods.node).running() as load:
        new = pods.launch("new", f"store=oci-layout://{pods.node.layout}.missing")
        new.wait_for_phase("getting ready to take over")
        old.process.signal(signal.SIGTERM)
        old.ends_well()
        wait_for(lambda: "phase: serving" in new.ready(), "the newer one serves")
    # It has no store, so what it answers is no blob. But it answers.
    assert {what.partition(": ")[2] for what in load.failed} <= {"404", "503"}


def test_an_older_agent_that_is_killed_hurries_the_newer_one(pods: Pods) -> None:
    old = pods.start("old")
    new = pods.launch("new", f"store=oci-layout://{pods.node.layout}.missing")
    new.wait_for_phase("getting ready to take over")
    old.process.kill()
    wait_for(lambda: "phase: serving" in new.ready(), "the newer one serves")


def test_running_bodies_of_the_older_agent_end_whole(pods: Pods) -> None:
    content = b"\7" * _BIG_BYTES
    pods.node.put(content)
    old = pods.start("old")
    with ExitStack() as stack:
        sock = stack.enter_context(connected(pods.node.address, LOCAL, receive_bytes=65_536))
        sock.sendall(request_bytes(f"/v2/library/app/blobs/{digest_of(content)}"))
        assert sock.recv(1, socket.MSG_PEEK)
        pods.start("new")
        old.process.signal(signal.SIGTERM)
        assert pods.node.blob(b"content").body == b"content"
        assert old.process.running
        assert read_reply(sock).body == content
    old.ends_well()


def test_a_socket_file_that_a_killed_agent_left_is_no_older_agent(pods: Pods) -> None:
    pods.start("old").process.kill()
    assert pods.start("new").says("took over") == 0


def test_a_port_that_changed_is_opened_anew_and_the_others_are_taken_over(pods: Pods) -> None:
    old = pods.start("old")
    moved = fresh_address()
    new = pods.start("new", f"listen.peer={moved}:{PEER}")
    for address in (moved, pods.node.address):  # nobody else serves the old address until its agent ends
        with connected(address, PEER) as sock:
            sock.sendall(request_bytes(f"/v2/library/app/blobs/{digest_of(b'content')}"))
            assert read_reply(sock).body == b"content"
    old.process.signal(signal.SIGTERM)
    old.ends_well()
    assert new.process.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((pods.node.address, PEER), timeout=REPLY_S)


def test_an_older_agent_that_hangs_is_named_and_keeps_its_ports(pods: Pods) -> None:
    old = pods.start("old")
    old.process.signal(signal.SIGSTOP)
    new = pods.launch("new")
    wait_for(lambda: not new.process.running, "the newer one gives up", at_most_s=2 * AT_MOST_S)
    old.process.signal(signal.SIGCONT)
    assert new.process.kill() == 1
    said = new.log.read_text()
    assert "an agent of this node runs, but does not answer at" in said
    assert f"listen.hostport: {pods.node.address}:{LOCAL} is taken by" in said
    assert "Traceback" not in said
    assert pods.node.blob(b"content").body == b"content"
    pods.start("again")


def test_an_older_agent_that_hangs_while_the_newer_one_gets_ready_is_not_waited_for(pods: Pods) -> None:
    old = pods.start("old")
    new = pods.launch("new", f"store=oci-layout://{pods.node.layout}.missing")
    new.wait_for_phase("getting ready to take over")
    old.process.signal(signal.SIGSTOP)
    pods.node.layout.with_suffix(".missing").symlink_to(pods.node.layout)
    new.wait()
    assert pods.node.blob(b"content").body == b"content"
    assert "does not say that it stopped" in new.log.read_text()
    old.process.signal(signal.SIGCONT)
    old.wait_for_phase("standing by")


def test_a_scraper_that_keeps_its_connection_open_asks_the_newer_agent_next(pods: Pods) -> None:
    old = pods.start("old")
    with connected(pods.node.address, ADMIN) as scraper:
        scraper.sendall(request_bytes("/readyz"))
        assert read_reply(scraper).status == 200
        pods.start("new")
        old.wait_for_phase("standing by")
        assert read_to_end(scraper) == (b"", Ending.FIN)
    assert pods.node.metric("shorthaul_ready") == 1


def test_an_open_page_moves_to_the_newer_agent_at_once_and_delays_no_upgrade(pods: Pods) -> None:
    old = pods.start("old")
    with Stream(pods.node) as page:
        before = page.until("hello")["instance"]
        pods.start("new")
        while page.next() is not None:  # the stream of the older agent ends
            pass
    with Stream(pods.node) as page:
        assert page.until("hello")["instance"] != before
        old.process.signal(signal.SIGTERM)
        old.ends_well()
        assert pods.node.ask("/api/overview", port=ADMIN).json()["tabs"] == 1


def test_two_new_agents_at_once_serve_one_after_the_other(pods: Pods) -> None:
    old = pods.start("old")
    with Load(pods.node).running() as load:
        pair = [pods.launch("one"), pods.launch("two")]
        for new in pair:
            wait_for(lambda new=new: "phase: s" in new.ready(), "it serves or stands by")  # type: ignore[misc]
        wait_for(
            lambda: sorted("phase: standing" in new.ready() for new in pair) == [False, True], "one serves"
        )
        load.more(50)
        old.process.signal(signal.SIGTERM)
        old.ends_well()
        load.more(50)
    assert load.failed == {}


def test_two_agents_that_start_at_once_without_an_older_one_do_not_fail(pods: Pods) -> None:
    pair = [pods.launch("one"), pods.launch("two")]
    wait_for(lambda: sorted("phase: standing" in new.ready() for new in pair) == [False, True], "one serves")
    assert pods.node.blob(b"content").body == b"content"


def test_the_agent_of_another_node_gets_no_sockets(pods: Pods) -> None:
    pods.start("old")
    new = pods.launch("new", "node.name=another")
    wait_for(lambda: not new.process.running, "it gives up")
    assert new.process.kill() == 1
    assert "it is the agent of node n, not of another" in new.log.read_text()


def test_an_agent_that_drains_alone_hands_over_to_one_that_starts_meanwhile(pods: Pods) -> None:
    content = b"\7" * _BIG_BYTES
    pods.node.put(content)
    old = pods.start("old")
    with ExitStack() as stack:
        sock = stack.enter_context(connected(pods.node.address, LOCAL, receive_bytes=65_536))
        sock.sendall(request_bytes(f"/v2/library/app/blobs/{digest_of(content)}"))
        assert sock.recv(1, socket.MSG_PEEK)
        old.process.signal(signal.SIGTERM)
        wait_for(lambda: pods.node.blob(b"content").status == 503, "it drains")
        pods.start("new")
        assert pods.node.blob(b"content").body == b"content"
        assert read_reply(sock).body == content
    old.ends_well()


def test_a_peer_that_keeps_a_channel_open_notices_nothing(site: Site, pods: Pods) -> None:
    asker = site.add("asker")
    site.start([asker])
    old = pods.start("old")
    asker.wait_for_holders(b"content", {"n"})
    for name in ("new", "newest"):
        new = pods.start(name)
        old.process.signal(signal.SIGTERM)
        old.ends_well()
        old = new
        more = f"more for {name}".encode()
        pods.node.put(more)
        assert asker.blob(more).body == more
    assert asker.metric("shorthaul_problems") == 0
    assert asker.metric("shorthaul_peers_cooling") == 0
