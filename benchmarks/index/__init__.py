"""The index in a server: what a large cluster costs it, and how soon it answers."""
