"""A real nginx to compare with, as a file server of a store's blobs, a reverse proxy or a caching mirror.

It answers the paths of blobs, ``/v2/NAME/blobs/sha256:HEX``, like a registry.
"""

import shutil
import socket
from pathlib import Path

from benchmarks.lab.network import inside
from benchmarks.lab.process import Process

_BLOB = "^/v2/.+/blobs/sha256:([0-9a-f]+)$"

# One worker per processor, no logs, its files in its own directory.
_CONFIG = """\
daemon off;
user root;
worker_processes auto;
pid nginx.pid;
error_log stderr warn;
events {{ worker_connections 2048; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  client_body_temp_path tmp;
  proxy_temp_path tmp;
  fastcgi_temp_path tmp;
  uwsgi_temp_path tmp;
  scgi_temp_path tmp;
{servers}
}}
"""

_FILES = """\
  server {{
    listen {address}:{port};
    location ~ {blob} {{ alias {blobs}/$1; }}
  }}
"""

# It streams without the disk, with the buffers that are recommended for large bodies.
_PROXY = """\
  upstream peer {{
    server {upstream};
    keepalive 64;
  }}
  server {{
    listen {address}:{port};
    location / {{
      proxy_pass http://peer;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_buffering on;
      proxy_buffer_size 16k;
      proxy_buffers 16 128k;
      proxy_busy_buffers_size 256k;
      proxy_max_temp_file_size 0;
    }}
  }}
"""

# What most pages recommend for a registry's mirror. With the lock, the registry is asked once for each
# content; its usual 5 s would let the others go to the registry too before a large layer is complete.
_CACHE = """\
  proxy_cache_path cache levels=1:2 keys_zone=mirror:10m max_size=100g inactive=1d use_temp_path=off;
  upstream registry {{
    server {upstream};
    keepalive 64;
  }}
  server {{
    listen {address}:{port};
    location / {{
      proxy_pass http://registry;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_cache mirror;
      proxy_cache_key $uri;
      proxy_cache_valid 200 1d;
      proxy_cache_lock on;
      proxy_cache_lock_timeout 1h;
      proxy_cache_lock_age 1h;
    }}
  }}
"""


class Nginx:
    """One nginx, in a namespace and a cgroup."""

    def __init__(
        self, folder: Path, servers: str, listen: tuple[str, int], netns: str | None, cgroup: Path | None
    ) -> None:
        (folder / "tmp").mkdir(parents=True)
        config = folder / "nginx.conf"
        config.write_text(_CONFIG.format(servers=servers))
        self._folder = folder
        self.address, self.port = listen
        self._netns = netns
        command = ["/usr/sbin/nginx", "-e", "stderr", "-p", str(folder), "-c", str(config)]
        self._process = Process(command, log=folder / "log", netns=netns, cgroup=cgroup)
        self._process.wait_until(self._answers, "nginx")

    @classmethod
    def of_files(
        cls,
        folder: Path,
        blobs: Path,
        listen: tuple[str, int],
        *,
        netns: str | None,
        cgroup: Path | None = None,
    ) -> "Nginx":
        """An nginx that serves a directory whose files are named by their digests' hexadecimal part."""
        address, port = listen
        servers = _FILES.format(address=address, port=port, blob=f'"{_BLOB}"', blobs=blobs)
        return cls(folder, servers, listen, netns, cgroup)

    @classmethod
    def proxy(
        cls,
        folder: Path,
        upstream: tuple[str, int],
        listen: tuple[str, int],
        *,
        netns: str | None,
        cgroup: Path | None = None,
    ) -> "Nginx":
        """An nginx that relays everything from one upstream, over keep-alive connections."""
        address, port = listen
        servers = _PROXY.format(address=address, port=port, upstream=f"{upstream[0]}:{upstream[1]}")
        return cls(folder, servers, listen, netns, cgroup)

    @classmethod
    def cache(
        cls,
        folder: Path,
        upstream: tuple[str, int],
        listen: tuple[str, int],
        *,
        netns: str | None,
        cgroup: Path | None = None,
    ) -> "Nginx":
        """An nginx that asks a registry once for each content, and keeps it in its folder: a caching mirror.

        It gives a content to the others when it has all of it, as nginx does.
        """
        address, port = listen
        servers = _CACHE.format(address=address, port=port, upstream=f"{upstream[0]}:{upstream[1]}")
        return cls(folder, servers, listen, netns, cgroup)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.running

    @property
    def pid(self) -> int:
        """The pid of the master process. The workers are its children."""
        return self._process.pid

    def stop(self) -> None:
        """Stop nginx and its workers."""
        self._process.stop()

    def remove(self) -> None:
        """Stop it, and remove its folder with all that it has cached."""
        self.stop()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _answers(self) -> bool:
        def knock() -> bool:
            try:
                with socket.create_connection((self.address, self.port), timeout=0.5):
                    return True
            except OSError:
                return False

        return inside(self._netns, knock)
