"""wscheck's area apache: each mistake is found in its file, and most are shown in a real Apache."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_wsredis.checks import apache, kernel
from django_wsredis.checks.apache.program import inspect
from django_wsredis.checks.apache.reading import DirectiveTree, split
from django_wsredis.checks.apache.routing import rules

from . import layouts, looking
from .layouts import Layout, run_runwsserver
from .looking import Change, add, drop, emit, found, ids, look, problems, swap
from .servers import RedisServer, free_port

TWO = ["--ws-upstream", "127.0.0.1:8001"]


def write(folder: Path, options: list[str], change: Change = str) -> Path:
    """Return a main file that includes the printed one, with a change in it."""
    (site,) = emit("apache", folder, *options)
    site.write_text(change(site.read_text()))
    layouts.apache(folder, site)
    return folder / "apache2.conf"


@pytest.mark.parametrize(
    "options",
    [
        [],
        TWO,
        ["--upstream", "/run/x.sock"],
        ["--certfile", "/c.pem", "--keyfile", "/k.pem"],
        ["--upstream", "[::1]:8001", "--sockets", "9000", "--timeout", "90"],
    ],
    ids=" ".join,
)
@pytest.mark.parametrize(
    "settings",
    [{}, {"STATIC_ROOT": "/srv/static", "ALLOWED_HOSTS": ["example.com", ".example.org"]}, {"WEBSOCKET_URL": "/live/"}],
)
def test_what_is_printed_has_no_problem(folder: Path, options: list[str], settings: dict[str, Any]) -> None:
    with override_settings(**settings):
        rows = look(apache, write(folder, options), settings)
    looking.assert_all_is_well(rows)


CHANGES: list[tuple[str, list[str], Change]] = [
    ("E454", [], drop("ProxyPass")),
    ("E454", [], swap('ProxyPass "/" (.*)', r'ProxyPass "/ws/" "!"\n    ProxyPass "/" \1')),
    (
        "E454",
        TWO,
        lambda text: swap('ProxyPass "/" ', 'ProxyPass "/a/" ')(swap('ProxyPass "/ws/"', 'ProxyPass "/b/"')(text)),
    ),
    ("E455", [], swap(" upgrade=websocket", "")),
    ("E455", TWO, swap(" upgrade=websocket", "")),
    ("E456", TWO, swap(r'( *ProxyPass "/ws/".*\n)( *ProxyPass "/" .*\n)', r"\2\1")),
    ("E457", TWO, swap('8001/ws/"', '8001/"')),
    ("E457", TWO, swap('"/ws/" "', '"/ws" "')),
    ("E457", [], swap(':8000/"', ':8000"')),
    ("E458", [], drop("ProxyPreserveHost")),
    ("E458", [], swap("ProxyPreserveHost On", "ProxyPreserveHost Off")),
    ("E459", [], swap("^ *Timeout .*", "    Timeout 20")),
    ("I461", [], drop("MaxRequestWorkers")),
    ("W463", [], swap(" retry=0", "")),
]


@pytest.mark.parametrize(("id", "options", "change"), CHANGES)
def test_one_mistake_is_one_problem(folder: Path, id: str, options: list[str], change: Change) -> None:
    (folder / "right").mkdir()
    assert ids(look(apache, write(folder / "right", options))) == []
    path = write(folder, options, change)
    looking.assert_only(problems(look(apache, path)), id, folder / "tests.apache.conf")


@pytest.mark.parametrize(
    ("ids_", "change"),
    [
        (["E453"], swap("LoadModule proxy_http_module .*", "")),
        (["E453"], swap("LoadModule headers_module .*", "")),
        (["E453"], swap("LoadModule proxy_module .*", "")),
        (["W462"], swap("LoadModule mpm_event_module .*", "LoadModule mpm_prefork_module /x.so")),
    ],
)
def test_what_the_server_itself_lacks(folder: Path, ids_: list[str], change: Change) -> None:
    path = write(folder, [])
    path.write_text(change(path.read_text()))
    (problem,) = problems(look(apache, path))
    assert [problem.id.removeprefix("wsredis.")] == ids_


def test_e453_of_a_site_whose_main_file_is_elsewhere(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a site's own file the modules are those of the server."""
    write(folder, [])
    site = folder / "tests.apache.conf"
    main = folder / "main.conf"
    main.write_text("LoadModule mpm_event_module x\nTimeout 300\n")
    monkeypatch.setattr(apache, "MAIN_FILES", (str(main),))
    assert ids(look(apache, site)) == ["E453"]
    main.write_text(
        "".join(f"LoadModule {name}_module x\n" for name in ("mpm_event", "headers", "proxy", "proxy_http"))
    )
    assert ids(look(apache, site)) == []
    monkeypatch.setattr(apache, "MAIN_FILES", ())
    assert found(look(apache, site), "modules").is_skipped


