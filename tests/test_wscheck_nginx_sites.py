"""wscheck's area `nginx` where NGiNX has several sites, or is elsewhere: what is ours is judged, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from django_wsredis.checks.findings import Row

from .nginx_site import (
    Site,
    browser_headers,
    change,
    in_nginx_place,
    line_of,
    look,
    outcome,
    printed,
    problems,
    real,
    row,
    running,
    running_site,
)
from .servers import RedisServer

UPGRADE = "        proxy_set_header Upgrade $http_upgrade;\n"
HOST = "        proxy_set_header Host $http_host;  # with its port: the browser's Origin is compared with it\n"
WEBSOCKETS = "        proxy_pass http://tests_websockets;\n"
ANY = {"ALLOWED_HOSTS": ["*"]}


@pytest.fixture(scope="module")
def site(shared_redis: RedisServer) -> Iterator[Site]:
    with running_site(shared_redis) as site:
        yield site


class Page(BaseHTTPRequestHandler):
    """Another site, which has no websockets."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"ok\n")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def other() -> Iterator[int]:
    """Yield the port of another site."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


def beside(main: Path, site: Site, port: int, directives: str = "", *, name: str = "other.example") -> None:
    """Add the other site's server to the printed file, before ours."""
    block = f"server {{\n    listen 127.0.0.1:{site.port};\n    server_name {name};\n    location / {{\n"
    block += f"        {directives}proxy_pass http://127.0.0.1:{port};\n    }}\n}}\n\n"
    printed(main).write_text(block + printed(main).read_text())


def ids(rows: list[Row]) -> list[str]:
    return [problem.id.removeprefix("wsredis.") for problem in problems(rows)]


def not_looked_at(rows: list[Row]) -> list[str]:
    return [row.checked for row in rows if "nothing shows that it is this site's" in row.found and row.is_skipped]


# Several sites in one NGiNX


@pytest.mark.parametrize("base", ["split", "proxy", "uwsgi"])
def test_another_site_without_websockets_is_no_error(base: str, site: Site, other: int) -> None:
    main = site.files(base)
    beside(main, site, other)
    rows = look(main, site, **ANY)
    assert problems(rows) == []
    assert not_looked_at(rows) == [f"to ws://other.example:{site.port}/ws/anything"]
    assert row(rows, not_looked_at(rows)[0]).found.startswith(f"server at {printed(main)}:1: ")
    with running(main, site.port):
        path = "layout?subscribe-broadcast"
        assert outcome(site.port, path, browser_headers(site)) == "101"
        assert outcome(site.port, path, browser_headers(site, "other.example")) == "200"  # it has no websockets


@pytest.mark.parametrize(
    ("base", "old", "id", "seen"),
    [("split", UPGRADE, "E208", "426"), ("proxy", HOST, "E212", "400"), ("split", WEBSOCKETS, "E204", "404")],
)
def test_ours_among_two_is_an_error_where_it_is_wrong(
    base: str, old: str, id: str, seen: str, site: Site, other: int
) -> None:
    main = site.files(base)
    right = 'proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade"; '
    beside(main, site, other, f"{right}proxy_set_header Host $http_host; ")  # which is no websocket's either
    change(printed(main), [(old, "")])
    rows = look(main, site, ALLOWED_HOSTS=["*"])
    assert ids(rows) == [id]
    assert int(problems(rows)[0].place.rpartition(":")[2]) > 8  # behind the block of the other site
    assert len(not_looked_at(rows)) == 1
    with running(main, site.port):
        assert outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) == seen


def test_while_the_site_does_not_run_the_server_that_is_right_is_taken_for_ours(site: Site, other: int) -> None:
    main = site.files("proxy")
    beside(main, site, other)
    change(printed(main), [(f"127.0.0.1:{site.http};", "127.0.0.1:1;")])
    rows = look(main, site, **ANY)
    assert ids(rows) == ["E222"]
    assert len(not_looked_at(rows)) == 1


@pytest.mark.parametrize(
    ("base", "found"),
    [("split", ["E208"]), ("proxy", ["E207", "E208", "E212", "E208"])],  # without a location for websockets: both
)
def test_while_it_does_not_run_and_none_is_right_there_is_an_error(
    base: str, found: list[str], site: Site, other: int
) -> None:
    main = site.files(base)
    beside(main, site, other)
    change(printed(main), [(f"127.0.0.1:{site.http};", "127.0.0.1:1;"), (UPGRADE, "")])
    assert [id for id in ids(look(main, site, **ANY)) if id != "E222"] == found


def test_of_servers_with_names_that_are_allowed_each_is_ours(site: Site, other: int) -> None:
    main = site.files("split")
    beside(main, site, other, name="localhost")
    rows = look(main, site, ALLOWED_HOSTS=["testserver", "localhost", "127.0.0.1"])
    assert problems(rows) == []
    assert len(not_looked_at(rows)) == 1
    beside(main, site, other)
    rows = look(main, site, ALLOWED_HOSTS=["testserver", "localhost", "127.0.0.1", ".example"])
    assert set(ids(rows)) == {"E207", "E208", "E212"}
    assert {problem.place for problem in problems(rows)} == {f"{printed(main)}:4", f"{printed(main)}:5"}


# What is elsewhere


