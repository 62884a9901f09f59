"""Measures round trips to peers with the kernel's own counters, and reports them to peers."""
