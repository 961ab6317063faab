"""What holds for wscheck's areas of all servers: no false alarm in any layout, and no file that it fails of."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from django_wsredis.checks import apache, gunicorn, haproxy, uwsgi
from django_wsredis.checks.own_hosts import need_the_host
from django_wsredis.checks.processes import running
from django_wsredis.checks.programs import Patience, find_program

from .layouts import LAYOUTS, Layout, uwsgi_programs
from .looking import look, problems
from .servers import RedisServer, missing


class Written(Layout):
    """A layout of which only the files are written."""

    def run_site(self, *command: str | Path) -> Any:
        return self

    def run_proxy(self, *command: str) -> Any:
        return self

    def wait_for(self, pattern: str) -> None:
        """Nothing has been started."""


def files(folder: Path) -> Iterator[tuple[ModuleType, Path]]:
    """Yield each file with the area that it is for."""
    yield from ((uwsgi, path) for path in folder.glob("*.ini"))
    for area, name in ((gunicorn, "gunicorn.conf.py"), (apache, "apache2.conf"), (haproxy, "tests.haproxy.cfg")):
        if (folder / name).is_file():
            yield area, folder / name


@pytest.mark.parametrize("start", LAYOUTS, ids=lambda start: start.__name__)
def test_no_layout_has_a_problem(
    shared_redis: RedisServer, folder: Path, monkeypatch: pytest.MonkeyPatch, start: Callable[[Layout], None]
) -> None:
    monkeypatch.setattr(uwsgi, "find_program", lambda *names: next(uwsgi_programs(), None) or missing("no uwsgi"))
    folder.chmod(0o777)
    layout = Written(folder, shared_redis)
    start(layout)
    seen = list(files(folder))
    assert seen or start.__name__.startswith("runwsserver_behind_nginx")
    for area, path in seen:
        assert problems(look(area, path, layout.settings)) == []


# No file makes it fail

WORDS = re.findall(
    r"\S+",
    r"""
