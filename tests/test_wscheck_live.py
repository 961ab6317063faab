"""`manage.py wscheck --live`: each layer of the way, broken by a real proxy or server; and ways that are whole."""

from __future__ import annotations

import http.client
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.contrib.sessions.models import Session
from django.test import override_settings
from websockets.sync.client import connect
from websockets.sync.server import serve

from django_wsredis import disconnect, live, sessions
from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.live import TITLES, hints, look, messages, opening, reaching, silence, unanswered, way
from django_wsredis.checks.situation import Situation
from django_wsredis.conf import get_settings

from . import layouts
from .doors import RIGHT, Doors, Relay, certify, certify_through_another, dumb_server, make_authority
from .layouts import Layout, find_uwsgi, run_proxy, run_runwsserver, run_uwsgi
from .rawsocket import HEADERS
from .servers import ROOT, Process, RedisServer, Site, free_port, stopping, wait_until
from .tls import trust

SERVER = "runwsserver"
CLOSED = "127.0.0.1:1"


@pytest.fixture(scope="module")
def site(shared_redis: RedisServer, database: Path) -> Iterator[Site]:
    """A site in order, to which doors lead."""
    with stopping(Site(SERVER, database=database, redis_url=shared_redis.url)) as site:
        yield site


@pytest.fixture
def doors(folder: Path) -> Iterator[Doors]:
    with stopping(Doors(folder)) as doors:
        yield doors


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


LAYERS = {"url", "dns", "tcp", "tls", "proxy", "location", "prefix", "host", "origin", "session", "permission", "site"}
LAYERS |= {"redis", "idle timeout"}
LINE_OR_COMMAND = r"(?m)\./manage\.py \w|--live |\b(dig|journalctl|tail|certbot|curl|ss) |\S;( |$)| = |def \w+\("


def layers(text: str) -> set[str]:
    """Return those with which a text begins: one, or several that may have broken the way."""
    return set(re.split(", | or ", text.partition(": ")[0].lower()))


def problems(found: dict[str, Row]) -> list[Problem]:
    """Return those of all rows; each begins with its layer, one of those of its title, and has a line or a command."""
    seen = [problem for row in found.values() for problem in row.problems]
    assert all(layers(problem.text) <= layers(TITLES[problem.id]) for problem in seen), seen
    assert all(re.search(LINE_OR_COMMAND, problem.hint) for problem in seen), seen
    return seen


def the_problem(found: dict[str, Row], number: str) -> Problem:
    """Return the only problem there is; it has this number."""
    (problem,) = problems(found)
    assert problem.id == f"wsredis.{number}", problem
    assert problem.text.endswith((".", "?"))
    assert problem.hint
    return problem


