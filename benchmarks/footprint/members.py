"""The members of a large cluster, as a peers file and as EndpointSlices list them. Pure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.lab.apiserver import Pod

PEER_PORT = 31877  # of all members but the agent that is measured
_RACK = 40  # nodes


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One node of the cluster. Names are as long as clouds make them; addresses are on loopback."""

    name: str
    address: str
    region: str
    zone: str
    rack: str

    def entry(self) -> dict[str, object]:
        """As a peers file has it."""
        return {
            "name": self.name,
            "address": self.address,
            "port": PEER_PORT,
            "region": self.region,
            "zone": self.zone,
            "rack": self.rack,
        }

    def pod(self) -> Pod:
        """As an EndpointSlice has it."""
        return Pod(node=self.name, address=self.address, zone=self.zone)


def make_members(numbers: Sequence[int], zones: int) -> list[Member]:
    """The members with these numbers, spread over so many zones of three regions."""
    return [_member(number, zones) for number in numbers]


def _member(number: int, zones: int) -> Member:
    zone, place = number % zones, number // zones
    region = f"eu-west-{zone % 3}"
    high, low = divmod(number, 250)
    return Member(
        name=f"ip-10-{high}-{low}-1.{region}.compute.internal",
        address=f"127.{64 + high // 250}.{high % 250}.{low + 1}",
        region=region,
        zone=f"{region}{chr(ord('a') + zone)}",
        rack=f"r{place // _RACK}",
    )


def peers_file(members: Sequence[Member]) -> str:
    """The members as a peers file, which is YAML."""
    return "".join(f"- {json.dumps(member.entry())}\n" for member in members) or "[]\n"
