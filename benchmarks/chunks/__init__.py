"""Pulls whose containerd fetches each layer in parallel chunks."""