def not_checked(found: dict[str, Row]) -> set[str]:
    return {
        step
        for name, row in found.items()
        if row.is_skipped
        for step in (row.found.split(", ") if name.startswith("without ") else [name])
    }


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing be waited for long: where what is waited for does not come, that takes its time."""
    for module, seconds in ((messages, 0.7), (silence, 0.7), (opening, 2)):  # the last one's is for the handshake, too
        monkeypatch.setattr(module, "STEP_SECONDS", seconds)


def test_each_title_and_its_documentation_begin_with_the_layer() -> None:
    """So does each problem, which `problems()` sees for all that the other tests find."""
    documentation = (ROOT / "docs/checks.rst").read_text()
    for id, title in TITLES.items():
        assert layers(title) <= LAYERS, title
        entry = documentation.partition(f"``{id}``\n    ")[2].partition("\n\n")[0]
        assert entry.startswith(f"{title.partition(': ')[0]}: "), id
        assert " *Cure:* " in " ".join(entry.split()), id


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
    layout.tls = trust(layout.folder / "ca.pem")
    layout.tls.verify_flags &= ~ssl.VERIFY_X509_STRICT  # our authority is no model
    options = certify(layout.folder)
    for path in layout.folder.glob("server.*"):
        path.chmod(0o644)
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
    assert re.fullmatch(
        r"none: .*|for 127.0.0.1, by The tests, (89|90) days left, TLSv1\.[23] \(.*\)", found["TLS"].found
    )
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
        found = go(site.uri("wscheck/noise"), idle=0.3)
        assert problems(found) == []
        assert re.search(r"not silent: [\d,]+ messages came on wscheck/noise", found["idle"].found)
    finally:
        stop.set()
        thread.join()


def test_a_token_in_the_query_goes_everywhere_and_is_not_shown(start: Callable[..., Site]) -> None:
    site = start(settings={"WSREDIS": {"PROCESS_REQUEST": "tests.project.callbacks.by_token"}})
    found = go(site.uri("news?token=alice"))
    assert problems(found) == []
    assert "alice" not in str(found)
    assert "alice" not in str(found := go(site.uri("news?token=alice&subscribe-group&subscribe-user")))
    assert problems(found) == []
    the_problem(go(site.uri("news?token=bad")), "E619")


def test_a_login_for_a_proxy_is_used_and_not_shown(doors: Doors, site: Site) -> None:
    passwords = doors.folder / "passwords"
    passwords.write_text("joe:{PLAIN}open/sesame\n")
    passwords.chmod(0o644)
    port = doors.to(site.port, add=f"auth_basic x; auth_basic_user_file {passwords};")
    the_problem(go(behind(port)), "E620")
    found = go(f"ws://joe:open%2Fsesame@127.0.0.1:{port}/ws/")
    assert problems(found) == []
    assert "sesame" not in str(found)


def test_an_address_of_ipv6(start: Callable[..., Site]) -> None:
    if not Path("/proc/net/if_inet6").exists():
        pytest.skip("this machine has no IPv6")
    site = start("[::1]:0")
    found = go(f"ws://[::1]:{site.port}/ws/")
    assert problems(found) == []
    assert f"port {site.port}: ::1 in " in found["connection"].found


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
        # Django's sessions in files remember the first folder that they were given.
        monkeypatch.setattr(sessions.store(), "_storage_path", str(tmp_path), raising=False)
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


def test_a_session_that_cannot_be_kept(site: Site) -> None:
    away = {"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": f"redis://{CLOSED}/0"}}
    with override_settings(SESSION_ENGINE="django.contrib.sessions.backends.cache", CACHES=away):
        problem = the_problem(go(site.uri(""), user="alice"), "E611")
    assert problem.text == "Session: none can be made for 'alice': it failed: ConnectionError."
    assert "SESSION_ENGINE = 'django.contrib.sessions.backends.cache'" in problem.hint
    without = [app for app in settings.INSTALLED_APPS if app != "django.contrib.sessions"]
    with override_settings(INSTALLED_APPS=without):
        problem = the_problem(go(site.uri("news?token=opensesame"), user="alice"), "E611")
    assert "no sessions" in problem.text
    assert problem.hint.endswith(f"--live '{site.uri('news')}?token=…'")


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("path", ["", "news?subscribe-user"], ids=["everybody may", "the user alone may"])
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
        ("/socket/news", "/socket/news is not below WEBSOCKET_URL, '/ws/'"),
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


def test_an_address_that_etc_hosts_has_and_the_proxy_has_not(doors: Doors, site: Site) -> None:
    """With a real resolver: the command alone sees another /etc/hosts."""
    hosts = doors.folder / "hosts"
    hosts.write_text("127.0.0.1 testserver\n127.0.0.2 testserver\n")
    private = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/hosts && exec "$@"', str(hosts)]
    try:
        subprocess.run([*private, "true"], check=True, capture_output=True, timeout=20)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"this machine does not allow a mount of one's own: {error}")
    port = doors.to(site.port)
    arguments = ["wscheck", "--only", "live", "--json", "--live", f"ws://testserver:{port}/ws/"]
    command = [*private, *layouts.Layout.python, str(site.manage), *arguments]
    done = subprocess.run(command, env=site.env, cwd=ROOT, capture_output=True, text=True, timeout=60)
    rows = {row["checked"]: row for row in json.loads(done.stdout)["areas"][0]["rows"]}
    (problem,) = rows["connection"]["problems"]
    assert problem["id"] == "wsredis.W604"
    assert "testserver has the address 127.0.0.2: Connection refused" in problem["text"]
    assert problem["hint"] == f"NGiNX: listen 127.0.0.2:{port}; Or take 127.0.0.2 out of the DNS of testserver."
    assert rows["message"]["verdict"] == "ok"


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
    assert ("Or go to the name that it has: --live wss://example.com:" in problem.hint) == (number == "E607")
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


def test_a_chain_that_is_not_sent_whole(
    doors: Doors, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(make_authority(tmp_path)))
    certify_through_another(tmp_path)
    urls = []
    for chain in (["server"], ["server", "between"]):
        whole = "".join((tmp_path / f"{name}.pem").read_text() for name in chain)
        lines = doors.certificate(tmp_path)
        (doors.folder / "server.pem").write_text(whole)
        urls.append(f"wss://127.0.0.1:{doors.to(site.port, server=lines, listen='ssl')}/ws/")
    problem = the_problem(go(urls[0]), "E608")
    assert "for 127.0.0.1, by between, 60 days left: unable to get local issuer certificate" in problem.text
    assert "fullchain.pem, and not cert.pem" in problem.hint
    assert problems(go(urls[1])) == []


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
    assert problem.hint == f"Write --live {url}"
    port = doors.nginx(f"{doors.certificate(authority)} return 200;", listen="ssl")  # its 400 says so, in HTTP
    the_problem(go(f"ws://127.0.0.1:{port}/ws/"), "E605")
    with dumb_server(None) as silent, pytest.MonkeyPatch.context() as patch:
        patch.setattr(way, "STEP_SECONDS", 0.3)
        the_problem(go(f"wss://127.0.0.1:{silent}/ws/"), "E605")


# The handshake: which layer refuses it


def behind(port: int, path: str = "") -> str:
    return f"ws://127.0.0.1:{port}/ws/{path}"


UPGRADE = "proxy_set_header Upgrade $http_upgrade;"
CONNECTION = "proxy_set_header Connection upgrade;"
HOST = "proxy_set_header Host $http_host;"
HTTP_1_1 = "proxy_http_version 1.1;"
BACKEND = "proxy_set_header Host backend;"  # as "upstream backend" has it
LOCALHOST = "proxy_set_header Host localhost;"
VERSION = 'proxy_set_header Sec-WebSocket-Version "";'
KEY = 'proxy_set_header Sec-WebSocket-Key "";'
ANOTHER = 'return 200 "another";'


def test_a_proxy_that_is_right(doors: Doors, site: Site) -> None:
    """What each of the following changes in one thing."""
    found = go(behind(doors.to(site.port)))
    assert problems(found) == []
    assert "101 Switching Protocols, by nginx/" in found["handshake"].found


@pytest.mark.parametrize(
    ("changed", "number", "said", "hint"),
    [
        ({"remove": UPGRADE}, "E612", "Proxy: the answer is 426 Upgrade Required, by django_wsredis", UPGRADE),
        ({"remove": CONNECTION}, "E612", "Proxy: the answer is 426", "proxy_set_header Connection"),
        ({"remove": HTTP_1_1}, "E612", "by django_wsredis: it speaks HTTP/1.0", HTTP_1_1),
        ({"add": VERSION}, "E612", "Sec-WebSocket-Version does not arrive", "$http_sec_websocket_version;"),
        ({"add": KEY}, "E616", "another Host", "Or something takes out the header Sec-WebSocket-Key"),
        ({"remove": HOST, "add": BACKEND}, "E616", "another Host than '127.0.0.1:", HOST),
        ({"remove": HOST, "add": LOCALHOST}, "E617", "Origin: the answer is 403", HOST),
        ({"slash": "/", "where": "/ws/"}, "E614", "a proxy strips '/ws/'", "no slash behind it"),
        ({"slash": "/", "where": "/ws"}, "E614", "a proxy strips '/ws'", "no slash behind it"),
        ({"where": "/sockets/"}, "E613", "somebody else who answers below", "location /ws/ {"),
        ({"where": "/ws/chat"}, "E613", "Location: the answer is 404 Not Found, by nginx", "location /ws/ {"),
        ({"add": ANOTHER}, "E613", "the answer is 200 OK, by nginx", "location /ws/ {"),
        ({"add": "return 405;"}, "E613", "the answer is 405 Method Not Allowed", "location /ws/ {"),
        ({"add": "if ($http_upgrade) { return 404; }"}, "E613", "is answered by a worker", "grep -rniE 'upgrade|/ws/'"),
        ({"add": "return 301 https://$host$request_uri;"}, "E615", "to https://127.0.0.1/ws/wscheck-", "wss://"),
        ({"add": "return 302 /login/?next=/ws/;"}, "E615", "Location: the answer is 302 Found", "location /ws/ {"),
        ({"add": "deny all;"}, "E620", "Proxy: the answer is 403 Forbidden, by nginx", "deny"),
        ({"add": "return 401;"}, "E620", "Proxy: the answer is 401 Unauthorized, by nginx", "auth_basic"),
        ({"add": "return 400;"}, "E620", "Proxy: the answer is 400 Bad Request, by nginx/1", "large_client_head"),
        ({"add": 'return 400 "no";'}, "E616", "400 Bad Request, by nginx/1", "ALLOWED_HOSTS"),
        ({"add": "return 426;"}, "E612", "426 Upgrade Required, by nginx", UPGRADE),
        ({"add": "return 503;"}, "E620", "503 Service Unavailable, by nginx/1", "limit_conn"),
        ({"add": "return 429;"}, "E620", "Proxy: the answer is 429 Too Many Requests, by nginx", "limit_(conn|req)"),
        ({"add": "return 500;"}, "E624", "Proxy: the answer is 500 Internal Server Error, by nginx", "error.log"),
        ({"add": "return 418;"}, "E624", "Site or proxy: the answer is 418", "journalctl"),
    ],
)  # fmt: skip
def test_a_proxy_that_is_wrong_in_one_thing(
    doors: Doors, site: Site, changed: dict[str, str], number: str, said: str, hint: str
) -> None:
    found = go(behind(doors.to(site.port, **changed)))
    problem = the_problem(found, number)
    assert said in problem.text
    assert hint in problem.hint
    assert not_checked(found) == AFTER_THE_HANDSHAKE - {"idle", "message to the user"}


def test_a_browser_fails_there_too(doors: Doors, site: Site) -> None:
    """The real client sees what wscheck tells."""
    for changed, status in (({"remove": UPGRADE}, 426), ({"remove": HOST, "add": LOCALHOST}, 403)):
        port = doors.to(site.port, **changed)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
            headers = {**HEADERS, "Origin": f"http://127.0.0.1:{port}"}
            connection.request("GET", "/ws/news?subscribe-broadcast", headers=headers)
            assert connection.getresponse().status == status


def test_a_page_that_django_redirects_is_seen_for_a_stripped_prefix(doors: Doors, start: Callable[..., Site]) -> None:
    site = start(settings={"MIDDLEWARE": ["django.middleware.common.CommonMiddleware", *settings.MIDDLEWARE]})
    port = doors.to(site.port, slash="/", where="/ws/")
    problem = the_problem(go(f"ws://127.0.0.1:{port}/ws/whoami"), "E614")
    assert "the answer is 301 Moved Permanently" in problem.text


def test_a_proxy_with_no_site_behind_it(doors: Doors) -> None:
    problem = the_problem(go(behind(doors.to(free_port()))), "E621")
    assert "Proxy: the answer is 502 Bad Gateway, by nginx" in problem.text
    problem = the_problem(go(behind(doors.haproxy(free_port()))), "E621")
    assert "Proxy: the answer is 503 Service Unavailable: it does not reach the site" in problem.text


def test_a_proxy_that_speaks_another_protocol_than_the_site(doors: Doors, folder: Path) -> None:
    with hosted("--uwsgi-socket", "--threads", "2") as port:
        the_problem(go(behind(doors.to(port))), "E621")
        assert "nothing that is HTTP" in the_problem(go(behind(port)), "E624").text


def test_a_site_that_does_not_answer(doors: Doors, monkeypatch: pytest.MonkeyPatch) -> None:
    with dumb_server(None) as silent:
        late = doors.to(silent, add="proxy_read_timeout 1s;")
        assert "the answer is 504 Gateway Timeout, by nginx" in the_problem(go(behind(late)), "E623").text
        monkeypatch.setattr(opening, "STEP_SECONDS", 0.5)
        began_at = time.monotonic()
        problem = the_problem(go(behind(silent)), "E623")
        assert time.monotonic() - began_at < 4
    assert problem.text == "Site or proxy: no answer in 5 s to the handshake; / is not answered, either."


@pytest.mark.parametrize("pages_are_right", [True, False])
def test_a_proxy_that_speaks_uwsgi_with_what_speaks_http(
    doors: Doors, site: Site, pages_are_right: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for the other: neither the pages nor a busy site are to blame if the pages are answered."""
    monkeypatch.setattr(opening, "STEP_SECONDS", 1)
    monkeypatch.setattr(unanswered, "PAGE_SECONDS", 1)
    wrong = f"{{ uwsgi_param QUERY_STRING $query_string; uwsgi_pass 127.0.0.1:{site.port}; }}"
    pages = f"{{ proxy_pass http://127.0.0.1:{site.port}; {RIGHT} }}" if pages_are_right else wrong
    port = doors.nginx(f"location / {pages}\nlocation /ws/ {wrong}")
    problem = the_problem(go(behind(port)), "E623")
    if pages_are_right:
        assert re.search(r"while / is answered: \d{3} .*, by nginx/", problem.text)
        assert "1. The location of WEBSOCKET_URL in the proxy" in problem.hint
    else:
        assert "/ is not answered, either" in problem.text
        assert "1. Does the site answer without the proxy?" in problem.hint
    assert "uwsgi_pass is for uWSGI's socket =" in problem.hint


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"", "nothing that is HTTP"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "nothing that is HTTP"),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n",
            "101, and not right",
        ),
        (b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\n\r\n", "101, and not right"),
        (b"HTTP/1.1 599 \r\nContent-Length: 0\r\n\r\n", "Site or proxy: the answer is 599."),
        (b"HTTP/1.1 500 Oops\r\n\r\n<h1>Server Error (500)</h1>", "Site: the answer is 500 Internal Server Error."),
    ],
)
def test_an_answer_that_is_none_of_a_websocket(answer: bytes, said: str) -> None:
    with dumb_server(answer) as port:
        assert said in the_problem(go(behind(port)), "E624").text


