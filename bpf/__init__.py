"""Room for the eBPF probes that prove the local leg direct. Empty until they are built."""
