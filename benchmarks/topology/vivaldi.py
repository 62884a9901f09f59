"""Vivaldi network coordinates, for comparison with the zone matrix. Pure.

Source: Dabek, Cox, Kaashoek, Morris, "Vivaldi: A Decentralized Network Coordinate System" (SIGCOMM 2004): the
algorithm with the adaptive timestep (Figure 3) and height vectors (section 5.4), in two dimensions, with
c_e = c_c = 0.25. The paper has no minimum height. Here a minimum keeps the height positive.
"""

import math
import random
from dataclasses import dataclass

_C_ERROR = 0.25  # c_e: how fast the error estimate moves
_C_STEP = 0.25  # c_c: how far a node moves towards the place that a sample suggests
_ERROR_AT_FIRST = 1.0
_HEIGHT_LEAST_US = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinate:
    """A point in a plane and a height above it. The plane is the network's core, the height the access
    link.
    """

    x_us: float = 0.0
    y_us: float = 0.0
    height_us: float = _HEIGHT_LEAST_US

    def rtt_us(self, other: "Coordinate") -> float:
        """The predicted round trip: down one height, across the plane, and up the other height."""
        return math.hypot(self.x_us - other.x_us, self.y_us - other.y_us) + self.height_us + other.height_us


class VivaldiNode:
    """One node's coordinate, and its own estimate of its error.

    ``dice``: gives the direction in which two nodes at the same point move apart.
    """

    def __init__(self, dice: random.Random) -> None:
        self._dice = dice
        self.coordinate = Coordinate()
        self.error = _ERROR_AT_FIRST

    def observe(self, peer: "VivaldiNode", rtt_us: float) -> None:
        """Apply a round trip to a peer. Only this node moves."""
        predicted_us = self.coordinate.rtt_us(peer.coordinate)
        weight = self.error / (self.error + peer.error) if self.error > 0 else 0.0
        off = abs(predicted_us - rtt_us) / rtt_us
        self.error = off * _C_ERROR * weight + self.error * (1 - _C_ERROR * weight)
        self._push(peer.coordinate, _C_STEP * weight * (rtt_us - predicted_us), predicted_us)

    def _push(self, peer: Coordinate, way_us: float, predicted_us: float) -> None:
        """Move away from a peer's coordinate, or towards it if ``way_us`` is negative."""
        here = self.coordinate
        across_x_us, across_y_us = here.x_us - peer.x_us, here.y_us - peer.y_us
        if across_x_us == across_y_us == 0.0:
            # There is no direction yet. Move in the plane only, otherwise all distances would become heights.
            angle = self._dice.uniform(0.0, 2 * math.pi)
            moved = Coordinate(
                x_us=here.x_us + way_us * math.cos(angle),
                y_us=here.y_us + way_us * math.sin(angle),
                height_us=here.height_us,
            )
        else:
            share = way_us / predicted_us
            height_us = here.height_us + (here.height_us + peer.height_us) * share
            moved = Coordinate(
                x_us=here.x_us + across_x_us * share,
                y_us=here.y_us + across_y_us * share,
                height_us=max(_HEIGHT_LEAST_US, height_us),
            )
        self.coordinate = moved
