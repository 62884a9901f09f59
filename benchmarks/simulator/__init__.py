"""Large clusters in simulated time: the product's own decisions, over a fluid network.

It is the third executor of `topology`, `agent.pull` and `agent.holders`, beside the agent and the unit tests.
`run(scenario)` in `run.py` runs a `Scenario`; `result.py` has what comes of it. What is made up here is what
surrounds the agents: links (`network.py`), containerd, the registry, the kubelet, the index's server, and
how nodes fail.
"""
