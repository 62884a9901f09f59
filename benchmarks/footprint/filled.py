"""An index's server as the members of a cluster have filled it, as far as one agent sees it."""

from collections.abc import Sequence

import valkey

from agent.holders.bitmap import value_of
from agent.holders.valkey.layout import BITMAP_TTL_S, EPOCH_S, NUMBER_TTL_S, Layout
from agent.holders.valkey.numbers import slot_value
from agent.oci.digest import Digest
from benchmarks.footprint.members import Member
from benchmarks.lab.valkey import ValkeyServer
from topology.placement import NodeName

_PREFIX = "shorthaul"


def fill(server: ValkeyServer, members: Sequence[Member], held: Digest) -> None:
    """Every member has its place's number, and all of them have this digest."""
    layout = Layout(_PREFIX)
    with valkey.Valkey(host=server.address, port=server.port) as client:
        now_s = float(client.time()[0])
        epoch = int(now_s // EPOCH_S)
        with client.pipeline(transaction=False) as pipeline:
            for number, member in enumerate(members):
                pipeline.set(layout.number(number), f"{member.name} another", ex=NUMBER_TTL_S)
            names = b"".join(slot_value(NodeName(member.name), now_s) for member in members)
            pipeline.set(layout.names, names, ex=NUMBER_TTL_S)
            for each in (epoch, epoch - 1):
                pipeline.set(layout.bitmap(each, held), value_of(range(len(members))), ex=BITMAP_TTL_S)
            pipeline.execute()
