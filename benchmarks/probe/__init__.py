"""``python -m benchmarks.probe``: what the eBPF probe costs connections, and the node that it watches."""
