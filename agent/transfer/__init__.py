"""Moving bytes: from files to sockets, from peers to clients; executing what a pull decides."""
