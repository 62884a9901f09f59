"""Figures of the topology: what it costs, how well it measures, how well it predicts and chooses.

``python -m benchmarks.topology`` has five sections, each with its own module:
- ``costs``: what operations cost at 5,000 nodes.
- ``lab``: real agents in namespaces with delays between them. Needs root.
- ``stated``: the computed limit of measuring traffic.
- ``contest``: the zone matrix compared with Vivaldi coordinates, on the same simulated samples.
- ``oracle``: agreement with an oracle that knows every true delay.
"""
