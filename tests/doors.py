"""Front doors for a site, right or wrong: proxies with a few lines of their own, certificates, and relays of bytes."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from . import layouts
from .layouts import as_nobody, find_program
from .servers import Process, children, free_port, wait_until

# what a proxy needs for websockets, without "server" and "location"
RIGHT = """
    proxy_http_version 1.1;
    proxy_set_header Upgrade $http_upgrade;
    proxy_set_header Connection upgrade;
    proxy_set_header Host $http_host;
"""


class Doors:
    """Proxies, which end with the test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.chmod(0o755)
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")
        self._processes: list[Process] = []

    def nginx(self, lines: str, *, listen: str = "", http: str = "") -> int:
        """Return the port of a server with some lines; `listen` are its options, `http` stands beside it."""
        port = free_port()
        site = self.folder / f"site{port}.conf"
        site.write_text(f"{http}\nserver {{\nlisten 127.0.0.1:{port} {listen};\n{lines}\n}}\n")
        return self._run(layouts.nginx(self.folder, site), port)

    def to(
        self,
        site_port: int,
        *,
        remove: str = "",
        add: str = "",
        slash: str = "",
        where: str = "/",
        server: str = "",
        http: str = "",
        listen: str = "",
    ) -> int:
        """Return the port of a proxy that is right, but for a line that it lacks, those that it has, and a slash.

        add: a line of the location; server, http: those of the blocks around it; listen: its options.
        """
        assert remove in RIGHT
        lines = RIGHT.replace(remove, "") + add
        location = f"location {where} {{ proxy_pass http://127.0.0.1:{site_port}{slash};\n{lines} }}"
        return self.nginx(f"{server}\n{location}", listen=listen, http=http)

    def certificate(self, authority: Path) -> str:
        """Return the lines for nginx that name what an authority certified last."""
        for name in ("server.pem", "server.key"):
            Path(shutil.copy(authority / name, self.folder)).chmod(0o644)
        return f"ssl_certificate {self.folder}/server.pem; ssl_certificate_key {self.folder}/server.key;"

    def haproxy(self, site_port: int, tunnel: str = "1h", *, add: str = "") -> int:
        """Return the port of a proxy that is right, but for its timeout, and a line that it has."""
        port = free_port()
        site = self.folder / "site.cfg"
        site.write_text(
            "defaults\n    mode http\n    timeout connect 5s\n    timeout client 60s\n    timeout server 60s\n"
            f"    timeout tunnel {tunnel}\n"
            f"listen site\n    bind 127.0.0.1:{port}\n    {add}\n"
            f"    server one 127.0.0.1:{site_port} check inter 100ms\n"
        )
        return self._run([*layouts.haproxy(self.folder, site), "-db"], port)

    def apache(self, lines: str) -> int:
        """Return the port of a server with some lines."""
        port = free_port()
        site = self.folder / "apache.conf"
        site.write_text(f"Listen 127.0.0.1:{port}\n{lines}\n")
        return self._run([*layouts.apache(self.folder, site), "-DFOREGROUND"], port)

    def freeze(self) -> None:
        """Let all proxies hang: they keep their sockets, and pass nothing on."""
        self._signal(signal.SIGSTOP)

    def stop(self) -> None:
        self._signal(signal.SIGCONT)
        for process in self._processes:
            process.stop()

    def _signal(self, number: int) -> None:
        for process in self._processes:
            for pid in (process.pid, *children(process.pid)):
                with suppress(ProcessLookupError):
                    os.kill(pid, number)

    def _run(self, command: list[str], port: int) -> int:
        process = Process(command, cwd=self.folder, **as_nobody())
        self._processes.append(process)

        def accepts() -> bool:
            assert process.popen.poll() is None, process.output
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        wait_until(accepts, 10, f"the proxy's port; so far:\n{process.output}\n")
        return port


# Certificates


def make_authority(folder: Path) -> Path:
    """Return the certificate of an authority of our own."""
    cert = folder / "ca.pem"
    options = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=The tests"]
    _openssl(folder, *options, "-keyout", "ca.key", "-out", str(cert))
    (folder / "ca.cnf").write_text(
        "[ca]\ndefault_ca = tests\n[tests]\nnew_certs_dir = .\ndatabase = index.txt\nserial = serial\n"
        "certificate = ca.pem\nprivate_key = ca.key\ndefault_md = sha256\npolicy = any\ncopy_extensions = copy\n"
        "unique_subject = no\n[any]\ncommonName = supplied\n"
    )
    (folder / "index.txt").touch()
    (folder / "serial").write_text("01\n")
    return cert