def built_with(folder: Path, *files: str) -> Path:
    """Return an Apache that says what a real one says, with other modules inside."""
    there = folder / "apache2"
    listed = "\n".join(["Compiled in modules:", *(f"  {name}" for name in files)])
    there.write_text(f"#!/bin/sh\n[ $1 = -v ] && echo Server version: Apache/2.4.62 || echo '{listed}'\n")
    there.chmod(0o755)
    return there


INSIDE = ("core.c", "event.c", "mod_proxy.c", "mod_proxy_http.c", "mod_headers.c", "http_core.c")


@pytest.mark.parametrize("lacking", [None, "mod_proxy_http.c", "mod_headers.c"])
def test_modules_that_are_built_in_need_not_be_loaded(
    folder: Path, monkeypatch: pytest.MonkeyPatch, lacking: str | None
) -> None:
    path = write(folder, [])
    text = swap("LoadModule (?!mime_module).*", "")(path.read_text())
    path.write_text(text)
    inside = [name for name in INSIDE if name != lacking]
    monkeypatch.setattr(apache, "find_program", lambda *names: built_with(folder, *inside))
    rows = look(apache, path)
    assert ids(rows) == ([] if lacking is None else ["E453"])
    assert found(rows, "Apache").found == f"2.4.62, {folder}/apache2; {len(inside)} modules built in"
    assert found(rows, "MaxRequestWorkers").found.endswith("; mpm_event")
    monkeypatch.setattr(apache, "find_program", lambda *names: built_with(folder, "core.c"))
    assert ids(look(apache, path)) == ["E453"]
    monkeypatch.setattr(apache, "MAIN_FILES", ())
    path.write_text(drop("LoadModule")(text))  # then another file may load them
    assert found(look(apache, path), "modules").is_skipped
    monkeypatch.setattr(apache, "find_program", lambda *names: built_with(folder, *INSIDE))
    assert found(look(apache, path), "modules").found == "headers_module, proxy_http_module, proxy_module"


def test_a_real_apache_tells_what_is_built_in() -> None:
    """And what is in an <IfModule> of one of them holds."""
    found, row = inspect(Path(layouts.find_program("apache2")))
    assert {"so_module", "unixd_module"} <= found.modules
    assert found.version >= (2, 4)
    assert row.found.endswith(f"; {len(found.modules)} modules built in")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
def test_an_apache_of_somebody_else_is_not_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder, [])
    marker = folder / "marker"
    there = built_with(folder, "core.c")
    there.write_text(f"#!/bin/sh\ntouch {marker}\necho Apache/2.4.62\n")
    monkeypatch.setattr(apache, "find_program", lambda *names: there)
    shutil.chown(there, "nobody")
    row = found(look(apache, path), "Apache")
    assert row.is_skipped
    assert "belongs to the user nobody" in row.found
    assert not marker.exists()
    shutil.chown(there, "root")
    look(apache, path)
    assert marker.exists()


