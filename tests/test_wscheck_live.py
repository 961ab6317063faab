"""`manage.py wscheck --live`: each layer of the way, broken by a real proxy or server; and ways that are whole."""

from __future__ import annotations

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import override_settings

from django_wsredis import live, sessions
from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.live import look, messages, reaching, way
from django_wsredis.checks.situation import Situation

from . import layouts
from .doors import Doors, certify, dumb_server, make_authority
from .layouts import Layout, find_uwsgi, run_proxy, run_runwsserver, run_uwsgi
from .servers import ROOT, Process, RedisServer, Site, free_port, wait_until

SERVER = "runwsserver"
CLOSED = "127.0.0.1:1"


@pytest.fixture(scope="module")
def site(shared_redis: RedisServer, database: Path) -> Iterator[Site]:
    """A site in order, to which doors lead."""
    site = Site(SERVER, database=database, redis_url=shared_redis.url)
    yield site
    site.stop()


@pytest.fixture
def doors(folder: Path) -> Iterator[Doors]:
    doors = Doors(folder)
    yield doors
    doors.stop()


@pytest.fixture(autouse=True)
def _configured(configured: RedisServer) -> RedisServer:
    return configured


def go(url: str, **options: Any) -> dict[str, Row]:
    """Return what is found on the way, by what was checked."""
    given = {"is_insecure" if name == "insecure" else name: value for name, value in options.items()}
    rows = list(look(Situation(live=url, **given)))
    found = {row.checked: row for row in rows}
    assert len(found) == len(rows)
    return found


def problems(found: dict[str, Row]) -> list[Problem]:
    return [problem for row in found.values() for problem in row.problems]


def the_problem(found: dict[str, Row], number: str) -> Problem:
    """Return the only problem there is; it has this number."""
    (problem,) = problems(found)
    assert problem.id == f"wsredis.{number}", problem
    assert problem.text.endswith(".")
    assert problem.hint
    return problem


def not_checked(found: dict[str, Row]) -> set[str]:
    return {name for name, row in found.items() if row.is_skipped}


AFTER_THE_HANDSHAKE = {
    "scratch facility",
    "message",
    "message to the user",
    "binary message",
    "message of 100 KB",
    "compression",
    "ping",
    "idle",
    "foreign Origin",
    "close",
}


# The whole way


def runwsserver_alone(layout: Layout) -> None:
    run_runwsserver(layout, f"127.0.0.1:{layout.port}", "--workers", "2")


def with_tls(layout: Layout) -> tuple[str, ...]:
    """Have a proxy speak TLS; return the options for what is printed for it."""
    make_authority(layout.folder)
    layout.tls = ssl.create_default_context(cafile=layout.folder / "ca.pem")
    options = certify(layout.folder)
    for path in layout.folder.iterdir():
        path.chmod(0o755 if path.is_dir() else 0o644)
    return tuple(options)


def runwsserver_behind_nginx_with_tls(layout: Layout) -> None:
    address = f"127.0.0.1:{free_port()}"
    run_runwsserver(layout, address, "--workers", "2")
    run_proxy(layout, "nginx", "--upstream", address, *with_tls(layout))


def uwsgi_behind_nginx_with_tls(layout: Layout) -> None:
    address = f"uwsgi://{layout.folder}/uwsgi.sock"
    run_uwsgi(layout, find_uwsgi(), "--listen", address)
    run_proxy(layout, "nginx", "--upstream", address, *with_tls(layout))


WHOLE = [
    runwsserver_alone,
    layouts.runwsserver_behind_nginx_on_a_unix_socket,
    runwsserver_behind_nginx_with_tls,
    layouts.uwsgi_behind_nginx,
    uwsgi_behind_nginx_with_tls,
    layouts.uwsgi_alone,
    layouts.runwsservers_behind_haproxy,
    layouts.runwsserver_behind_apache,
]


