"""How the layouts that are measured are started; each runs one worker unless told otherwise."""

from __future__ import annotations

import ssl

from tests import layouts
from tests.servers import free_port

from .deployed import Deployed


def runwsserver(layout: Deployed, *options: str) -> None:
    layouts.run_runwsserver(layout, f"127.0.0.1:{layout.port}", *options)


def runwsserver_tls(layout: Deployed) -> None:
    cert, key = layouts.certificate(layout.folder)
    layout.tls = ssl.create_default_context(cafile=cert)
    runwsserver(layout, "--certfile", str(cert), "--keyfile", str(key))


def uwsgi(layout: Deployed, *options: str, listen: str = "") -> None:
    listen = listen or f"127.0.0.1:{layout.port}"
    layouts.run_uwsgi(layout, layouts.find_uwsgi(), "--listen", listen, "--workers", "1", *options)


def uwsgi_tls(layout: Deployed) -> None:
    cert, key = layouts.certificate(layout.folder)
    layout.tls = ssl.create_default_context(cafile=cert)
    uwsgi(layout, "--certfile", str(cert), "--keyfile", str(key))


def gunicorn(layout: Deployed, worker_class: str, *options: str) -> None:
    listen = ("--listen", f"127.0.0.1:{layout.port}")
    layouts.run_gunicorn(layout, *listen, "--workers", "1", *options, worker_class=worker_class)


def nginx_on_tcp(layout: Deployed, *options: str) -> None:
    address = f"127.0.0.1:{free_port()}"
    layouts.run_runwsserver(layout, address, *options)
    layouts.run_proxy(layout, "nginx", "--upstream", address)


def nginx_on_unix(layout: Deployed) -> None:
    path = str(layout.folder / "site.sock")
    layouts.run_runwsserver(layout, "--unix", path, "--umask", "007")
    layouts.run_proxy(layout, "nginx", "--upstream", path)


def nginx_to_uwsgi(layout: Deployed, *options: str) -> None:
    address = f"uwsgi://{layout.folder}/uwsgi.sock"
    uwsgi(layout, *options, listen=address)
    layouts.run_proxy(layout, "nginx", "--upstream", address)


def apache(layout: Deployed, sockets: int) -> None:
    address = f"127.0.0.1:{free_port()}"
    uwsgi(layout, listen=address)
    layouts.run_proxy(layout, "apache", "--upstream", address, "--sockets", str(2 * sockets))


def haproxy(layout: Deployed) -> None:
    address = f"127.0.0.1:{free_port()}"
    layouts.run_runwsserver(layout, address)
    layouts.run_proxy(layout, "haproxy", "--upstream", address)
