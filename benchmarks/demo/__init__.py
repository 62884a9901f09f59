"""``make demo``: shows how a multi-zone cluster pulls an image, node by node.

There are three zones in two regions, with two nodes each. Every node runs a real containerd and an agent.
The first node gets the image from the registry, every other node from its nearest peer. Then the registry
is stopped, and a node that was down until then still pulls the image. Frames between zones take as long as
in a cloud. At the end a node shows what it measured of these delays. eBPF probes show the path of each
containerd's connections to its own agent.

Then there is a new release, and a limited link to the registry: all six nodes pull at once what none of them
has. Each zone takes one copy from the registry at most, and its nodes share that while it arrives.
"""