@pytest.fixture(autouse=True)
def on_a_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Be in no container, even if we are."""
    monkeypatch.setattr("django_wsredis.checks.nginx.running.CONTAINER_MARKS", ())


def test_the_port_in_a_container_need_not_be_that_of_browsers(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    main = site.files("split")
    change(printed(main), [(HOST, "        proxy_set_header Host $host;\n")])
    assert ids(look(main, site)) == ["W213"]
    monkeypatch.setattr("django_wsredis.checks.nginx.running.CONTAINER_MARKS", ("/",))
    rows = look(main, site)
    assert ids(rows) == []
    assert row(rows, "Host").is_skipped
    assert "proxy_set_header Host $http_host;" in row(rows, "Host").found
    with running(main, site.port):  # browsers come by port 80, which is mapped to this one
        headers = {"Host": "127.0.0.1", "Origin": "http://127.0.0.1"}
        assert outcome(site.port, "layout?subscribe-broadcast", headers) == "101"
        assert outcome(site.port, "layout?subscribe-broadcast", browser_headers(site)) == "403"


def named(main: Path, site: Site) -> None:
    """Let the address of the site be a name that is known elsewhere."""
    change(printed(main), [(f"127.0.0.1:{site.http};", "web.invalid:8000;")])


def test_a_name_that_is_not_known_here_may_be_known_where_nginx_is(site: Site) -> None:
    main = site.files("split")
    named(main, site)
    rows = look(main, site)
    assert problems(rows) == []
    assert row(rows, "upstream").is_skipped
    assert (
        "web.invalid:8000: (seen from here: there is no such host; NGiNX may reach it)" in row(rows, "upstream").found
    )
    with running(main, site.port) as process:  # here it does not start
        process.wait_for("host not found in upstream", 5)
        assert process.popen.wait(5) != 0


@pytest.mark.parametrize("before", ["", "    server 127.0.0.1:SITE;\n"])
def test_e222_a_name_that_the_nginx_of_this_machine_does_not_find(before: str, site: Site) -> None:
    main = site.files("split")
    with running(main, site.port):
        assert problems(look(main, site)) == []
        here = f"    server 127.0.0.1:{site.http};\n"
        change(printed(main), [(here, f"{site.filled(before)}    server web.invalid:8000;\n")])
        (problem,) = problems(look(main, site))
        assert problem.id == "wsredis.E222"
        assert problem.text == "web.invalid:8000: there is no such host. NGiNX refuses to start, or to reload."
        assert problem.place == f"{printed(main)}:{line_of(main, 'web.invalid')}"
    with running(main, site.port) as process:
        process.wait_for("host not found in upstream", 5)
        assert process.popen.wait(5) != 0


def test_a_name_is_an_error_too_where_nginx_itself_refuses_it(
    site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = site.files("split")
    named(main, site)
    script = f'[ "$1" = -V ] && echo "configure arguments: --conf-path={main}" && exit; {real(main)}'
    in_nginx_place(folder, monkeypatch, script)
    (problem,) = problems(look(None, site))
    assert (problem.id, problem.place) == ("wsredis.E203", f"{printed(main)}:{line_of(main, 'web.invalid')}")
    assert problem.text == 'NGiNX refuses it: host not found in upstream "web.invalid:8000".'


def test_another_nginx_that_runs_does_not_make_a_file_one_of_this_machine(site: Site) -> None:
    main, used = site.files("split"), site.files("split")
    change(main, [(f"pid {main.parent}/nginx.pid;", f"pid {used.parent}/nginx.pid;")])
    named(main, site)
    with running(used, site.port):
        assert problems(look(main, site)) == []


def test_addresses_in_what_another_nginx_printed_are_not_judged(site: Site, folder: Path) -> None:
    main = site.files("split")
    change(printed(main), [(f"127.0.0.1:{site.http};", "127.0.0.1:1; server unix:/run/x; server 192.0.2.1:1;")])
    (problem, *_) = problems(look(main, site))
    assert problem.id == "wsredis.E222"
    dump = folder / "dump"
    dump.write_text(
        "".join(f"# configuration file {path}:\n{path.read_text()}\n" for path in (main, printed(main)))
        + "".join(f"# configuration file /etc/nginx/{name}:\n\n" for name in ("mime.types", "uwsgi_params"))
    )
    rows = look(dump, site)
    assert problems(rows) == []
    assert row(rows, "upstream").is_skipped
    assert row(rows, "upstream").found.startswith("127.0.0.1:1: (not known: it is of the machine where NGiNX is)")
    assert row(rows, "ports").is_skipped
    assert row(rows, "may open /run/x").is_skipped
    dump.write_text(dump.read_text().replace("worker_processes 1;", "worker_processes auto;"))
    assert row(look(dump, site), "worker_connections").is_skipped


def test_where_there_is_no_nginx_local_addresses_are_not_judged(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    main = site.files("split")
    change(printed(main), [(f"127.0.0.1:{site.http};", "127.0.0.1:1;")])
    monkeypatch.setattr("django_wsredis.checks.nginx.program.find_program", lambda *names: None)
    rows = look(main, site)
    assert problems(rows) == []
    assert row(rows, "upstream").is_skipped
    with running(main, site.port):  # then it is here after all
        assert ids(look(main, site)) == ["E222"]
