"""eBPF: the programs, what loads and attaches them, and what they tell.

`bpf.child` has them compiled by a process of its own, the only one that imports bcc; `bpf.live` attaches
them and reads their events; `bpf.events` decodes those. Knows nothing of verdicts: see agent.flows.
"""
