"""The listeners: sockets, HTTP, the OCI pull API, and the admin port."""