@pytest.mark.parametrize(
    ("add", "said"),
    [
        (
            "return 444;",
            "Site or proxy: 127.0.0.1:PORT answers the handshake with nothing that is HTTP, or breaks off.",
        ),
        ("proxy_hide_header Sec-WebSocket-Accept;", "Proxy: the answer is 101, and not right: missing Sec-WebSocket-A"),
        ("proxy_hide_header Upgrade;", "Proxy: the answer is 101, and not right: missing Upgrade header."),
        ("add_header Sec-WebSocket-Accept x always;", "Proxy: the answer is 101, and not right: "),
        ("add_header Sec-WebSocket-Protocol x always;", "Proxy: the answer is 101, and not right: no subprotocols sup"),
        ("return 599;", "Site or proxy: the answer is 599, by nginx/"),
    ],
)
def test_a_proxy_that_spoils_the_answer(doors: Doors, site: Site, add: str, said: str) -> None:
    port = doors.to(site.port, add=add)
    assert said.replace("PORT", str(port)) in the_problem(go(behind(port)), "E624").text


def test_a_proxy_that_takes_no_more(doors: Doors, site: Site) -> None:
    port = doors.to(site.port, add="limit_conn sockets 1;", http="limit_conn_zone $binary_remote_addr zone=sockets:1m;")
    with connect(behind(port, "news?subscribe-broadcast")):
        problem = the_problem(go(behind(port)), "E620")
    assert problem.text.startswith("Proxy: the answer is 503 Service Unavailable, by nginx/")
    assert "limit_conn NAME 10000;" in problem.hint