@pytest.mark.parametrize("start", WHOLE, ids=lambda start: start.__name__)
def test_a_way_that_is_whole_has_no_problem(
    start: Callable[[Layout], None], folder: Path, shared_redis: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with layouts.running(start, folder, shared_redis) as layout:
        if layout.tls:
            monkeypatch.setenv("SSL_CERT_FILE", str(folder / "ca.pem"))
        url = f"{'wss' if layout.tls else 'ws'}://127.0.0.1:{layout.port}/ws/layout"
        found = go(url, user="alice", idle=layouts.TIMEOUT + 1.0 if layout.cuts_silence else 0.1)
    assert problems(found) == []
    assert not_checked(found) == set()
    assert re.search(
        r"to Redis and back in .* ms; the worker's receipt after .* ms; here after", found["message"].found
    )
    assert re.fullmatch(r"none: .*|for 127.0.0.1, by The tests, (89|90) days left, TLSv1\.[23] \(.*\)", found["TLS"].found)
    assert found["foreign Origin"].found.startswith("refused: 403 Forbidden, by django_wsredis")
    assert all(re.search(r" \([\d.]+ m?s\)$", row.found) for row in found.values())


def test_the_command_prints_each_step_and_exits_with_0(site: Site) -> None:
    done = site.manage_py("wscheck", "--only", "live", "--live", site.uri("news?token=opensesame"), "--user", "alice")
    assert (done.returncode, done.stderr) == (0, "")
    names = re.findall(r"^ *(\S[\w ]*?)  +\S.* ok *$", done.stdout, re.M)
    assert "handshake" in names
    assert "message to the user" in names
    assert done.stdout.rstrip().endswith("wscheck: no problem.")
    assert "opensesame" not in done.stdout
    assert not live_keys()


def live_keys() -> list[str]:
    return [key for key in Session.objects.values_list("session_key", flat=True) if is_of_check(key)]


def is_of_check(key: str) -> bool:
    return "_session_expiry" in sessions.store()(key).load()


def test_without_a_url_that_is_said() -> None:
    (row,) = look(Situation())
    assert (row.is_skipped, row.found) == (True, "no --live URL")
    with override_settings(WSREDIS={"NOPE": 1}):
        (row,) = look(Situation(live="ws://127.0.0.1/ws/"))
    assert (row.is_skipped, row.found) == (True, "the settings are wrong")


# What visitors see of it, and what is left behind: nothing


def test_visitors_see_nothing_and_nothing_is_kept(site: Site, configured: RedisServer) -> None:
    kept = {"URL": configured.url, "EXPIRE": 60, "HISTORY": {"*": {"messages": 9, "seconds": 60}}}
    with site.connect("news?subscribe-broadcast") as visitor, override_settings(WSREDIS=kept):
        for path in ("", "news", "news?subscribe-user"):
            assert problems(go(site.uri(path), user="alice")) == []
        with pytest.raises(TimeoutError):
            visitor.recv(0.3)
    with configured.client() as client:
        assert [key for key in client.keys("*") if b"wscheck" in key or b"reply" in key] == []
    wait_until(lambda: live.count(facility="*").sockets == 0, what="the end of all sockets")


def test_messages_go_below_the_facility_or_to_what_is_called_wscheck(site: Site) -> None:
    assert re.search(r"no facility; messages go to wscheck-\w{12} ", go(site.uri(""))["URL"].found)
    assert re.search(r"facility news; messages go to news/wscheck-\w{12} ", go(site.uri("news"))["URL"].found)
    found = go(site.uri("news/wscheck"))
    assert "facility news/wscheck; messages go to itself" in found["URL"].found
    assert found["scratch facility"].found.startswith("news/wscheck: the same socket")
    found = go(site.uri("x" * 200))
    assert problems(found) == []
    assert re.search(r"messages go to wscheck-\w{12} ", found["URL"].found)


def test_messages_of_others_on_the_facility_are_passed_over(site: Site) -> None:
    stop = threading.Event()

    def chat() -> None:
        with override_settings():
            while not stop.is_set():
                messages.publisher.publish("chatter", facility="wscheck/noise", broadcast=True)

    thread = threading.Thread(target=chat)
    thread.start()
    try:
        assert problems(go(site.uri("wscheck/noise"))) == []
        assert problems(go(site.uri("wscheck"), idle=0.5)) == []
    finally:
        stop.set()
        thread.join()


# --user


ENGINES = ["db", "cached_db", "file", "signed_cookies"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_session_lives_as_long_as_the_check(
    start: Callable[..., Site], engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"SESSION_ENGINE": f"django.contrib.sessions.backends.{engine}", "SESSION_FILE_PATH": str(tmp_path)}
    site = start(settings=given)
    made: list[str] = []
    with override_settings(**given):
        save = sessions.store().save

        def noting(session: Any, **options: Any) -> None:
            save(session, **options)
            made.append(session.session_key)

        monkeypatch.setattr(sessions.store(), "save", noting)
        monkeypatch.delattr(sessions.store(), "_cached_storage_path", raising=False)
        found = go(site.uri(""), user="alice")
        assert problems(found) == []
        assert f"of alice, by django.contrib.sessions.backends.{engine}" in found["session"].found
        key = made[-1]
        assert 0 < sessions.store()(key).get_expiry_age() <= 300 or engine != "signed_cookies"
        assert engine == "signed_cookies" or not sessions.store()(key).load()
    assert not any(key in str(row) for key in made for row in found.values())
    assert not list(tmp_path.glob("*"))


@pytest.mark.parametrize("ending", ["Ctrl-C", "a failure", "given up"])
def test_a_session_ends_with_the_check_however_that_ends(
    site: Site, ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    there: list[list[str]] = []

    def end(*_: Any, **__: Any) -> Any:
        there.append(live_keys())
        raise KeyboardInterrupt if ending == "Ctrl-C" else RuntimeError

    if ending == "given up":
        rows = look(Situation(live=site.uri(""), user="alice"))
        while next(rows).checked != "message":
            there.append(live_keys())
        rows.close()
    else:
        monkeypatch.setattr(messages.publisher, "publish", end)
        with pytest.raises((KeyboardInterrupt, RuntimeError)):
            go(site.uri(""), user="alice")
    assert len(there[-1]) == 1
    assert live_keys() == []


def test_ctrl_c_at_the_command_deletes_the_session(site: Site) -> None:
    command = [*layouts.Layout.python, str(site.manage), "wscheck", "--only", "live", "--live", site.uri("")]
    process = Process([*command, "--user", "alice", "--idle", "60"], env=site.env, cwd=ROOT)
    try:
        wait_until(live_keys, 30, "a session")
        wait_until(lambda: live.count(facility="wscheck*").sockets, 30, "a socket")
        process.press_ctrl_c()
        process.popen.wait(20)
    finally:
        process.stop()
    assert live_keys() == []


def test_a_user_who_cannot_log_in_has_no_session(site: Site) -> None:
    problem = the_problem(found := go(site.uri(""), user="nobody"), "E611")
    assert problem.text == "Session: none can be made for 'nobody': there is no such user."
    assert "session" not in not_checked(found)
    assert not_checked(found) >= {"handshake", "message"}
    User.objects.create_user("retired", is_active=False)
    assert "no backend lets the user in" in the_problem(go(site.uri(""), user="retired"), "E611").text
    with override_settings(DATABASES={}), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sessions.store(), "save", lambda session: 1 // 0)
        assert "it failed: ZeroDivisionError" in the_problem(go(site.uri(""), user="alice"), "E611").text
        patch.setattr(sessions, "are_there", lambda: False)
        assert "no sessions" in the_problem(go(site.uri(""), user="alice"), "E611").text


@pytest.mark.parametrize("path", ["", "?subscribe-user"], ids=["everybody may", "the user alone may"])
def test_a_site_that_does_not_know_the_session(start: Callable[..., Site], path: str) -> None:
    site = start(settings={"SECRET_KEY": "another"})
    found = go(site.uri(path), user="alice")
    problem = the_problem(found, "E618")
    assert problem.text.startswith("Session: ")
    assert "SECRET_KEY" in problem.hint
    assert ("takes alice for nobody" in problem.text) == (path == "")


# DNS and TCP


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/socket/news", "the path is not below WEBSOCKET_URL, '/ws/'"),
        ("/ws/-/healthz", "'-/healthz' is no facility"),
        ("/ws/" + "x" * 201, "is no facility: it has 1 to 200 characters"),
        ("/ws/news?subscribe-all", "the query asks for 'subscribe-all'"),
        (":99999/ws/", "Port out of range"),
    ],
)
def test_a_url_that_names_no_facility(path: str, said: str) -> None:
    found = go(f"ws://127.0.0.1{path}")
    problem = the_problem(found, "E601")
    assert said in problem.text
    assert not_checked(found) >= {"name", "connection", "TLS", "handshake", "ping"}


def test_a_name_that_does_not_resolve() -> None:
    found = go("wss://wscheck.invalid/ws/", user="alice")
    assert the_problem(found, "E602").text.startswith("DNS: wscheck.invalid does not resolve: ")
    assert not_checked(found) == {"connection", "TLS", "handshake"} | AFTER_THE_HANDSHAKE - {"idle"}
    the_problem(go(f"wss://{'x' * 70}.invalid/ws/"), "E602")


def test_a_resolver_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()
    monkeypatch.setattr(reaching, "STEP_SECONDS", 0.2)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answered.wait(20))
    began_at = time.monotonic()
    assert "no answer in 0.2 s" in the_problem(go("wss://example.invalid/ws/"), "E602").text
    assert time.monotonic() - began_at < 5
    answered.set()


