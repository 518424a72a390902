"""nginx, if it is on the PATH: relays over kept connections. No tokens, no usage."""

import shutil
from pathlib import Path
from urllib.parse import urlsplit

from bench.gateway.ground import KEY, Ground
from bench.gateway.servers import Launch, Spec, Unavailable, in_turn


def nginx() -> Spec:
    """nginx as a gateway to measure."""

    async def launch(ground: Ground, port: int, scratch: Path) -> Launch:
        program = shutil.which("nginx", path="/usr/sbin:/usr/local/sbin") or shutil.which("nginx")
        if program is None:
            raise Unavailable("nginx is not on the PATH")
        config = scratch / "nginx.conf"
        config.write_text(_config(ground, port, scratch))
        return Launch(arguments=[program, "-c", str(config), "-p", str(scratch)])

    return Spec(name="nginx", launch=launch, wires=in_turn)


def _config(ground: Ground, port: int, scratch: Path) -> str:
    servers = " ".join(f"server {urlsplit(url).netloc};" for url in ground.urls())
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    folders = " ".join(f"{kind}_temp_path {scratch}/{kind};" for kind in kinds)
    return f"""
daemon off; worker_processes 1; pid {scratch}/nginx.pid; error_log stderr error;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_max_body_size 0; keepalive_requests 1000000; {folders}
  upstream backends {{ {servers} keepalive 512; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=1024;
    location / {{
      proxy_pass http://backends; proxy_http_version 1.1; proxy_buffering off;
      proxy_set_header Connection ""; proxy_set_header Authorization "";
      proxy_set_header api-key {KEY};
    }}
  }}
}}
"""
