"""The sample site in production, as docs/deploy.rst tells it: runwsserver behind a real NGiNX, seen by wscheck."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
from websockets.sync.client import ClientConnection, connect

from . import layouts
from .layouts import as_nobody
from .servers import ROOT, Process, RedisServer, free_port, wait_until


class Production:
    """The sample site's commands, each of which succeeds, and its servers."""

    manage = (sys.executable, str(ROOT / "sample_site/manage.py"))

    def __init__(self, folder: Path, redis_url: str) -> None:
        if os.geteuid() == 0:
            shutil.chown(folder, "nobody", "nogroup")  # NGiNX has files of its own there
        self.folder = folder
        self.port = free_port()  # of NGiNX
        self.processes: list[Process] = []
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "sample_site.production",
            "WSREDIS_URL": redis_url,
            "SAMPLE_SITE_DB": str(folder / "db.sqlite3"),
            "SAMPLE_SITE_STATIC": str(folder / "static"),
        }

    def run(self, *arguments: str) -> str:
        command = [*self.manage, *arguments]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=120, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, *command: str, **options: str) -> Process:
        self.processes.append(Process(list(command), cwd=self.folder, **options))
        return self.processes[-1]

    def start_all(self) -> None:
        """Do what the guide says, on other ports."""
        self.run("migrate")
        self.run("collectstatic", "--noinput")
        site = f"127.0.0.1:{free_port()}"
        self.start(*self.manage, "runwsserver", site, "--workers", "2", env=self.env).wait_for("Serving pages and web")
        conf = self.folder / "site.conf"
        options = ["--upstream", site, "--listen", f"127.0.0.1:{self.port}"]  # the guide's has port 80
        conf.write_text(self.run("wscheck", "--emit", "nginx", *options))
        self.start(*layouts.nginx(self.folder, conf), **as_nobody())
        wait_until(lambda: self.status_of("/") == 200, 30, "a page")

    def status_of(self, path: str) -> int:
        with closing(http.client.HTTPConnection("localhost", self.port, timeout=10)) as connection:
            try:
                connection.request("GET", path)
            except OSError:
                return 0
            return connection.getresponse().status


@pytest.fixture
def production(folder: Path, redis_server: RedisServer) -> Iterator[Production]:
    production = Production(folder, redis_server.url)
    try:
        production.start_all()
        yield production
    finally:
        for process in reversed(production.processes):
            process.stop()


def test_it_is_right_behind_nginx(production: Production) -> None:
    assert production.status_of("/static/django_wsredis/wsredis.js") == 200
    conf = str(production.folder / "nginx.conf")
    seen = production.run("wscheck", "--only", "nginx", "--nginx-conf", conf, "--fail-level", "warning")
    assert seen.rstrip().endswith("wscheck: no problem.")
    url = f"ws://localhost:{production.port}/ws/chat"
    seen = production.run("wscheck", "--only", "live", "--live", url, "--user", "alice", "--fail-level", "warning")
    assert seen.rstrip().endswith("wscheck: no problem.")


def test_people_meet_in_a_room_behind_nginx_whatever_worker_they_are_on(production: Production) -> None:
    url = f"ws://localhost:{production.port}/ws/rooms/lobby/"
    names = [f"Guest {number}" for number in range(6)]
    with ExitStack() as stack:
        people = [stack.enter_context(connect(url, proxy=None)) for _ in names]
        for name, person in zip(names, people, strict=True):
            person.send(json.dumps({"name": name, "color": "teal"}))
        everybody = {"guests": [{"name": name, "color": "teal"} for name in names]}
        for person in people:
            assert until(person, lambda message: message == everybody)
        people[0].send(json.dumps({"name": names[0], "color": "teal", "text": "hello"}))
        for person in people:
            assert until(person, lambda message: message.get("text") == "hello")["name"] == names[0]


def until(person: ClientConnection, is_it: Callable[[Any], bool]) -> Any:
    """Return the first message that is meant, of those that come from now on."""
    while not is_it(message := json.loads(person.recv(20))):
        pass
    return message
