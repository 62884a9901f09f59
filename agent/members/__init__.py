"""Who is there, where, and at which address."""
