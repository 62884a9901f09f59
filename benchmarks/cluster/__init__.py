"""Benchmarks on a cluster of one's own: `shorthaul bench --cluster`, and what its pods run."""
