"""Which nodes there are, where they are, and at which address."""
