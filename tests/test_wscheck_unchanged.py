"""`manage.py wscheck` changes nothing: no file of a project, none beside it, and nothing in Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from django_wsredis.checks.areas import MODULES

from .servers import ROOT, RedisServer

SETTINGS = """\
from pathlib import Path
BASE_DIR = Path(__file__).parent
SECRET_KEY, ALLOWED_HOSTS = "x", ["example.com"]
INSTALLED_APPS = ["django_wsredis", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": BASE_DIR / "db.sqlite3"}}
ROOT_URLCONF, WSGI_APPLICATION = "shop_urls", "shop_wsgi.application"
WSREDIS = {"URL": "REDIS_URL", "EXPIRE": 600, "ALLOWED_CHANNELS": "shop_urls.allowed"}
"""
MANAGE = """\
import os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "shop_settings"
from django.core.management import execute_from_command_line
execute_from_command_line(sys.argv)
"""
URLS = "urlpatterns = []\ndef allowed(request, channels):\n    return channels\n"
WSGI = "import os\nfrom django_wsredis.wsgi import get_wsgi_application\napplication = get_wsgi_application()\n"
NGINX = """\
pid {folder}/nginx.pid;
error_log {folder}/logs/error.log;
events {{}}
http {{
    access_log {folder}/logs/access.log;
    client_body_temp_path {folder}/body;
    {site}
}}
"""
FILES = {"nginx": "nginx.conf", "uwsgi": "uwsgi.ini", "gunicorn": "gunicorn.conf.py", "apache": "site.conf"}
FILES |= {"haproxy": "haproxy.cfg"}


class Project:
    """A project in a folder, with the configurations that wscheck prints for it."""

    def __init__(self, folder: Path, redis_url: str) -> None:
        self.folder = folder
        files = {"settings": SETTINGS.replace("REDIS_URL", redis_url), "urls": URLS, "wsgi": WSGI}
        for name, text in files.items():
            (folder / f"shop_{name}.py").write_text(text)
        (folder / "manage.py").write_text(MANAGE)
        (folder / "logs").mkdir()
        self.manage("migrate", "-v0")
        for kind, name in FILES.items():
            text = self.manage("wscheck", "--emit", kind)
            (folder / name).write_text(NGINX.format(folder=folder, site=text) if kind == "nginx" else text)

    def manage(self, *arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            cwd=self.folder, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        assert done.returncode == 0 or arguments[0] == "wscheck", done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout

    def found(self) -> dict[Path, Any]:
        """Return what is there: of files the text, of all when it changed, and who may read it."""
        found = {}
        for path in [self.folder, *self.folder.rglob("*")]:
            status = path.lstat()
            content = path.read_bytes() if path.is_file() else b""
            found[path] = (content, status.st_mtime_ns, status.st_ctime_ns, status.st_mode)
        return found


def stored(server: RedisServer) -> dict[str, Any]:
    """Return all that is in Redis, and how it is set up."""
    with server.client() as client:
        keys = client.keys("*")
        values = {key: (client.dump(key), client.ttl(key)) for key in keys}
        return {"size": client.dbsize(), "values": values, "config": client.config_get("*"), "acl": client.acl_list()}


@pytest.mark.parametrize("options", [[], ["--json", "--fail-level", "warning"]])
def test_nothing_changes(redis_server: RedisServer, folder: Path, options: list[str]) -> None:
    project = Project(folder, redis_server.url)
    with redis_server.client() as client:
        client.set("another:application", "x")
        client.xadd("wsredis:broadcast:news", {"m": "kept"})
        client.hset("wsredis:cache:1", "not", "ours")
    named = [f"--{kind}-conf={folder / name}" for kind, name in FILES.items()]
    before, before_in_redis = project.found(), stored(redis_server)
    text = project.manage("wscheck", *named, *options)
    assert project.found() == before
    assert stored(redis_server) == before_in_redis
    if options:  # all was looked at
        areas = {area["name"]: area["rows"] for area in json.loads(text)["areas"]}
        seen = [area for area, rows in areas.items() if any(row["verdict"] != "not checked" for row in rows)]
        assert seen == [area for area in MODULES if area != "live"]
        assert [row["verdict"] for row in areas["redis"] if row["checked"] == "message"] == ["ok"]


def test_a_change_would_be_seen(redis_server: RedisServer, folder: Path) -> None:
    project = Project(folder, redis_server.url)
    before, before_in_redis = project.found(), stored(redis_server)
    (folder / "logs/x").touch()
    (folder / "logs/x").unlink()
    assert project.found() != before
    with redis_server.client() as client:
        client.set("x", "y")
    assert stored(redis_server) != before_in_redis
