"""The probe: what proves the way of the local flows, and what it needs of the node."""
