"""A small cluster on one machine: namespaces, a real registry, real containerds, agents.

Used by the demo, the benchmarks and the end-to-end tests. Everything it makes carries the process id
of its maker in its name, so that a later run can sweep up what a killed one left behind.
"""
