"""Agents ask each other whether they reach one another; the doctor shows it. Filters: tests/e2e."""

import json
import subprocess
import sys
from pathlib import Path

from agent.peering.reach import PATH

from .agents import ADMIN, LOCAL, PEER, SERVICE, Site, fresh_address
from .proofs import signed


def test_two_agents_reach_each_other_and_the_doctor_says_so(site: Site) -> None:
    one, other = site.add("one"), site.add("other")
    site.start()
    document = one.ask("/api/reach", port=ADMIN).json()
    (entry,) = document["asked"]
    assert (entry["node"], entry["reached"], entry["returns"], entry["called"]) == (
        "other",
        True,
        True,
        "other",
    )
    assert abs(entry["ahead_s"]) < 30
    other.stop()
    (entry,) = one.ask("/api/reach", port=ADMIN).json()["asked"]
    assert (entry["reached"], entry["kind"]) == (False, "refused")
    shorthaul = Path(sys.executable).parent / "shorthaul"
    command = [str(shorthaul), "doctor", "--config", str(one.config), "--json", "--root", str(site.folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    found = {each["subject"]: each for each in json.loads(said.stdout)["findings"]}
    assert said.returncode == 1
    assert found["the agent"]["status"] == found["the HostPort"]["status"] == "ok"
    assert found["to the peers"]["status"] == "bad"


def test_only_the_peer_listener_answers_and_only_agents(site: Site) -> None:
    node = site.add("one")
    site.add_member("other", fresh_address())
    site.start()
    for port in (LOCAL, SERVICE):
        assert node.ask(PATH, port=port, headers={"User-Agent": "shorthaul"}).status == 404
    for headers in ({}, {"User-Agent": "shorthaul"}):
        assert node.ask(PATH, port=PEER, headers=headers).status == 401
    reply = node.ask(PATH, port=PEER, headers=signed(PATH, sender="other", receiver="one"))
    assert reply.status == 200
    assert reply.json()["reaches"] is False  # it has proved its name, and does not listen
