"""``python -m benchmarks.probe``: what the eBPF probe costs the connections and the node it watches."""