def certify(folder: Path, name: str = "IP:127.0.0.1", *, since: float = -1, days: float = 90) -> list[str]:
    """Return the options of a server for a certificate of the authority, from a day on, until another; with its key."""
    key, request, cert = (folder / f"server.{kind}" for kind in ("key", "csr", "pem"))
    subject = ["-subj", f"/CN={name.partition(':')[2]}", "-addext", f"subjectAltName={name}"]
    _openssl(
        folder, "req", "-new", "-newkey", "rsa:2048", "-nodes", *subject, "-keyout", str(key), "-out", str(request)
    )
    dates = ["-startdate", date(since), "-enddate", date(days)]
    _openssl(folder, "ca", "-batch", "-notext", "-config", "ca.cnf", *dates, "-in", str(request), "-out", str(cert))
    return ["--certfile", str(cert), "--keyfile", str(key)]


def certify_through_another(folder: Path, name: str = "IP:127.0.0.1") -> None:
    """Have the authority certify another one, `between.pem`, and that one a server."""
    (folder / "between.cnf").write_text("basicConstraints = critical, CA:TRUE\n")
    (folder / "server.cnf").write_text(f"subjectAltName = {name}\n")
    for made, by in (("between", "ca"), ("server", "between")):
        key, request = f"{made}.key", f"{made}.csr"
        subject = ["-subj", f"/CN={made}", "-newkey", "rsa:2048", "-nodes"]
        _openssl(folder, "req", "-new", *subject, "-keyout", key, "-out", request)
        signed = ["-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-set_serial", "7", "-days", "60"]
        _openssl(folder, "x509", "-req", "-in", request, *signed, "-extfile", f"{made}.cnf", "-out", f"{made}.pem")


def date(days: float) -> str:
    """Return the time in so many days, as openssl reads it."""
    return (datetime.now(UTC) + timedelta(days=days)).strftime("%y%m%d%H%M%SZ")


def _openssl(folder: Path, *arguments: str) -> None:
    command = [find_program("openssl"), *arguments]
    subprocess.run(command, check=True, capture_output=True, timeout=60, cwd=folder)


# Servers that are none


@contextmanager
def dumb_server(answer: bytes | None) -> Iterator[int]:
    """Give each request the same answer; None: none at all."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepted: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                if answer is None:
                    accepted.append(sock)
                    continue
                with sock, suppress(OSError):
                    sock.recv(65536)
                    sock.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
        for sock in accepted:
            sock.close()


class Relay:
    """Passes bytes on to a site's port, as two functions let it: each gets a piece, and returns what is passed on.

    From the site, after the head of a 101; to the site, after the request. One that returns None ends both.
    """

    def __init__(
        self,
        site_port: int,
        *,
        from_site: Callable[[bytes], bytes | None] = bytes,
        to_site: Callable[[bytes], bytes | None] = bytes,
    ) -> None:
        self._address = "127.0.0.1", site_port
        self._from_site, self._to_site = from_site, to_site
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Relay:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for sock in self._sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for sock in (self._listener, *self._sockets):
            sock.close()

    def _accept(self) -> None:
        while True:
            try:
                browser, _ = self._listener.accept()
            except OSError:
                return
            site = socket.create_connection(self._address)
            self._sockets += [browser, site]
            for pair in ((browser, site, self._to_site), (site, browser, self._from_site)):
                self._threads.append(threading.Thread(target=self._pass, args=pair))
                self._threads[-1].start()

    def _pass(self, source: socket.socket, target: socket.socket, change: Callable[[bytes], bytes | None]) -> None:
        is_head = True
        is_site = change is self._from_site
        with suppress(OSError):
            while data := source.recv(65536):
                if is_head:
                    head, end, data = data.partition(b"\r\n\r\n")
                    target.sendall(head + end)
                    is_head = False
                    if is_site and b" 101 " not in head:
                        change = bytes
                if data:
                    changed = change(data)
                    if changed is None:
                        break
                    target.sendall(changed)
        for sock in (source, target):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
