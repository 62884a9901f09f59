"""eBPF: the programs, what loads and attaches them, and the events that they send.

`bpf.child` starts a child process that compiles the programs. Only that process imports bcc. `bpf.live`
attaches the programs and reads their events. `bpf.events` decodes the events. This package knows nothing
of verdicts: see agent.flows.
"""
