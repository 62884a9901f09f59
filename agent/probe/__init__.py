"""The probe's process, which proves the path from containerd to the agent, and the agent's reader of it."""