@pytest.mark.parametrize(
    ("target", "whom"),
    [
        ("http://127.0.0.1:8000/", "127.0.0.1:8000"),
        ("http://u:hunter2@h:80/", "h:80"),
        ("balancer://b/", "h:1, h:2"),
        ("unix:/run/x.sock|http://localhost/", ""),
    ],
)
def test_w555_ports_are_needed_by_tcp_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch, target: str, whom: str
) -> None:
    members = "<Proxy balancer://b>\nBalancerMember http://h:1\nBalancerMember http://h:2\n</Proxy>"
    path = write(folder, [], swap("ProxyPass .*", f'{members}\nProxyPass "/" "{target}" upgrade=websocket retry=0'))
    settings = {"WSREDIS": {**looking.SETTINGS["WSREDIS"], "MAX_SOCKETS": 1500}}
    assert ids(look(apache, path, settings)) == []
    monkeypatch.setattr(kernel, "port_range", lambda: range(50000, 51000))
    row = found(look(apache, path, settings), "ports")
    assert [problem.id for problem in row.problems] == ["wsredis.W555"] * bool(whom)
    assert row.found.startswith(f"1,000 to each of {whom};" if whom else "none is needed")


def test_e452_what_cannot_be_read(folder: Path) -> None:
    path = folder / "empty.conf"
    path.write_text("# nothing\n")
    assert ids(look(apache, path)) == ["E452"]
    path.write_text("Include nowhere/*.conf\nTimeout 60\n")
    assert any(row.is_skipped and "nowhere" in row.found for row in look(apache, path))


