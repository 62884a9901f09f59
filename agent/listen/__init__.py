"""The pull API: its listening sockets, HTTP, who asks (`caller`), and the way of a request (`server`)."""
