"""Every layout of the deployment guide, run by the real servers with exactly what `wscheck --emit` prints.

A configuration is wrapped only in what a distribution's main file has: `events {}` and `http {}`, LoadModule lines,
HAProxy's sections "global" and "defaults".
"""

from __future__ import annotations

import functools
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.test import override_settings
from websockets.sync.client import ClientConnection, connect

from .conftest import DATABASE
from .rawsocket import RawSocket
from .servers import ROOT, Process, RedisServer, children, free_port, missing, wait_until
from .tls import trust

TIMEOUT = 4  # seconds after which the proxies cut what is silent; sockets are pinged each second
PASSWORD = "opensesame"
SECRET = "secret"  # the facility that Redis refuses to the site, for its 503
MIME_TYPES = "/etc/nginx/mime.types"
APACHE_MODULES = Path("/usr/lib/apache2/modules")


def settings_of(folder: Path, redis_server: RedisServer) -> dict[str, Any]:
    """Return the settings of the site, and see that its Redis knows its user."""
    with redis_server.client() as client:
        allowed = "on >{} ~* +@all resetchannels &wsredis:everywhere &wsredis:*:layout*"
        client.execute_command("ACL", "SETUSER", "layouts", *allowed.format(PASSWORD).split())
    return {
        "STATIC_ROOT": str(folder / "static"),
        "MIDDLEWARE": [
            "django.middleware.common.CommonMiddleware",
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        "DATA_UPLOAD_MAX_MEMORY_SIZE": 4 * 1024 * 1024,
        "WSREDIS": {
            "URL": f"unix://layouts:{PASSWORD}@{redis_server.socket}",
            "ALLOWED_CHANNELS": "tests.project.callbacks.everything",
            "PING_INTERVAL": 1,
            "PING_TIMEOUT": 60,  # the thousand sockets of `crowd()` never answer
            "DRAIN_SECONDS": 1,
        },
    }


def as_nobody() -> dict[str, Any]:
    """Return what makes a child an ordinary user, where we are none."""
    return {"user": "nobody", "group": "nogroup", "extra_groups": []} if os.geteuid() == 0 else {}


def in_group() -> dict[str, Any]:
    """Return what lets nobody reach the sockets of a site that runs as root, as the group www-data does elsewhere."""
    return {"group": "nogroup"} if os.geteuid() == 0 else {}


class Layout:
    """A site in one of the layouts: browsers meet it at `port`."""

    python = [sys.executable, "-X", "dev", "-W", "error"]  # that runs our own server
    workers = 1  # that take websockets
    has_static = False
    cuts_silence = False  # whether there is a proxy that cuts what is silent for TIMEOUT
    tls: ssl.SSLContext | None = None

    def __init__(self, folder: Path, redis_server: RedisServer) -> None:
        self.folder = folder
        self.settings = settings_of(folder, redis_server)
        self.port = free_port()
        self.proxies: list[Process] = []
        self.sites: list[Process] = []  # those that run Django

    # Starting

    def emit(self, kind: str, *options: str) -> list[Path]:
        """Have a configuration written into the folder; return its files."""
        output = io.StringIO()
        with override_settings(**self.settings):
            call_command("wscheck", "--emit", kind, "--output", str(self.folder), *options, stdout=output)
        return [Path(line) for line in output.getvalue().splitlines()]

    def collect_static(self) -> None:
        with override_settings(STATIC_ROOT=self.settings["STATIC_ROOT"]):
            call_command("collectstatic", interactive=False, verbosity=0)
        self.has_static = True

    @property
    def environment(self) -> dict[str, str]:
        given = {"TEST_DATABASE": str(DATABASE), "TEST_SETTINGS": json.dumps(self.settings), "PYTHONUNBUFFERED": "1"}
        return {**os.environ, **given}

    def run_site(self, *command: str | Path) -> Process:
        """Start a server that runs Django."""
        process = Process(list(map(str, command)), cwd=self.folder, env=self.environment, **in_group())
        self.sites.append(process)
        return process

    def run_proxy(self, *command: str) -> Process:
        """Start a server in front of it, as an ordinary user."""
        process = Process(list(command), cwd=self.folder, **as_nobody())
        self.proxies.append(process)
        return process

    def wait_until_ready(self) -> None:
        def answers() -> bool:
            for process in (*self.sites, *self.proxies):
                assert process.popen.poll() is None, process.output
            try:
                return self.get() == (200, "hello") and not self._is_loading()
            except OSError:
                return False

        wait_until(answers, 30, f"an answer of the site; so far:\n{self.output}\n")

    def _is_loading(self) -> bool:
        """Tell whether a worker of uWSGI has yet to load Django: it would be interrupted there, with a traceback."""
        if "uWSGI Emperor" in self.output:  # whose own worker loads nothing
            return False
        found = re.findall(r"spawned uWSGI (worker) \d|WSGI app \d+ .* (ready) in", self.output)
        words = [worker or ready for worker, ready in found]
        return words[:1] == ["worker"] and words.count("ready") < words.count("worker")  # else it was loaded before

    def stop(self) -> None:
        for process in (*self.proxies, *self.sites):
            process.stop(seconds=20)

    # Looking

    @property
    def output(self) -> str:
        return "\n".join(process.output for process in (*self.sites, *self.proxies))

    @property
    def lines(self) -> list[str]:
        """What the servers that run Django have said."""
        return [line for process in self.sites for line in process.lines]

    def pids(self) -> list[int]:
        """Return the processes that run Django, with their masters; uWSGI's routers are none of them."""
        routers = {int(pid) for pid in re.findall(r"spawned uWSGI http \d+ \(pid: (\d+)\)", self.output)}
        found = {site.pid for site in self.sites}
        for site in self.sites:
            found.update(children(site.pid))
        return sorted(found - routers)

    def descriptors(self) -> int:
        return sum(len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids())

    def cpu_seconds(self) -> float:
        """Return what all processes of the layout have used."""
        total = 0.0
        for process in (*self.sites, *self.proxies):
            for pid in (process.pid, *children(process.pid)):
                try:
                    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
                except OSError:  # Apache ends the processes that it no longer needs
                    continue
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        return total

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Stop the processes that run Django, so that nothing is pinged."""
        pids = self.pids()
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    # Using

    @property
    def origin(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}"

    def connect(self, path: str, *, cookie: str | None = None, **options: Any) -> ClientConnection:
        """Return an open websocket; `path` is the facility with its query."""
        headers = {"Cookie": f"sessionid={cookie}"} if cookie else {}
        given = {"compression": None, "ping_interval": None, "proxy": None, "max_size": None, "ssl": self.tls}
        uri = f"{'wss' if self.tls else 'ws'}://127.0.0.1:{self.port}/ws/{path}"
        return connect(uri, additional_headers=headers, **given, **options)

    def raw(self, path: str, headers: dict[str, str | None] | None = None, **options: Any) -> RawSocket:
        return RawSocket(self.port, path, headers, tls=self.tls, **options)

    def get(self, path: str = "", *, cookie: str | None = None, body: bytes | None = None) -> tuple[int, str]:
        """Return the status and the text of a page."""
        options = {"timeout": 20}
        if self.tls:
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, context=self.tls, **options)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, **options)
        headers = {"Cookie": f"sessionid={cookie}"} if cookie else {}
        try:
            connection.request("POST" if body else "GET", f"/{path}", body, headers)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()


# Programs


def uwsgi_programs() -> Iterator[Path]:
    """Yield each uWSGI: the one beside Python, then those on PATH."""
    for folder in (str(Path(sys.executable).parent), *os.environ.get("PATH", "").split(os.pathsep)):
        if (program := Path(folder, "uwsgi")).is_file():
            yield program


NEEDS = {
    "--route": "PCRE: install libpcre2-dev, and build uWSGI again",
    "--https": "TLS: install libssl-dev, and build uWSGI again",
    "--https-socket": "TLS: install libssl-dev, and build uWSGI again",
}


@functools.cache
def uwsgi_help(program: Path) -> str:
    return subprocess.run([program, "--help"], capture_output=True, text=True, timeout=30).stdout


def is_pyuwsgi(program: Path) -> bool:
    """Tell whether it is the wheel: a script that imports an extension module."""
    return program.read_bytes()[:2] == b"#!"


def find_uwsgi(*options: str) -> Path:
    """Return a uWSGI that knows some options, rather a compiled one than the wheel."""
    programs = sorted(uwsgi_programs(), key=is_pyuwsgi)
    for program in programs:
        if all(re.search(rf"^\s+{option}\s", uwsgi_help(program), re.M) for option in ("--gevent", *options)):
            return program
    needs = "".join(f"; {option} needs {NEEDS[option]}" for option in options if option in NEEDS)
    return missing(f"no uwsgi with {' '.join(('--gevent', *options))} among {list(map(str, programs))}{needs}")


def find_program(name: str) -> str:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin") or missing(f"no {name} on PATH")


def certificate(folder: Path) -> tuple[Path, Path]:
    """Return a certificate of 127.0.0.1 that is its own authority, and its key."""
    cert, key = folder / "cert.pem", folder / "key.pem"
    command = [find_program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", cert]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    key.chmod(0o644)
    return cert, key


# Servers that run Django


def run_uwsgi(layout: Layout, program: Path, *options: str) -> Process:
    """Start uWSGI with what is printed for it."""
    (ini,) = layout.emit("uwsgi", *options)
    ini = ini.rename(layout.folder / f"uwsgi{len(layout.sites)}.ini")  # of several, each has its own
    return layout.run_site(program, "--ini", ini)


def run_gunicorn(layout: Layout, *options: str, worker_class: str = "gthread") -> Process:
    (config,) = layout.emit("gunicorn", *options)
    return layout.run_site(sys.executable, "-m", "gunicorn", "-c", config, "-k", worker_class)


def run_runwsserver(layout: Layout, *options: str) -> Process:
    manage = ROOT / "tests/project/manage.py"
    process = layout.run_site(*layout.python, manage, "runwsserver", *options)
    process.wait_for(r"^Serving .* at ")
    return process


# Proxies: each returns its command with the arguments that name its main file, which has the printed one inside


def nginx(folder: Path, site: Path) -> list[str]:
    names = ("client_body", "proxy", "uwsgi", "fastcgi", "scgi")
    temporary = "".join(f"    {name}_temp_path {folder}/temporary_{name};\n" for name in names)
    main = folder / "nginx.conf"
    main.write_text(
        f"daemon off;\nworker_processes 1;\nworker_rlimit_nofile 4096;\npid {folder}/nginx.pid;\n"
        "error_log stderr;\nevents { worker_connections 4096; }\n"
        f"http {{\n{temporary}    access_log off;\n    include {MIME_TYPES};\n    include {site};\n}}\n"
    )
    return [find_program("nginx"), "-p", str(folder), "-e", "stderr", "-c", str(main)]


def apache(folder: Path, site: Path) -> list[str]:
    names = ["mpm_event", "authz_core", "mime", "alias", "headers", "socache_shmcb", "ssl", "proxy", "proxy_http"]
    main = folder / "apache2.conf"
    main.write_text(
        "".join(f"LoadModule {name}_module {APACHE_MODULES}/mod_{name}.so\n" for name in names)
        + f"ServerRoot {folder}\nPidFile {folder}/apache2.pid\nServerName localhost\n"
        f"ErrorLog {folder}/apache2.log\nTypesConfig /dev/null\nInclude {site}\n"
    )
    return [find_program("apache2"), "-f", str(main)]


def haproxy(folder: Path, site: Path) -> list[str]:
    main = folder / "haproxy.cfg"
    main.write_text("global\n    maxconn 4000\n    log stderr local0 notice\n\ndefaults\n    log global\n")
    return [find_program("haproxy"), "-f", str(main), "-f", str(site)]


# proxy → (its command, what has its own checker read the files, what keeps it in the foreground)
PROXIES: dict[str, tuple[Callable[[Path, Path], list[str]], list[str], list[str]]] = {
    "nginx": (nginx, ["-t"], []),
    "apache": (apache, ["-t"], ["-DFOREGROUND"]),
    "haproxy": (haproxy, ["-c"], ["-db"]),
}


def check(kind: str, folder: Path, site: Path) -> None:
    """Have a proxy's own checker read what was printed, as an ordinary user; it has nothing to complain about."""
    command, checking, _ = PROXIES[kind]
    done = subprocess.run(
        [*command(folder, site), *checking], cwd=folder, capture_output=True, text=True, timeout=30, **as_nobody()
    )
    said = done.stdout + done.stderr
    assert done.returncode == 0, said
    assert not re.search(r"\[warn\]|\[WARNING\]|\bAH\d+", said), said


def run_proxy(layout: Layout, kind: str, *options: str, change: Callable[[str], str] = str) -> None:
    """Start a proxy with what is printed for it, after its own checker has read that."""
    (site,) = layout.emit(kind, "--listen", f"127.0.0.1:{layout.port}", *options)
    site.write_text(change(site.read_text()))
    check(kind, layout.folder, site)
    command, _, foreground = PROXIES[kind]
    layout.run_proxy(*command(layout.folder, site), *foreground)


# Layouts: each starts its servers

TIMED = ("--timeout", str(TIMEOUT))


def uwsgi_alone(layout: Layout) -> None:
    layout.collect_static()
    layout.cuts_silence = True
    listen = f"127.0.0.1:{layout.port}"
    run_uwsgi(layout, find_uwsgi(), "--listen", listen, "--router", "--workers", "1", *TIMED)


def uwsgi_threads(layout: Layout) -> None:
    layout.collect_static()
    layout.workers = 2
    run_uwsgi(layout, find_uwsgi(), "--listen", f"127.0.0.1:{layout.port}", "--threads", "4")


def uwsgi_twice_behind_nginx(layout: Layout) -> None:
    """One for Django's pages, one for websockets."""
    layout.collect_static()
    layout.workers = 2
    layout.cuts_silence = True
    pages, websockets = layout.folder / "pages.sock", layout.folder / "ws.sock"
    run_uwsgi(layout, find_uwsgi(), "--listen", f"uwsgi://{pages}", "--threads", "2")
    run_uwsgi(layout, find_uwsgi(), "--listen", str(websockets))
    run_proxy(layout, "nginx", "--upstream", f"uwsgi://{pages}", "--ws-upstream", str(websockets), *TIMED)


def uwsgi_behind_nginx(layout: Layout) -> None:
    """What we recommend."""
    layout.collect_static()
    layout.workers = 2
    layout.cuts_silence = True
    address = f"uwsgi://{layout.folder}/uwsgi.sock"
    run_uwsgi(layout, find_uwsgi(), "--listen", address)
    run_proxy(layout, "nginx", "--upstream", address, *TIMED)


def uwsgi_behind_apache(layout: Layout) -> None:
    """With a ProxyPass for websockets alone, as the guide has it."""
    layout.collect_static()
    layout.workers = 2
    layout.cuts_silence = True
    address = f"127.0.0.1:{free_port()}"
    run_uwsgi(layout, find_uwsgi(), "--listen", address)
    run_proxy(layout, "apache", "--upstream", address, "--ws-upstream", address, "--sockets", "1200", *TIMED)


def uwsgi_emperor(layout: Layout) -> None:
    layout.collect_static()
    folder = layout.folder
    sockets = ("--upstream", f"uwsgi://{folder}/pages.sock", "--ws-upstream", f"uwsgi://{folder}/ws.sock")
    program = find_uwsgi("--route")
    ini, *_ = layout.emit("uwsgi-emperor", "--listen", f"127.0.0.1:{layout.port}", *sockets)
    layout.run_site(program, "--ini", ini)


def uwsgi_https(layout: Layout) -> None:
    layout.collect_static()
    layout.workers = 2
    layout.cuts_silence = True
    cert, key = certificate(layout.folder)
    layout.tls = trust(cert)
    listen = ("--listen", f"127.0.0.1:{layout.port}", "--certfile", str(cert), "--keyfile", str(key))
    run_uwsgi(layout, find_uwsgi("--https"), *listen, *TIMED)


def pyuwsgi(layout: Layout) -> None:
    program = next((program for program in uwsgi_programs() if is_pyuwsgi(program)), None)
    layout.workers = 2
    listen = ("--listen", f"127.0.0.1:{layout.port}")
    run_uwsgi(layout, program or missing("no uwsgi of the pyuwsgi wheel"), *listen)


def gunicorn_gevent(layout: Layout) -> None:
    layout.workers = 2
    run_gunicorn(layout, "--listen", f"127.0.0.1:{layout.port}", worker_class="gevent")


def gunicorn_threads(layout: Layout) -> None:
    layout.workers = 2
    run_gunicorn(layout, "--listen", f"127.0.0.1:{layout.port}")


def gunicorn_behind_nginx(layout: Layout) -> None:
    layout.collect_static()
    layout.workers = 2
    layout.cuts_silence = True
    path = str(layout.folder / "g.sock")
    run_gunicorn(layout, "--listen", path)
    run_proxy(layout, "nginx", "--upstream", path, *TIMED)


def runwsservers_behind_haproxy(layout: Layout) -> None:
    layout.workers = 4
    layout.cuts_silence = True
    addresses = [f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"]
    for address in addresses:
        run_runwsserver(layout, address, "--workers", "2")
    run_proxy(layout, "haproxy", *(f"--upstream={address}" for address in addresses), *TIMED)


def uwsgi_twice_behind_haproxy(layout: Layout) -> None:
    """One for Django's pages, one for websockets."""
    layout.workers = 2
    layout.cuts_silence = True
    pages, websockets = f"127.0.0.1:{free_port()}", f"127.0.0.1:{free_port()}"
    run_uwsgi(layout, find_uwsgi(), "--listen", pages, "--threads", "2")
    run_uwsgi(layout, find_uwsgi(), "--listen", websockets)
    run_proxy(layout, "haproxy", "--upstream", pages, "--ws-upstream", websockets, *TIMED)


def runwsserver_behind_apache(layout: Layout) -> None:
    layout.collect_static()
    layout.workers = 2
    layout.cuts_silence = True
    address = f"127.0.0.1:{free_port()}"
    run_runwsserver(layout, address, "--workers", "2")
    run_proxy(layout, "apache", "--upstream", address, "--sockets", "1200", *TIMED)


def runwsserver_behind_nginx_on_tcp(layout: Layout) -> None:
    layout.collect_static()
    layout.workers = 2
    layout.cuts_silence = True
    address = f"127.0.0.1:{free_port()}"
    run_runwsserver(layout, address, "--workers", "2")
    run_proxy(layout, "nginx", "--upstream", address, *TIMED)


def runwsserver_behind_nginx_on_a_unix_socket(layout: Layout) -> None:
    layout.collect_static()
    layout.workers = 2
    layout.cuts_silence = True
    path = str(layout.folder / "site.sock")
    run_runwsserver(layout, "--unix", path, "--umask", "007", "--workers", "2")
    run_proxy(layout, "nginx", "--upstream", path, *TIMED)


LAYOUTS: list[Callable[[Layout], None]] = [
    uwsgi_alone,
    uwsgi_threads,
    uwsgi_twice_behind_nginx,
    uwsgi_behind_nginx,
    uwsgi_behind_apache,
    uwsgi_emperor,
    uwsgi_https,
    pyuwsgi,
    gunicorn_gevent,
    gunicorn_threads,
    gunicorn_behind_nginx,
    uwsgi_twice_behind_haproxy,
    runwsservers_behind_haproxy,
    runwsserver_behind_apache,
    runwsserver_behind_nginx_on_tcp,
    runwsserver_behind_nginx_on_a_unix_socket,
]


@contextmanager
def running(
    start: Callable[[Layout], None], folder: Path, redis_server: RedisServer, kind: type[Layout] = Layout
) -> Iterator[Layout]:
    """Run a layout in a folder, which becomes that of the ordinary user."""
    folder.chmod(0o755)
    if os.geteuid() == 0:
        shutil.chown(folder, "nobody", "nogroup")
    layout = kind(folder, redis_server)
    try:
        start(layout)
        layout.wait_until_ready()
        yield layout
    finally:
        layout.stop()


def crowd(layout: Layout, count: int, path: str) -> Iterator[socket.socket]:
    """Yield open websockets that cost neither a thread nor a reader; their handshakes overlap."""
    request = (
        f"GET /ws/{path} HTTP/1.1\r\nHost: 127.0.0.1:{layout.port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    ).encode()
    for first in range(0, count, 50):
        batch = []
        for _ in range(first, min(first + 50, count)):
            sock = socket.create_connection(("127.0.0.1", layout.port), timeout=30)
            if layout.tls:
                sock = layout.tls.wrap_socket(sock, server_hostname="127.0.0.1")
            sock.sendall(request)
            batch.append(sock)
        for sock in batch:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                byte = sock.recv(1)
                assert byte, head
                head += byte
            assert head.startswith(b"HTTP/1.1 101 "), head
            yield sock


def read_frames(sock: socket.socket, until: bytes, seconds: float = 15) -> bytes:
    """Return what comes on a socket, pings and all, until what is waited for is in it."""
    deadline = time.monotonic() + seconds
    received = b""
    while until not in received:
        assert time.monotonic() < deadline, received
        data = sock.recv(4096)
        assert data, received
        received += data
    return received
