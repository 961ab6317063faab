"""The tests' project under a WSGI server that is not ours, started by hand as its own documentation does."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import Any

from .layouts import find_uwsgi
from .servers import ROOT, Process, RedisServer, Site, free_port, wait_until

GUNICORN = [sys.executable, "-m", "gunicorn", "tests.project.wsgi", "--access-logfile", "-", "--bind"]
UWSGI = ["--module", "tests.project.wsgi", "--pythonpath", str(ROOT), "--virtualenv", sys.prefix, "--need-app"]
UWSGI += ["--master", "--die-on-term", "--lazy-apps", "--buffer-size", "32768", "--http-socket"]

# host → what comes after the address
OPTIONS = {
    "uwsgi gevent": ["--gevent", "100"],
    "uwsgi threads": ["--threads", "8"],
    "gunicorn gevent": ["--worker-class", "gevent"],
    "gunicorn gthread": ["--worker-class", "gthread", "--threads", "8"],
}


class HostedSite(Site):
    """uWSGI or gunicorn, by default with one worker."""

    def __init__(
        self, host: str, redis_server: RedisServer, database: Path, settings: dict[str, Any], workers: int = 1
    ) -> None:
        self.keeps_alive = host.startswith("gunicorn")  # uWSGI's --http-socket closes after each response
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        given = {
            "TEST_DATABASE": str(database),
            "TEST_REDIS_URL": redis_server.url,
            "TEST_SETTINGS": json.dumps(settings),
            "DJANGO_SETTINGS_MODULE": "tests.project.settings",
            "PYTHONUNBUFFERED": "1",
        }
        program = GUNICORN if self.keeps_alive else [str(find_uwsgi()), *UWSGI]
        number = ["--workers", str(workers)]  # uWSGI knows this name of its --processes, too
        command = [*program, f"127.0.0.1:{self.port}", *OPTIONS[host], *number]
        Process.__init__(self, command, env={**os.environ, **given}, cwd=ROOT)
        wait_until(self._answers, 30, f"an answer of {host}; so far:\n{self.output}\n")

    def _answers(self) -> bool:
        try:
            return self.get("hello/")[0] == 404
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """The worker's."""
        found = re.findall(r"spawned uWSGI worker 1 \(pid: (\d+)|Booting worker with pid: (\d+)", self.output)
        return int("".join(found[-1])) if found else self.popen.pid
