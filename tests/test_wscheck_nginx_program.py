"""wscheck's area `nginx`: the program, and where its configuration comes from."""

from __future__ import annotations

import re
import shutil
import socket
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest
from django.test import override_settings

from django_wsredis.checks import nginx
from django_wsredis.checks.nginx import probing, program
from django_wsredis.checks.nginx.probing import Probed
from django_wsredis.checks.nginx.reading import Disk
from django_wsredis.checks.situation import Situation

from .nginx_site import Site, change, in_nginx_place, line_of, look, printed, problems, real, row, running_site
from .servers import RedisServer

VERSION = "        proxy_http_version 1.1;  # 1.0 has no upgrade\n"
UPGRADE = "        proxy_set_header Upgrade $http_upgrade;\n"
HOST = "        proxy_set_header Host $http_host;  # with its port: the browser's Origin is compared with it\n"
STREWN = ("", "", "", ";", "{", "}", "$", "~", "if", "''", "unix:")
TIMEOUT = "        proxy_read_timeout 60s;"


@pytest.fixture(scope="module")
def site(shared_redis: RedisServer) -> Iterator[Site]:
    with running_site(shared_redis) as site:
        yield site


@pytest.fixture
def as_nginx(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    return partial(in_nginx_place, folder, monkeypatch)


def test_e201_an_old_one(as_nginx: Callable[[str], None], site: Site) -> None:
    as_nginx("echo nginx version: nginx/1.3.12 >&2")
    (problem,) = problems(look(site.files("split"), site))
    assert problem.id == "wsredis.E201"
    assert "NGiNX is 1.3.12" in problem.text
    as_nginx("echo nginx version: nginx/1.3.13 >&2")
    assert problems(look(site.files("split"), site)) == []


def test_http_1_1_is_the_usual_one_since_1_29_7(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(VERSION + UPGRADE, UPGRADE)])
    as_nginx("echo nginx version: nginx/1.29.7 >&2")
    assert problems(look(main, site)) == []
    as_nginx("echo nginx version: nginx/1.29.6 >&2")
    assert [problem.id for problem in problems(look(main, site))] == ["wsredis.E207"]


@pytest.mark.parametrize(
    ("said", "shown", "usual"),
    [
        ("nginx version: nginx/1.24.0 (Ubuntu)", "1.24.0, ", "1.0"),
        ("nginx version: nginx/1.29.8 (nginx-plus-r37)", "1.29.8, ", "1.1"),
        ("Tengine version: Tengine/2.2.3 (nginx/1.8.1)", "1.8.1 in Tengine/2.2.3, ", "1.0"),
        ("Tengine version: Tengine/3.1.0\nnginx version: nginx/1.24.0", "1.24.0 in Tengine/3.1.0, ", "1.0"),
        ("Angie version: Angie/1.12.1\nnginx version: nginx/1.31.2", "1.31.2 in Angie/1.12.1, ", "1.1"),
        ("nginx version: openresty/1.21.4.1", "1.21.4 in openresty/1.21.4.1, ", "1.0"),
        # these do not tell which NGiNX they are made of: 1.0.0 is no reason for E201, and 1.30.0 none against E207
        ("Angie version: Angie/1.0.0", "Angie/1.0.0, ", ""),
        ("freenginx version: freenginx/1.30.0", "freenginx/1.30.0, ", ""),
    ],
)
def test_what_others_made_of_nginx_has_numbers_of_its_own(
    said: str, shown: str, usual: str, as_nginx: Callable[[str], None], site: Site
) -> None:
    main = site.files("split")
    change(printed(main), [(VERSION + UPGRADE, UPGRADE)])
    as_nginx(f'printf "{said}\\nconfigure arguments: --prefix=/opt/nginx/1.2.3\\n" >&2')
    rows = look(main, site)
    assert row(rows, "nginx").found.startswith(shown)
    assert row(rows, "nginx").is_skipped is (usual == "")
    assert [problem.id for problem in problems(rows)] == ["wsredis.E207"] * (usual != "1.1")