def test_e451_an_old_version(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(folder, [])
    program = folder / "apache2"
    program.write_text("#!/bin/sh\necho 'Server version: Apache/2.4.41 (Ubuntu)'\n")
    program.chmod(0o755)
    monkeypatch.setattr(apache, "find_program", lambda *names: program)
    assert ids(look(apache, path)) == ["E451"]
    program.write_text("#!/bin/sh\necho 'Server version: Apache/2.4.47'\n")
    assert ids(look(apache, path)) == []


def test_w460_fewer_threads_than_max_sockets(folder: Path) -> None:
    path = write(folder, [])
    settings = {"WSREDIS": {**looking.SETTINGS["WSREDIS"], "MAX_SOCKETS": 2000}}
    assert ids(look(apache, path, settings)) == []
    settings["WSREDIS"]["MAX_SOCKETS"] = 5000
    assert ids(look(apache, path, settings)) == ["W460"]


# Other ways to write it


WS = "LoadModule proxy_wstunnel_module x\nLoadModule rewrite_module x\n"


@pytest.mark.parametrize(
    ("expected", "change"),
    [
        ([], swap("ProxyPass .*", 'ProxyPass "/ws/" "ws://h:80/ws/" retry=0\nProxyPass "/" "http://h:80/"')),
        (
            [],
            swap("ProxyPass .*", '<Location "/ws/">\nProxyPass http://h:80/ws/ upgrade=websocket retry=0\n</Location>'),
        ),
        ([], swap("ProxyPass .*", 'ProxyPassMatch "^/(ws/.*)$" "http://h:80/$1" upgrade=websocket retry=0')),
        (["E457"], swap("ProxyPass .*", 'ProxyPassMatch "^/ws/(.*)$" "http://h:80/$1" upgrade=websocket retry=0')),
        (
            [],
            swap(
                "ProxyPass .*",
                "RewriteEngine On\nRewriteCond %{HTTP:Upgrade} websocket [NC]\n"
                'RewriteCond %{HTTP:Connection} upgrade [NC]\nRewriteRule ^/?(.*) "ws://h:80/$1" [P,L]\n'
                'ProxyPass "/" "http://h:80/" retry=0',
            ),
        ),
        ([], swap("ProxyPass .*", 'Redirect permanent "/" "https://example.com/"')),
        ([], swap("ProxyPass .*", "RewriteEngine On\nRewriteRule ^ https://%{HTTP_HOST}%{REQUEST_URI} [R=301,L]")),
        (
            [],
            swap(
                "ProxyPass .*",
                'ProxyPass "/" "balancer://b/" retry=0\n<Proxy "balancer://b">\n'
                "BalancerMember http://h:80 upgrade=websocket\n</Proxy>",
            ),
        ),
        (["E454"], swap("(ProxyPass .*)", r"<IfModule mod_nothing.c>\n\1\n</IfModule>")),
        ([], swap("(ProxyPass .*)", r"<IfModule mod_unixd.c>\n\1\n</IfModule>")),  # which is built in
        ([], swap("(ProxyPass .*)", r"<IfModule !mod_nothing.c>\n\1\n</IfModule>")),
        ([], lambda text: "Define SITE http://h:80\n" + swap('"http://[^"]*"', '"${SITE}/"')(text)),
        ([], swap("(ProxyPass .*) retry=0", r"\1 \\\n  retry=0")),
        (["E459"], swap("^ *Timeout .*", "Timeout 5\nProxyTimeout 10")),
        ([], swap("^ *Timeout .*", "Timeout 5\nProxyTimeout 600")),
        ([], lambda text: swap(" retry=0", " retry=0 timeout=600")(swap("^ *Timeout .*", "Timeout 5")(text))),
    ],
)
def test_other_ways_are_understood(folder: Path, expected: list[str], change: Change) -> None:
    path = write(folder, [], change)
    path.write_text(WS + path.read_text())
    assert ids(look(apache, path)) == expected


CONDITION = "RewriteCond %{HTTP:Upgrade} "
SENT = 'RewriteRule ^/?(.*) "ws://h:80/$1" [P,L]'


@pytest.mark.parametrize(
    ("expected", "lines"),
    [
        ([], [CONDITION + "=websocket [NC]", SENT]),
        ([], [CONDITION + "=WebSocket [nocase]", SENT]),
        ([], [CONDITION + "!=websocket", "RewriteRule ^ http://h/ [P]", CONDITION + "=websocket", SENT]),
        (["E455"], [CONDITION + "=WebSocket", SENT]),
        (["E455"], [CONDITION + "!=websocket", SENT]),
        ([], [CONDITION + "nothing [NC,OR]", CONDITION + "websocket", SENT]),
        ([], [CONDITION + "websocket [ornext]", "RewriteCond %{HTTP_USER_AGENT} curl", SENT]),
        (["E455"], [CONDITION + "nothing [OR]", CONDITION + "!websocket", SENT]),
        (["E455"], [CONDITION + "websocket [OR]", CONDITION + "nothing", CONDITION + "nothing", SENT]),
        (["E454"], ["RewriteRule ^/ws/ - [F]", SENT]),
        (["E454"], ["RewriteRule !^/static/ - [G]", SENT]),
        (["E454"], ["RewriteRule ^/WS/ - [NC,forbidden]", SENT]),
        ([], ["RewriteRule ^/WS/ - [F]", SENT]),
        ([], [CONDITION + "!=websocket [NC]", "RewriteRule ^ - [F]", SENT]),
        (["E455"], ["RewriteRule ^/ws/ - [L]", "RewriteRule ^ - [F]"]),  # by ProxyPass
    ],
)
def test_rules_of_mod_rewrite_are_understood(folder: Path, expected: list[str], lines: list[str]) -> None:
    """Each before a ProxyPass that takes websockets for ordinary requests."""
    there = 'ProxyPass "/" "http://h:80/" retry=0'
    path = write(folder, [], swap("ProxyPass .*", "\n".join(["RewriteEngine On", *lines, there])))
    path.write_text(WS + path.read_text())
    rows = look(apache, path)
    assert ids(rows) == expected
    assert [row.found for row in rows if row.is_skipped] == []


def test_a_way_that_may_be_taken_spares_the_next_one_its_judgement(folder: Path) -> None:
    lines = ["RewriteEngine On", "RewriteCond %{HTTP_USER_AGENT} Firefox", SENT, 'ProxyPass "/" "http://h:80/" retry=0']
    path = write(folder, [], swap("ProxyPass .*", "\n".join(lines)))
    path.write_text(WS + path.read_text())
    assert ids(look(apache, path)) == []


def section(kind: str, *lines: str) -> Change:
    """Return what writes a section before the rule."""
    name = kind.partition(" ")[0]
    return swap("(ProxyPass .*)", "\n".join([f"<{kind}>", *lines, f"</{name}>", r"\1"]))


@pytest.mark.parametrize(
    ("found_", "expected", "change"),
    [
        ("for everybody", [], str),
        ("for everybody", [], section("Location /private/", "Require all denied")),
        ("for everybody", [], section("Directory /", "Require all denied")),
        ("Require all denied", ["E454"], section("Location /ws/", "Require all denied")),
        ("Require all denied", ["E454"], section('LocationMatch "^/w"', "Require all denied")),
        ("Require all denied", ["E454"], section("Location ~ ^/w", "Require all denied")),
        ("Require all denied", ["E454"], section("Proxy *", "Require all denied")),
        ("Require all denied", ["E454"], section('ProxyMatch "^http://.*/ws/"', "Require all denied")),
        ("for everybody", [], section("Proxy http://elsewhere/*", "Require all denied")),
        (
            "Require all granted, ",
            [],
            lambda text: section("Location /ws/", "Require all granted")(
                section("Location /", "Require all denied")(text)
            ),
        ),
        (
            "Require all denied",
            ["E454"],
            lambda text: section("Location /", "Require all denied")(
                section("Location /ws/", "Require all granted")(text)
            ),
        ),
        (
            "Require all granted, ",
            [],
            lambda text: section("Proxy *", "Require all denied")(section("Location /", "Require all granted")(text)),
        ),
        ("Require ip", [], section("Location /ws/", "Require ip 10.0.0.0/8")),
        ("Require valid-user", [], section("Location /", "AuthType Basic", "Require valid-user")),
        ("Deny from", [], section("Location /", "Deny from all")),
        ("AuthMerging", [], section("Location /", "AuthMerging Or", "Require all denied")),
    ],
)
def test_who_is_let_through(folder: Path, found_: str, expected: list[str], change: Change) -> None:
    rows = look(apache, write(folder, [], change))
    assert ids(rows) == expected
    row = found(rows, "access")
    assert found_ in row.found
    assert row.is_skipped == (found_ in ("Require ip", "Require valid-user", "Deny from", "AuthMerging"))


def test_a_rule_for_rewriting_is_mended_with_lines_that_stand_above_it(folder: Path) -> None:
    lines = [
        "RewriteEngine On",
        'RewriteRule ^/(.*) "http://u:hunter2@h:80/$1" [P,L,E=HTTP_AUTHORIZATION:Basic hunter2]',
    ]
    path = write(folder, [], swap("ProxyPass .*", "\n".join(lines)))
    (problem,) = (each for each in problems(look(apache, path)) if each.id == "wsredis.E455")
    assert problem.hint.splitlines()[1:] == [
        "RewriteCond %{HTTP:Upgrade} =websocket [NC]",
        "RewriteRule ^/ws/ ws://…@h:80%{REQUEST_URI} [P,L]",
    ]
    assert "hunter2" not in repr(look(apache, path))


def test_a_balancer_is_mended_at_its_members(folder: Path) -> None:
    lines = ['ProxyPass "/" "balancer://b/"', '<Proxy "balancer://b">', "BalancerMember http://h:80", "</Proxy>"]
    (problem,) = problems(look(apache, write(folder, [], swap("ProxyPass .*", "\n".join(lines)))))
    assert (problem.id, problem.hint) == ("wsredis.E455", "BalancerMember http://h:80 upgrade=websocket")


def test_no_password_is_shown(folder: Path) -> None:
    path = write(folder, [], swap("ProxyPass .*", "ProxyPass /ws/ http://u:hunter2@h:80 secret=hunter2"))
    rows = look(apache, path)
    assert "E457" in ids(rows)
    assert "hunter2" not in repr(rows)


def test_a_condition_that_is_not_known_is_not_judged(folder: Path) -> None:
    lines = "RewriteEngine On\nRewriteCond %{HTTP_USER_AGENT} curl\nRewriteRule ^ http://h/ [P]\n"
    path = write(folder, [], swap("(ProxyPass .*)", lines + r"\1"))
    path.write_text(WS + path.read_text())
    rows = look(apache, path)
    assert ids(rows) == []
    assert "on what it depends is not known here" in found([row for row in rows if row.is_skipped], "rule").found


def test_only_the_virtual_hosts_of_this_site_are_looked_at(folder: Path) -> None:
    settings = {"ALLOWED_HOSTS": ["example.com", ".example.org"]}
    other = "<VirtualHost *:80>\nServerName other.net\nProxyPass / http://127.0.0.1:9999/\n</VirtualHost>"
    with override_settings(**settings):
        path = write(folder, [], add(other))
    assert ids(look(apache, path, settings)) == []
    text = (folder / "tests.apache.conf").read_text()
    (folder / "tests.apache.conf").write_text(text.replace(" upgrade=websocket", ""))
    assert ids(look(apache, path, settings)) == ["E455"]


@pytest.mark.parametrize(
    ("own", "name", "is_judged"),
    [
        ("www.example.com", "ServerAlias *.example.com", True),
        ("www.example.com", "ServerAlias www.example.???", True),
        ("www.example.com", "ServerName WWW.example.com:80", True),
        ("www.example.com", "ServerAlias *.example.org", False),
        (".example.com", "ServerAlias *.example.com", True),
        (".example.com", "ServerAlias *.com", True),
        (".example.com", "ServerName example.com", True),
        (".example.com", "ServerName a.example.com", True),
        (".example.com", "ServerName anexample.com", False),
    ],
)
def test_a_name_with_a_star_is_a_host_of_this_site(folder: Path, own: str, name: str, is_judged: bool) -> None:
    """That virtual host proxies without upgrade=websocket; the printed one, which is right, has another name."""
    other = f"<VirtualHost *:8443>\n{name}\nProxyPass / http://h/ retry=0\nProxyPreserveHost On\n</VirtualHost>"
    with override_settings(ALLOWED_HOSTS=["other.net"]):
        path = write(folder, [], add(other))
    assert ids(look(apache, path, {"ALLOWED_HOSTS": [own, "other.net"]})) == (["E455"] if is_judged else [])


def test_of_two_virtual_hosts_at_an_address_the_first_one_takes_a_name(folder: Path) -> None:
    with override_settings(ALLOWED_HOSTS=["www.example.com"]):
        path = write(folder, [])
    site = folder / "tests.apache.conf"
    (address,) = (line for line in site.read_text().splitlines() if line.startswith("<VirtualHost"))
    site.write_text(
        f"{site.read_text()}\n{address}\nServerAlias *.example.com\nProxyPass / http://other/\n</VirtualHost>\n"
    )
    assert ids(look(apache, path, {"ALLOWED_HOSTS": ["www.example.com"]})) == []


def test_a_file_that_includes_itself_ends(folder: Path) -> None:
    path = folder / "x.conf"
    path.write_text(f"Include {path}\nTimeout 60\nInclude {path}\n")
    configuration = DirectiveTree(folder)
    configuration.read(path)
    assert len(configuration.top.inside) < 2000
    assert configuration.unread == [
        ("included files", f"{path}: files include each other 20 times"),
        ("included files", "more than 1000 files: the others are not read"),
    ]
    assert "included files" in [row.checked for row in look(apache, path) if row.is_skipped]


@contextmanager
def as_another(folder: Path) -> Iterator[None]:
    """An ordinary user, where we are none, to whom the folder belongs."""
    if os.geteuid() != 0:
        yield
        return
    os.chown(folder, 65534, 65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_that_may_not_be_read_is_said(folder: Path) -> None:
    path, closed = folder / "x.conf", folder / "closed"
    path.write_text(f"Include {closed}\nInclude {closed}/*.conf\nTimeout 60\n")
    closed.mkdir(0o300)
    try:
        with as_another(folder):
            configuration = DirectiveTree(folder)
            configuration.read(path)
    finally:
        closed.chmod(0o700)
    assert configuration.unread == [
        (str(closed), "Permission denied"),
        (f"{path}:2", f"there is no {closed}/*.conf, or it may not be looked at"),
    ]
    assert configuration.top.get("timeout")


def test_an_apache_that_serves_something_else_is_let_be(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    main = folder / "apache2.conf"
    main.write_text("<VirtualHost *:80>\nDocumentRoot /var/www\n</VirtualHost>\n")
    monkeypatch.setattr(apache, "MAIN_FILES", (str(main),))
    rows = look(apache, None)
    assert problems(rows) == []
    assert found(rows, "virtual hosts").is_skipped
    monkeypatch.setattr(apache, "MAIN_FILES", (str(folder / "nowhere"),))
    assert found(look(apache, None), "Apache's configuration").is_skipped


def test_words_and_lines_are_read() -> None:
    assert split(r'''ProxyPass "/a b" 'c d' e\f "say \"x\""''') == ["ProxyPass", "/a b", "c d", r"e\f", 'say "x"']


def test_the_path_that_arrives(folder: Path) -> None:
    def arrives(*lines: str) -> list[str]:
        (folder / "x.conf").write_text("\n".join(lines))
        configuration = DirectiveTree(folder)
        configuration.read(folder / "x.conf")
        return [rule.url for rule in rules(configuration.top, configuration.top, "/ws/x")]

    assert arrives("ProxyPass /ws http://h/a") == ["http://h/a/x"]
    assert arrives("ProxyPass /w http://h/a") == []
    assert arrives("ProxyPass /ws/ unix:/run/x.sock|http://h/ws/ retry=0") == ["http://h/ws/x"]
    assert arrives("<Location /ws/>", "ProxyPass http://h/b/", "</Location>", "ProxyPass / http://h/") == [
        "http://h/b/x",
        "http://h/ws/x",
    ]


# What really happens


def start(change: Change, *options: str) -> Callable[[Layout], None]:
    """Return what starts a site behind an Apache with a change, and has the change found."""

    def begin(layout: Layout) -> None:
        layout.settings["WSREDIS"]["PING_INTERVAL"] = 8
        address = f"127.0.0.1:{free_port()}"
        run_runwsserver(layout, address, "--workers", "1")
        given = ("--upstream", address, *(("--ws-upstream", address) if "two" in options else ()))
        (site,) = layout.emit("apache", "--listen", f"127.0.0.1:{layout.port}", "--sockets", "1000", *given)
        site.write_text(change(site.read_text()))
        command = layouts.apache(layout.folder, site)
        layout.found = ids(look(apache, layout.folder / "apache2.conf", layout.settings))
        layout.run_proxy(*command, "-DFOREGROUND")

    return begin


def rewriting(*lines: str) -> Change:
    """Return what writes rules before that of ProxyPass, from which it takes upgrade=; \\1: the site's address."""
    modules = "".join(
        f"LoadModule {name}_module {layouts.APACHE_MODULES}/mod_{name}.so\n" for name in ("rewrite", "proxy_wstunnel")
    )
    pattern = '^( *ProxyPass "/" "http://(.*)/".*) upgrade=websocket'
    rules = "\n".join(["RewriteEngine On", *lines, ""]).replace(r"\1", r"\2")
    return lambda text: modules + swap(pattern, rules + r"\1")(text)


def mended(text: str) -> str:
    """Return a site's configuration with the lines of E455's hint above the first RewriteCond."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "x.conf"
        path.write_text(text)
        (problem,) = (each for each in problems(look(apache, path)) if each.id == "wsredis.E455")
    lines = "\n".join(problem.hint.splitlines()[1:])
    return text.replace("RewriteCond", f"{lines}\nRewriteCond", 1)


@pytest.mark.parametrize(
    ("id", "begin", "status"),
    [
        ("", start(str), 101),
        ("E454", start(swap('ProxyPass "/" (.*)', r'ProxyPass "/ws/" "!"\n    ProxyPass "/" \1')), 404),
        ("E455", start(swap(" upgrade=websocket", "")), 426),
        ("E456", start(swap(r'( *ProxyPass "/ws/".*\n)( *ProxyPass "/" .*\n)', r"\2\1"), "two"), 426),
        ("E457", start(swap(r'("/ws/" "http://[\d.:]+/)ws/"', r'\1"'), "two"), 404),
        ("E458", start(drop("ProxyPreserveHost")), 403),
        ("", start(rewriting(CONDITION + "=websocket [NC]", r'RewriteRule ^/?(.*) "ws://\1/$1" [P,L]')), 101),
        (
            "",
            start(
                rewriting(
                    CONDITION + "nothing [OR]", CONDITION + "websocket", r'RewriteRule ^/?(.*) "ws://\1/$1" [P,L]'
                )
            ),
            101,
        ),
        ("E455", start(rewriting(r"RewriteRule ^/(.*) http://\1/$1 [P,L]")), 426),
        (
            "",
            start(
                lambda text: mended(
                    rewriting("RewriteCond %{REQUEST_URI} ^/", r"RewriteRule ^/(.*) http://\1/$1 [P,L]")(text)
                )
            ),
            101,
        ),
        ("E454", start(rewriting("RewriteRule ^/ws/ - [F]")), 403),
        ("", start(swap("( *ProxyPass .*)", r"<IfModule mod_unixd.c>\n\1\n</IfModule>")), 101),
        ("E454", start(section("Location /ws/", "Require all denied")), 403),
        ("E454", start(section("Proxy http://*/ws/*", "Require all denied")), 403),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_real_apache_answers_so(
    shared_redis: RedisServer, database: object, folder: Path, id: str, begin: Any, status: int
) -> None:
    with layouts.running(begin, folder, shared_redis) as layout:
        assert layout.found == ([id] if id else [])
        assert looking.status_of(layout) == status


def test_a_real_apache_cuts_what_is_silent(shared_redis: RedisServer, database: object, folder: Path) -> None:
    with layouts.running(start(swap("^ *Timeout .*", "Timeout 2")), folder, shared_redis) as layout:
        assert layout.found == ["E459"]
        with layout.connect(looking.FACILITY) as socket:
            assert looking.end_of(socket) == 1006


def test_a_real_apache_waits_for_the_longer_of_its_timeouts(
    shared_redis: RedisServer, database: object, folder: Path
) -> None:
    with layouts.running(start(swap("^ *Timeout .*", "Timeout 2\nProxyTimeout 60")), folder, shared_redis) as layout:
        assert layout.found == []
        with layout.connect(looking.FACILITY) as socket:
            assert looking.end_of(socket, 4) is None


def test_a_real_apache_without_a_module_does_not_start(folder: Path) -> None:
    path = write(folder, ["--listen", f"127.0.0.1:{free_port()}"])
    path.write_text(swap("LoadModule headers_module .*", "")(path.read_text()))
    assert ids(look(apache, path)) == ["E453"]
    program = layouts.find_program("apache2")
    done = subprocess.run([program, "-f", path, "-t"], capture_output=True, text=True, timeout=30)
    assert "Invalid command 'RequestHeader'" in done.stderr
