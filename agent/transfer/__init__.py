"""Executes what a pull decides, and moves bytes: from files to clients, from peers to clients."""
