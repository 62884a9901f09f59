"""Latency at fixed rates: how long the first byte and the whole answer take, by where the content is."""