def test_a_closed_port() -> None:
    port = free_port()
    problem = the_problem(go(f"ws://127.0.0.1:{port}/ws/"), "E603")
    expected = f"TCP: nothing accepts connections at 127.0.0.1, port {port}: 127.0.0.1: Connection refused."
    assert problem.text == expected


def test_a_port_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reaching, "STEP_SECONDS", 0.2)
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for waiting in (first, second):  # the queue is full: Linux drops what comes more
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        text = the_problem(go(f"ws://127.0.0.1:{listener.getsockname()[1]}/ws/"), "E603").text
    assert "no answer in 0.2 s" in text


def resolved_to(*hosts: str) -> Callable[..., Any]:
    """Return a getaddrinfo() that gives some addresses for "testserver"."""
    original = socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        names = hosts if host == "testserver" else (host,)
        return [found for name in names for found in original(name, port, *arguments, **options)]

    return getaddrinfo


def test_one_address_of_two_does_not_accept(doors: Doors, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    port = doors.to(site.port)
    monkeypatch.setattr(socket, "getaddrinfo", resolved_to("127.0.0.2", "127.0.0.1"))
    found = go(f"ws://testserver:{port}/ws/")
    problem = the_problem(found, "W604")
    assert "testserver has the address 127.0.0.2: Connection refused" in problem.text
    assert not_checked(found) == set()
    monkeypatch.setattr(socket, "getaddrinfo", resolved_to("127.0.0.1"))
    assert problems(go(f"ws://testserver:{port}/ws/")) == []


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an authority."""
    folder = tmp_path_factory.mktemp("authority")
    make_authority(folder)
    return folder


@pytest.fixture
def secure(start: Callable[..., Site], authority: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Start a site with a certificate; return its URL."""
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))

    def secure(name: str = "IP:127.0.0.1", **dates: float) -> str:
        site = start(*certify(authority, name, **dates))
        return f"wss://127.0.0.1:{site.port}/ws/"

    return secure


