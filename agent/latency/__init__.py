"""Measuring round trips to peers by the kernel's own counters, and telling peers what was measured."""