def test_what_nginx_prints_is_looked_at_where_no_file_is_given(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    as_nginx(real(main))
    rows = look(None, site)
    assert problems(rows) == []
    assert row(rows, "configuration").found == f"{main}, 4 files"
    change(printed(main), [(HOST, "")])
    (problem,) = problems(look(None, site))
    assert (problem.id, problem.place) == ("wsredis.E212", f"{printed(main)}:{line_of(main, 'proxy_pass')}")


def test_what_nginx_printed_elsewhere_can_be_given_as_a_file(
    as_nginx: Callable[[str], None], site: Site, folder: Path
) -> None:
    main = site.files("uwsgi")
    as_nginx(real(main))
    dump = program.ask(program.find()).dump
    shutil.rmtree(main.parent)  # it is another machine's
    (folder / "dump").write_text(f"nginx: configuration file {main} test is successful\n{dump}")
    rows = look(folder / "dump", site)
    assert problems(rows) == []
    assert row(rows, "configuration").found == f"{main}, 4 files"


def test_what_nginx_says_of_a_mistake_is_told(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    change(printed(main), [(TIMEOUT, "        proxy_reed_timeout 60s;")])
    as_nginx(f'[ "$1" = -V ] && echo "configure arguments: --conf-path={main}" && exit; {real(main)}')
    (problem,) = problems(look(None, site))
    assert problem.id == "wsredis.E203"
    assert problem.text == 'NGiNX refuses it: unknown directive "proxy_reed_timeout".'
    assert problem.place == f"{printed(main)}:{line_of(main, 'proxy_reed')}"


def test_one_that_may_not_read_everything_is_no_problem(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    emergency = 'nginx: [emerg] open() \\"/var/log/nginx/error.log\\" failed (13: Permission denied)'
    as_nginx(f'[ "$1" = -V ] && echo "configure arguments: --conf-path={main}" && exit; echo "{emergency}" >&2; exit 1')
    rows = look(None, site)
    assert problems(rows) == []
    assert row(rows, "nginx -T").is_skipped
    assert "Permission denied" in row(rows, "nginx -T").found
    assert row(rows, "proxy_http_version").found == "HTTP/1.1"


def test_one_that_hangs_is_waited_for_2_seconds_at_most(as_nginx: Callable[[str], None], site: Site) -> None:
    as_nginx("exec sleep 60")
    start = time.monotonic()
    rows = look(site.files("split"), site)
    assert time.monotonic() - start < 3
    assert row(rows, "nginx").is_skipped
    assert row(rows, "Host").verdict == "ok"


def test_without_nginx_a_given_file_is_looked_at_all_the_same(monkeypatch: pytest.MonkeyPatch, site: Site) -> None:
    main = site.files("split")
    monkeypatch.setattr(program, "find_program", lambda *names: None)
    rows = look(main, site)
    assert row(rows, "nginx").is_skipped
    assert row(rows, "Host").verdict == "ok"
    monkeypatch.setattr(program, "USUAL_PATH", "/nonexistent/nginx.conf")
    rows = look(None, site)
    assert [row.verdict for row in rows] == ["not checked", "not checked"]


def test_a_configuration_that_is_for_other_sites_is_none_of_ours(as_nginx: Callable[[str], None], site: Site) -> None:
    main = site.files("split")
    printed(main).write_text("server { listen 127.0.0.1:1; server_name other.example; root /srv; }")
    as_nginx(real(main))
    rows = look(None, site)
    assert problems(rows) == []
    assert row(rows, "WEBSOCKET_URL").is_skipped
    (problem,) = problems(look(main, site))  # but this file is said to be
    assert problem.id == "wsredis.E204"


def test_wrong_settings_and_unreadable_files_are_rows(site: Site, folder: Path) -> None:
    main = site.files("split")
    with override_settings(WSREDIS={"NOPE": 1}):
        rows = list(nginx.look(Situation(nginx_conf=main)))
    assert row(rows, "WEBSOCKET_URL").is_skipped
    (folder / "empty").write_text("")
    assert [problem.id for problem in problems(look(folder / "empty", site))] == ["wsredis.E204"]
    (folder / "noise").write_bytes(bytes(range(256)) * 3)
    assert {problem.id for problem in problems(look(folder / "noise", site))} <= {"wsredis.E203", "wsredis.E204"}
    (folder / "itself").write_text(f"include {folder}/itself;\n")
    (problem,) = problems(look(folder / "itself", site))
    assert problem.text == f"{folder}/itself is included by itself."


def test_what_may_not_be_read_is_said_and_a_problem_only_if_it_is_what_was_named(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    main = site.files("split")
    text = Disk.text

    def denied(self: Disk, path: str) -> str:
        if path in closed:
            raise PermissionError(13, "Permission denied", path)
        return text(self, path)

    monkeypatch.setattr(Disk, "text", denied)
    closed = ["/etc/nginx/mime.types"]
    rows = look(main, site)
    assert problems(rows) == []
    assert row(rows, "file").found == "/etc/nginx/mime.types cannot be read: Permission denied: run it as root"
    assert row(rows, "Host").verdict == "ok"
    closed = [str(main)]
    rows = look(main, site)
    assert [problem.id for problem in problems(rows)] == ["wsredis.E203"]
    assert [found.is_skipped for found in rows[2:]] == [True]


def test_no_broken_file_raises_anything(site: Site, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Words of what is printed are lost, doubled and strewn about."""
    monkeypatch.setattr(program, "find", lambda: None)
    random = Random(6)
    texts = [printed(site.files(base)).read_text() for base in ("uwsgi", "split")]
    texts.append("map $a $b { default $b; }\nserver { return; }\nserver { location ~ ( { proxy_pass $b; } }\n")
    path = folder / "site.conf"
    for _ in range(200):
        words = re.split(r"(\s+|[;{}])", random.choice(texts))
        for _ in range(random.choice((0, 1, 2, 4))):
            place = random.randrange(len(words))
            words[place] = random.choice(
                ["", "", "", random.choice(words), ";", "{", "}", "$", "~", "if", "''", "unix:"]
            )
        path.write_text("".join(words))
        assert look(path, site)


def test_connections_that_hang_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    over = threading.Event()

    def hang(address: str) -> socket.socket:
        over.wait(30)
        raise TimeoutError

    monkeypatch.setattr(probing, "_connect", hang)
    start = time.monotonic()
    try:
        found = probing.probe({f"10.0.0.{number}:80": "http" for number in range(20)}, "/")
        assert time.monotonic() - start < 2.5
    finally:
        over.set()
    assert set(found.values()) == {Probed("(not known: no answer within 1.5 s)")}


def test_what_is_found_at_an_address(site: Site, folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        (folder / "file").touch()
        seen = {
            f"127.0.0.1:{listener.getsockname()[1]}": Probed(),
            f"127.0.0.1:{site.http}": Probed(speaks="http", is_site=True),
            f"unix:{site.socket}": Probed(speaks="uwsgi", is_site=True),
            f"unix:{folder}/b.sock": Probed("there is no such socket"),
            f"unix:{folder}/file": Probed("it is no socket"),
            "127.0.0.1:1": Probed("nobody listens"),
            "nowhere.invalid:80": Probed("there is no such host"),
            "::": Probed("it is no address"),
        }
        for protocol in ("http", "uwsgi"):
            assert probing.probe(dict.fromkeys(seen, protocol), "/ws/-/healthz") == seen
        assert {found.speaks for found in probing.probe(dict.fromkeys(seen, ""), "/").values()} == {""}


def test_a_server_that_answers_400_to_all_that_is_no_http_speaks_http() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            for _ in range(3):  # the first only looks whether somebody listens
                sock, _ = listener.accept()
                with sock:
                    head = sock.recv(4)
                    if head:
                        status = "200 OK" if head == b"GET " else "400 Bad Request"
                        sock.sendall(f"HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n".encode())
                        sock.shutdown(socket.SHUT_WR)
                        sock.recv(1000)  # the rest, lest a reset overtakes the answer

        listener.settimeout(5)
        thread = threading.Thread(target=answer, daemon=True)
        thread.start()
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert probing.probe({address: "uwsgi"}, "/") == {address: Probed(speaks="http")}
        thread.join(5)