TLS_PROBLEMS = [
    ({"since": -20, "days": -1}, "E606", "-1 days left: certificate has expired"),
    ({"since": 1, "days": 20}, "E606", "20 days left: certificate is not yet valid"),
    ({"name": "DNS:example.com"}, "E607", "for example.com, by The tests, 90 days left: IP address mismatch"),
]


@pytest.mark.parametrize(("made", "number", "said"), TLS_PROBLEMS)
def test_a_certificate_that_browsers_refuse(
    secure: Callable[..., str], made: dict[str, Any], number: str, said: str
) -> None:
    url = secure(**made)
    found = go(url)
    problem = the_problem(found, number)
    assert problem.text.startswith("TLS: browsers refuse the certificate of 127.0.0.1: ")
    assert said in problem.text
    assert not_checked(found) == {"handshake"} | AFTER_THE_HANDSHAKE - {"idle", "message to the user"}
    found = go(url, insecure=True)
    assert said in the_problem(found, "W609").text
    assert not_checked(found) == set()


def test_a_certificate_whose_issuer_nobody_knows(secure: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> None:
    url = secure()
    assert problems(go(url)) == []
    monkeypatch.delenv("SSL_CERT_FILE")
    problem = the_problem(go(url), "E608")
    assert "unable to get local issuer certificate" in problem.text
    assert "fullchain.pem" in problem.hint
    the_problem(go(url, insecure=True), "W609")


def test_a_certificate_that_signed_itself(start: Callable[..., Site], folder: Path) -> None:
    cert, key = layouts.certificate(folder)
    site = start("--certfile", str(cert), "--keyfile", str(key))
    assert "self-signed certificate" in the_problem(go(f"wss://127.0.0.1:{site.port}/ws/"), "E608").text


def test_a_certificate_that_ends_soon(secure: Callable[..., str]) -> None:
    problem = the_problem(go(secure(since=-80, days=10)), "W610")
    assert re.match(r"TLS: the certificate ends in (9\.9|10\.0) days, on ", problem.text)


def test_a_certificate_for_some_days_alone_does_not_end_soon(secure: Callable[..., str]) -> None:
    assert problems(go(secure(since=-3, days=3))) == []


def test_tls_where_there_is_none_and_none_where_there_is(
    site: Site, secure: Callable[..., str], doors: Doors, authority: Path
) -> None:
    problem = the_problem(go(site.uri("").replace("ws:", "wss:", 1)), "E605")
    assert "does not speak it" in problem.text
    url = secure()
    problem = the_problem(go(url.replace("wss:", "ws:")), "E605")
    assert "speaks it, and the URL begins with ws" in problem.text
    assert problem.hint == f"Write {url}"
    files = f"ssl_certificate {authority}/server.pem; ssl_certificate_key {authority}/server.key;"
    for path in (authority.parent, authority):
        path.chmod(0o755)
    port = doors.nginx(files + "return 200;", listen="ssl")  # its 400 says so, in HTTP
    the_problem(go(f"ws://127.0.0.1:{port}/ws/"), "E605")
    with dumb_server(None) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setattr(way, "STEP_SECONDS", 0.3)
        the_problem(go(f"wss://127.0.0.1:{silent}/ws/"), "E605")
