"""Figures of the topology: what it costs, how well it measures, how well it predicts and chooses.

``python -m benchmarks.topology`` measures in five sections, of which each has a module: pure costs at
5,000 nodes (``costs``); real agents in namespaces between which frames take time (``lab``, needs root);
what the product says of its probing (``stated``); the zone matrix against Vivaldi coordinates on the
same simulated samples (``contest``); agreement with an oracle that knows every true delay (``oracle``).
"""