def test_a_proxy_that_does_not_take_the_request(
    doors: Doors, site: Site, authority: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certify(authority)
    browsers = shutil.copy(authority / "ca.pem", doors.folder)
    asking = f"{doors.certificate(authority)} ssl_verify_client on; ssl_client_certificate {browsers};"
    monkeypatch.setenv("SSL_CERT_FILE", str(authority / "ca.pem"))
    problem = the_problem(go(f"wss://127.0.0.1:{doors.to(site.port, server=asking, listen='ssl')}/ws/"), "E620")
    assert "says '400 No required SSL certificate was sent'" in problem.text
    assert "ssl_verify_client off;" in problem.hint
    port = doors.to(site.port, server="client_header_buffer_size 1k; large_client_header_buffers 2 1k;")
    problem = the_problem(go(behind(port, f"?token={'x' * 1500}")), "E620")
    assert problem.text.startswith("Proxy: the answer is 414 ")
    assert "large_client_header_buffers 4 16k;" in problem.hint
    found = go(f"ws://joe:{'x' * 1500}@127.0.0.1:{port}/ws/")  # in the header Authorization
    assert "says '400 Request Header Or Cookie Too Large'; the site has not seen it" in the_problem(found, "E620").text


def test_another_server_of_websockets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(messages, "STEP_SECONDS", 0.7)
    with serve(lambda connection: list(connection), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        found = go(behind(server.socket.getsockname()[1]))
        server.shutdown()
        thread.join()
    (problem,) = found["message"].problems
    assert problem.id == "wsredis.E613"
    assert "no worker of django_wsredis: it does not answer /ws/-/healthz as one" in problem.text
    assert problems(found)[0] == problem
    assert found["foreign Origin"].problems[0].id == "wsredis.E634"


def test_who_has_answered_500(doors: Doors, site: Site) -> None:
    port = doors.haproxy(site.port, add="http-request deny deny_status 500")
    problem = the_problem(go(behind(port)), "E624")
    assert (problem.text, problem.hint) == ("Proxy: the answer is 500 Internal Server Error.", hints.PROXY_LOG)
    port = doors.apache("Redirect 500 /ws/")
    assert the_problem(go(behind(port)), "E624").text.startswith("Proxy: the answer is 500 Internal Server Error, by A")
    problem = the_problem(go(behind(doors.to(site.port, add='return 500 "no";'))), "E624")
    assert problem.text.startswith("Site or proxy: the answer is 500 Internal Server Error, by nginx/")
    assert problem.hint == hints.BOTH_LOGS


def test_an_application_that_fails() -> None:
    """uWSGI then says nothing at all."""
    with hosted("--http-socket", module="operator:neg") as port:
        problem = the_problem(go(behind(port)), "E624")
    assert "nothing that is HTTP, or breaks off" in problem.text
    assert hints.SITE_LOG in problem.hint


def test_a_host_that_the_site_does_not_allow(start: Callable[..., Site]) -> None:
    hosts = {"ALLOWED_HOSTS": ["example.com"]}
    site = start(settings=hosts)
    with override_settings(**hosts):
        problem = the_problem(go(site.uri("")), "E616")
    assert "the Host is not in ALLOWED_HOSTS" in problem.text
    assert problem.hint == "ALLOWED_HOSTS = ['127.0.0.1', …]"


def test_django_answers_without_websockets(start: Callable[..., Site]) -> None:
    with hosted("--http-socket", "--threads", "2", module="django.core.wsgi:get_wsgi_application()") as port:
        problem = the_problem(go(behind(port)), "E613")
    assert "Django answers there, and takes no websockets at '/ws/'" in problem.text
    assert "from django_wsredis.wsgi import get_wsgi_application" in problem.hint
    site = start(settings={"WEBSOCKET_URL": "/socket/"})
    assert "Django answers there" in the_problem(go(site.uri("")), "E613").text
    site = start(settings={"WEBSOCKET_URL": "/socket/", "DEBUG": True, "WSREDIS": {"DRAIN_SECONDS": 0}})
    assert "Django answers there" in the_problem(go(site.uri("")), "E613").text


@contextmanager
def hosted(kind: str, *options: str, module: str = "tests.project.wsgi", **settings: Any) -> Iterator[int]:
    """Run a uWSGI that listens in some way, with no options that are not named; yield its port."""
    port = free_port()
    program = find_uwsgi()
    base = ["--module", module, "--pythonpath", str(ROOT), "--virtualenv", sys.prefix, "--need-app", "--die-on-term"]
    env = {
        **os.environ,
        "TEST_DATABASE": os.environ["TEST_DATABASE"],
        "TEST_REDIS_URL": get_settings().url,
        "TEST_SETTINGS": json.dumps(settings),
    }
    process = Process([str(program), *base, kind, f"127.0.0.1:{port}", *options, "--master"], env=env, cwd=ROOT)
    try:
        process.wait_for(r"spawned uWSGI worker 1")
        process.wait_for(r"WSGI app 0 .* ready")
        yield port
    finally:
        process.stop()


# Who may


def test_a_permission_that_is_refused_has_the_reason(start: Callable[..., Site], configured: RedisServer) -> None:
    permits = {"ALLOWED_CHANNELS": "tests.permits.nothing"}
    site = start(settings={"WSREDIS": permits})
    with override_settings(WSREDIS={"URL": configured.url, **permits}):
        problem = the_problem(go(site.uri("news")), "E619")
        assert "subscribe-broadcast is refused: WSREDIS['ALLOWED_CHANNELS'] does not grant it." in problem.text
        the_problem(go(site.uri("news"), user="alice"), "E619")
    problem = the_problem(go(site.uri("news")), "E619")
    assert "by the settings and the code here it would be granted" in problem.text
    problem = the_problem(go(site.uri("news?subscribe-user")), "E619")
    assert "is it logged in?" in problem.text


def test_publishing_is_refused_by_default(site: Site) -> None:
    problem = the_problem(go(site.uri("news?subscribe-broadcast&publish-broadcast")), "E619")
    assert "publish-broadcast is refused: WSREDIS['ALLOWED_CHANNELS'] is not set" in problem.text


def test_a_scratch_facility_that_is_refused(start: Callable[..., Site]) -> None:
    site = start(settings={"WSREDIS": {"ALLOWED_CHANNELS": "tests.permits.news_alone"}})
    found = go(site.uri("news"), idle=0.1)
    problem = the_problem(found, "W625")
    assert re.search(
        r"visitors hear news, and news/wscheck-\w+ is refused: 403 Forbidden, by django_wsredis\.$", problem.text
    )
    assert "request.path.startswith('/ws/wscheck')" in problem.hint
    assert not_checked(found) == {"message", "binary message", "message of 100 KB", "compression"}
    assert problems(go(site.uri("rooms/wscheck"))) == []


@pytest.mark.usefixtures("hasty")
def test_a_permission_that_is_granted_in_part(start: Callable[..., Site]) -> None:
    site = start(settings={"WSREDIS": {"ALLOWED_CHANNELS": "tests.permits.what_is_the_users"}})
    for path in ("", "news", "?subscribe-user", "news?subscribe-user", "wscheck?subscribe-user"):
        assert problems(go(site.uri(path), user="alice")) == []
    site = start(settings={"WSREDIS": {"ALLOWED_CHANNELS": "tests.permits.what_is_for_everybody"}})
    problem = the_problem(go(site.uri("news"), user="alice"), "E619")
    assert re.match(r"Permission: user:alice:(\S+) is not granted; the socket has broadcast:\1\.", problem.text)


def test_a_foreign_origin_that_is_accepted(
    doors: Doors, site: Site, start: Callable[..., Site], configured: RedisServer
) -> None:
    port = doors.to(site.port, add='proxy_set_header Origin "";')
    problem = the_problem(go(behind(port)), "E634")
    assert "a page of https://wscheck.invalid may connect" in problem.text
    site = start(settings={"WSREDIS": {"REQUIRE_ORIGIN": True}})  # as the hint says
    assert problems(go(site.uri(""))) == []
    ports = doors.to(site.port, add='proxy_set_header Origin "";'), doors.to(site.port, remove=HOST, add=LOCALHOST)
    for port in ports:
        the_problem(go(behind(port)), "E619")  # the settings here are not those of the site
        with override_settings(WSREDIS={"URL": configured.url, "REQUIRE_ORIGIN": True}):
            for user in ("", "alice"):
                problem = the_problem(go(behind(port), user=user), "E617")
                assert f"to http://127.0.0.1:{port}: it does not arrive, or with another Host." in problem.text


# Redis


@pytest.mark.usefixtures("hasty")
def test_a_site_with_another_prefix_or_redis(
    start: Callable[..., Site], own_redis: RedisServer, configured: RedisServer
) -> None:
    for site in (start(settings={"WSREDIS": {"PREFIX": "other"}}), start(redis_url=own_redis.url)):
        found = go(site.uri("news"))
        problem = the_problem(found, "E627")
        assert f"what is published here ({configured.url}, PREFIX 'wsredis') does not arrive" in problem.text
        assert not_checked(found) == {"binary message", "message of 100 KB", "compression"}


def test_a_site_in_another_database_of_the_redis(start: Callable[..., Site], configured: RedisServer) -> None:
    site = start(redis_url=f"{configured.url}?db=1")
    problem = the_problem(go(site.uri("")), "W628")
    assert "must name the same database of Redis" in problem.hint
    assert configured.url in problem.hint


def test_a_redis_that_is_away_from_here(site: Site) -> None:
    with override_settings(WSREDIS={"URL": f"redis://:opensesame@{CLOSED}/0"}):
        found = go(site.uri(""))
    problem = the_problem(found, "E626")
    assert "cannot be reached" in problem.text
    assert "opensesame" not in str(found)
    assert not_checked(found) == {"binary message", "message of 100 KB", "compression"}


def test_a_site_whose_redis_is_away(start: Callable[..., Site]) -> None:
    site = start(redis_url=f"redis://{CLOSED}/0")
    problem = the_problem(go(site.uri("")), "E622")
    assert "Redis: the answer is 503 Service Unavailable, by django_wsredis: the worker has none now" in problem.text


def test_a_site_that_is_full(start: Callable[..., Site]) -> None:
    site = start(settings={"WSREDIS": {"MAX_SOCKETS": 1}})
    with site.connect("news?subscribe-broadcast"):
        assert "the worker is full" in the_problem(go(site.uri("")), "E622").text
    wait_until(lambda: live.count(facility="*").sockets == 0, what="the end of the socket")
    assert problems(go(site.uri(""))) == []


def test_a_server_that_cannot_give_up_its_sockets() -> None:
    with hosted("--http-socket") as port:
        problem = the_problem(go(behind(port)), "E622")
    assert "the server that runs it cannot give up its sockets" in problem.text
    assert "enable-threads = true" in problem.hint


# Messages, pings, ends


@pytest.mark.usefixtures("hasty")
def test_large_messages_that_are_lost(site: Site) -> None:
    lost = bytearray()

    def drop(data: bytes) -> bytes:
        if len(data) > 10_000 or lost:
            lost.extend(data)
            return b""
        return data

    with Relay(site.port, from_site=drop) as relay:
        found = go(behind(relay.port))
    assert [problem.id for problem in problems(found)][:2] == ["wsredis.E629", "wsredis.E629"]
    assert found["binary message"].verdict == "ok"
    assert "102,400 bytes" in problems(found)[0].text


@pytest.mark.usefixtures("hasty")
def test_messages_that_are_held_back(site: Site) -> None:
    with Relay(site.port, from_site=lambda data: b"") as relay:
        found = go(behind(relay.port))
    problem = found["message"].problems[0]
    assert problem.id == "wsredis.E629"
    assert "which the worker has sent" in problem.text
    assert {problem.id for problem in problems(found)} == {"wsredis.E629", "wsredis.E631", "wsredis.E635"}


@pytest.mark.usefixtures("hasty")
def test_what_the_browser_sends_is_lost() -> None:
    """uWSGI's router without http-websockets."""
    with hosted("--http", "--threads", "4") as port:
        found = go(behind(port))
    assert [problem.id for problem in problems(found)] == ["wsredis.E631", "wsredis.E635"]
    assert "http-websockets = true" in found["ping"].problems[0].hint
    with hosted("--http", "--threads", "4", "--http-websockets") as port:
        assert problems(go(behind(port))) == []


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize(
    ("step", "kind", "numbers"),
    [
        ("message of 100 KB", "nginx", ["E629", "E631"]),
        ("message of 100 KB", "haproxy", ["E629", "E631"]),
        ("ping", "nginx", ["E632"]),
        ("idle", "nginx", ["E635"]),
        ("ping", "haproxy", ["E632"]),
        ("idle", "haproxy", ["E635"]),
    ],
)
def test_a_proxy_that_hangs(
    doors: Doors, site: Site, step: str, kind: str, numbers: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(way, "STEP_SECONDS", 0.7)
    port = doors.to(site.port) if kind == "nginx" else doors.haproxy(site.port)
    found = {}
    for row in look(Situation(live=behind(port), idle=0.1)):
        found[row.checked] = row
        if row.checked == step:
            doors.freeze()
    seen = [problem for name, row in found.items() if name != "foreign Origin" for problem in row.problems]
    assert [problem.id for problem in seen] == [f"wsredis.{number}" for number in numbers]
    if step == "ping":
        assert "after 0.1 s of silence no ping is answered any more" in seen[0].text
        assert not_checked(found) == {"close"}
    else:
        assert all("--live ws://127.0.0.1:8000/ws/" in problem.hint for problem in seen)


def test_compression_that_is_not_agreed_on(doors: Doors, site: Site, configured: RedisServer) -> None:
    port = doors.to(site.port, add='proxy_set_header Sec-WebSocket-Extensions "";')
    problem = the_problem(found := go(behind(port)), "W630")
    assert "WSREDIS['COMPRESSION'] is 256" in problem.text
    assert "10,040 characters arrived" in found["compression"].found
    with override_settings(WSREDIS={"URL": configured.url, "COMPRESSION": 0}):
        found = go(behind(port))
    assert problems(found) == []
    assert found["compression"].found.startswith("off, by WSREDIS['COMPRESSION']: ")


def test_an_idle_timeout_that_is_too_short(doors: Doors, site: Site) -> None:
    for port in (doors.to(site.port, add="proxy_read_timeout 1s;"), doors.haproxy(site.port, tunnel="1s")):
        found = go(behind(port), idle=5)
        problem = the_problem(found, "E632")
        assert re.search(r"after 1\.\d s a proxy cut the silent socket: there is no close code of ours", problem.text)
        assert "each 20 s" in problem.hint
        assert not_checked(found) == {"close"}
        assert problems(go(behind(port), idle=0.2)) == []


def test_a_site_that_pings_often_enough(doors: Doors, start: Callable[..., Site]) -> None:
    site = start(settings={"WSREDIS": {"PING_INTERVAL": 1}})
    found = go(behind(doors.haproxy(site.port, tunnel="3s")), idle=5)
    assert problems(found) == []
    assert found["idle"].found.startswith("open after 5 s")


@pytest.mark.parametrize(
    ("code", "reason", "layer", "said"),
    [
        (4401, "", "Session", "4401."),
        (4403, "", "Permission", "4403."),
        (1012, "a reload", "Site", "1012 (a reload)."),
        (1013, "too slow", "Site", "1013 (too slow)."),
    ],
)
def test_a_socket_that_the_site_closes(site: Site, code: int, reason: str, layer: str, said: str) -> None:
    def close() -> None:
        wait_until(lambda: disconnect(facility="wscheck*", code=code, reason=reason).sockets)

    thread = threading.Thread(target=close)
    rows = look(Situation(live=site.uri(""), idle=10))
    found = {}
    for row in rows:
        found[row.checked] = row
        if row.checked == "ping":
            thread.start()
    thread.join()
    text = the_problem(found, "E633").text
    assert re.fullmatch(rf"{layer}: after [\d.]+ s the site closed the socket with {re.escape(said)}", text)
    assert not_checked(found) == {"foreign Origin", "close"}


def test_answers_to_pings_that_are_lost(start: Callable[..., Site]) -> None:
    site = start(settings={"WSREDIS": {"PING_INTERVAL": 1, "PING_TIMEOUT": 1}})
    lost = threading.Event()
    found = {}
    with Relay(site.port, to_site=lambda data: b"" if lost.is_set() else data) as relay:
        for row in look(Situation(live=behind(relay.port), idle=10)):
            found[row.checked] = row
            if row.checked == "ping":
                lost.set()
    problem = the_problem(found, "E633")
    assert problem.text.startswith("Proxy: after ")
    assert problem.text.endswith("closed the socket with 1011 (no answer to a ping).")


def test_a_site_that_ends_meanwhile(start: Callable[..., Site]) -> None:
    site = start()
    found = {}
    for row in look(Situation(live=site.uri(""))):
        found[row.checked] = row
        if row.checked == "binary message":
            os.kill(site.pid, signal.SIGKILL)
    problem = the_problem(found, "E633")
    assert "the socket was cut, with no close code: by a proxy, or its worker has died" in problem.text
    assert not_checked(found) == {"compression", "ping", "foreign Origin", "close"}


def test_a_close_code_that_does_not_come_back(site: Site) -> None:
    def cut_at_close(data: bytes) -> bytes | None:
        return None if data[0] == 0x88 else data

    with Relay(site.port, to_site=cut_at_close) as relay:
        problem = the_problem(go(behind(relay.port)), "E635")
    assert "does not come back in 5 s, but 1006" in problem.text
