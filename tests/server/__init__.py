"""The HTTP behaviour of running agents, seen from the outside: sockets in, bytes out."""