[uwsgi] [ ] = ini = yaml: : %( %d %(x) if-env = endif if-opt for-times for gevent http https route ^/ws (
emperor = . listen = x module = . <VirtualHost *:80> </VirtualHost> <Location /ws/> </Location> <IfModule !x>
</IfModule> < > <> </ ProxyPass
ProxyPassMatch RewriteEngine On RewriteRule RewriteCond %{HTTP:Upgrade} [P] [ $1 ^(.*)$ ( Include ServerRoot
LoadModule Define ${ Timeout balancer://x http://[ unix:/x| timeout=x retry=x upgrade=websocket MaxRequestWorkers
ServerName ! " global defaults frontend backend listen from use_backend default_backend acl path_beg path_reg hdr(
hdr(host) { } ! || or if unless http-request set-path replace-path %[path,regsub(( set-header del-header Host timeout
tunnel client 5 maxconn server mode http tcp option redirect deny \ ' # -m -f -i / /ws/ x 0 é
""",
)


@pytest.mark.parametrize(
    ("area", "name"),
    [(uwsgi, "a.ini"), (uwsgi, "a.yaml"), (uwsgi, "a.xml"), (uwsgi, "a.json"), (apache, "a.conf"), (haproxy, "a.cfg")],
)
@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(lines=st.lists(st.lists(st.sampled_from(WORDS), max_size=7).map(" ".join), max_size=25))
def test_no_file_makes_it_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, area: ModuleType, name: str, lines: list[str]
) -> None:
    monkeypatch.setattr(area, "find_program", lambda *names: None)
    path = tmp_path / name
    heads = {"a.ini": "[uwsgi]\n", "a.yaml": "uwsgi:\n", "a.cfg": "frontend f\n mode http\n", "a.xml": "<uwsgi>"}
    head = heads.get(name, "")
    path.write_text(head + "\n".join(lines))
    for row in look(area, path):
        assert row.checked
        for problem in row.problems:
            assert problem.id in area.TITLES
            assert problem.hint


HALF = {
    apache: [
        "ProxyPass / http://[ upgrade=websocket",
        "ProxyPass / balancer://[/",
        "ProxyPassMatch ( x\nProxyPass\nProxyPass /",
        '<Location ~ "(">\nProxyPass x\n</Location>\nServerRoot\nInclude x\nDefine\nLoadModule\n',
        "RewriteEngine On\nRewriteCond a b\nRewriteCond\nRewriteRule . -[P]\nRewriteRule ^(.*)$ $1 [P]",
        "MaxRequestWorkers ²\nProxyPass / http://h/ timeout=999999999999999999999",
        "<VirtualHost>\nServerName\nProxyPass / x\n<\n<>\n</\n",
    ],
    haproxy: [
        "frontend f\n use_backend\n http-request\n redirect\n acl\n default_backend\n option\n mode",
        "listen a\n mode http\n server\n server x maxconn\n http-request set-path\n http-request replace-path ( x",
        "listen a\n mode http\n server\n http-request set-header\n http-request del-header\n http-request",
        "frontend f from\ndefaults from\nfrontend\nglobal\n maxconn ²\n maxconn",
        "frontend f\n mode http\n use_backend x if {\n use_backend x if { hdr(host) -m }\n use_backend y if {",
        "frontend f\n mode http\n default_backend b\nbackend b\n http-request replace-path . \\9\n timeout tunnel",
    ],
    uwsgi: [
        "[uwsgi]\nlisten = ²\nmodule=\nroute = ( uwsgi:",
        "[uwsgi]\nini=:\nini=\nini=::\nyaml=x\nemperor=\0\nini=\0\nwsgi-file=\0",
        "[uwsgi]\nmodule=.:.\nhttp=\nhttps=\nsocket=\nharakiri = x\nbuffer-size = -5",
        "[uwsgi]\nmodule = sys:exit\nemperor = /tmp\nlisten = 99999999999999999999\nx = %(%(a))",
    ],
}


@pytest.mark.parametrize(("area", "text"), [(area, text) for area, texts in HALF.items() for text in texts])
def test_nothing_that_is_half_written_makes_it_fail(folder: Path, area: ModuleType, text: str) -> None:
    path = folder / "a.ini"
    path.write_text(text)
    assert all(row.verdict for row in look(area, path))


@pytest.mark.parametrize("area", [uwsgi, gunicorn, apache, haproxy])
def test_no_bytes_no_folder_and_no_permission_make_it_fail(folder: Path, area: ModuleType) -> None:
    path = folder / "a.ini"
    path.write_bytes(b"\xff\xfe\0[uwsgi]\n\x80=\x81\n")
    assert look(area, path)
    assert look(area, folder)
    assert look(area, folder / "nowhere")


# Programs


def test_a_program_is_asked_and_not_waited_for(folder: Path) -> None:
    program = folder / "program"
    program.write_text("#!/bin/sh\necho\necho said\necho more >&2\nexit 3\n")
    program.chmod(0o755)
    answer = Patience().ask(program)
    assert (answer.status, answer.first_line) == (3, "said")
    program.write_text("#!/bin/sh\nsleep 61 & sleep 62\n")
    patience = Patience(0.3)
    for _ in range(3):
        assert patience.ask(program).status is None
    asked = [process.arguments for process in running("sleep")]
    assert ["61"] not in asked
    assert Patience().ask(folder / "nowhere").status is None
    assert Patience().ask(folder).status is None


def test_programs_are_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_program("no-such-program") is None
    shell = shutil.which("sh")
    assert str(find_program("no-such-program", "sh")) == shell


# Secrets, and names


def test_no_password_is_shown(folder: Path) -> None:
    def told(area: ModuleType, text: str) -> str:
        path = folder / "a.ini"
        path.write_text(text)
        return repr(look(area, path))

    proxy = "ProxyPass / http://user:opensesame@h/ secret=opensesame\n"
    route = "[uwsgi]\nroute = ^/ basicauth:realm,user:opensesame\nroute = ^/ uwsgi:x,0,0\n"
    for text in (told(apache, proxy), told(uwsgi, route)):
        assert "wsredis." in text
        assert "opensesame" not in text


@pytest.mark.parametrize(
    ("given", "needed"),
    [
        ({}, True),
        ({"USE_X_FORWARDED_HOST": True}, False),
        ({"ALLOWED_HOSTS": ["example.com"], "CSRF_TRUSTED_ORIGINS": ["https://example.com:8443"]}, False),
        ({"ALLOWED_HOSTS": ["example.com"], "CSRF_TRUSTED_ORIGINS": ["https://app.example.com"]}, True),
        ({"ALLOWED_HOSTS": [".example.com"], "CSRF_TRUSTED_ORIGINS": ["https://example.com"]}, False),
        ({"ALLOWED_HOSTS": ["*"], "CSRF_TRUSTED_ORIGINS": ["https://example.com"]}, True),
        ({"ALLOWED_HOSTS": [], "CSRF_TRUSTED_ORIGINS": ["https://example.com"]}, True),
    ],
)
def test_whether_a_proxy_must_pass_on_the_host(given: dict[str, Any], needed: bool) -> None:
    with override_settings(**given):
        assert need_the_host() is needed
