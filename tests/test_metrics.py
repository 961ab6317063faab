"""Metrics: what is counted is what happened, once, on every host; and who may read them."""

from __future__ import annotations

import json
import re
import socket
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families
from websockets.exceptions import InvalidStatus
from websockets.sync.client import ClientConnection

from django_wsredis import publish
from django_wsredis.exceptions import NotAuthorized
from django_wsredis.loop.gauges import SAMPLE_SECONDS, Gauges
from django_wsredis.loop.reactor import Reactor
from django_wsredis.metrics import SERIES, SILENT, WORKERS, Server
from django_wsredis.operators import require_allowed
from django_wsredis.wsgi import get_wsgi_application

from .conftest import DATABASE
from .hosted import OPTIONS, HostedSite
from .servers import ROOT, RedisServer, Site, wait_until
from .test_health import paused, read
from .test_wsgi import ask

TALK = "news?subscribe-broadcast&publish-broadcast&echo"
SETTINGS = {"WSREDIS": {"ALLOWED_CHANNELS": "tests.project.callbacks.by_query", "PING_INTERVAL": 60}}
DASHBOARD = ROOT / "docs/grafana.json"


class Scrape:
    """The metrics of a server, as Prometheus reads them."""

    def __init__(self, site: Site) -> None:
        status, text, headers = read(site, "-/metrics")
        assert status == 200, text
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
        self.samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]

    def values(self, name: str, **labels: str) -> list[float]:
        """Return the values of a series, of each worker that has it."""
        return [s.value for s in self.samples if s.name == name and labels.items() <= s.labels.items()]

    def sum(self, name: str, **labels: str) -> float:
        return sum(self.values(name, **labels))

    @property
    def workers(self) -> set[str]:
        return {sample.labels["worker"] for sample in self.samples if "worker" in sample.labels}


def sums(site: Site) -> dict[str, float]:
    """Return what the tests compare."""
    scrape = Scrape(site)
    found = {name: scrape.sum(f"wsredis_{name}") for name in ("sockets", "channels", "workers", "silent_workers")}
    found |= {name: scrape.sum(f"wsredis_messages_{name}_total") for name in ("received", "delivered", "dropped")}
    found |= {status: scrape.sum("wsredis_handshakes_total", status=status) for status in ("101", "403", "404", "426")}
    return found | {"closed": scrape.sum("wsredis_closes_total", code="1000")}


# What is counted


def start_host(host: str, redis_server: RedisServer, start_site: Callable[..., Site], workers: int) -> Site:
    if host in OPTIONS:
        return HostedSite(host, redis_server, DATABASE, SETTINGS, workers)
    options = ["--workers", str(workers)] if workers > 1 else []
    return start_site(host, *options, redis_url=redis_server.url, settings=SETTINGS)


def reach_all(site: Site, workers: int) -> None:
    """Have requests at once, until each worker had one, and so lives for all."""
    with ThreadPoolExecutor(16) as pool:

        def all_live() -> bool:
            list(pool.map(lambda _: site.get("ws/-/readyz"), range(16)))
            return Scrape(site).sum("wsredis_workers") == workers

        wait_until(all_live, 30, "a request to each worker")


def open_on_all(stack: ExitStack, site: Site, workers: int) -> list[ClientConnection]:
    """Return websockets of which each worker has some."""
    websockets: list[ClientConnection] = []

    def all_have_some() -> bool:
        with ThreadPoolExecutor(8) as pool:
            opened = list(pool.map(lambda _: site.connect(TALK), range(8)))
        websockets.extend(map(stack.enter_context, opened))
        return [n > 0 for n in Scrape(site).values("wsredis_sockets")] == [True] * workers

    wait_until(all_have_some, 20, "a websocket of each worker")
    return websockets


@pytest.mark.parametrize("host", ["runwsserver", "runserver", *OPTIONS])
def test_all_workers_of_a_server_are_counted_once_and_no_other_server(
    host: str, configured: RedisServer, start_site: Callable[..., Site]
) -> None:
    workers = 1 if host == "runserver" else 2
    site = start_host(host, configured, start_site, workers)
    other = start_site("runwsserver", redis_url=configured.url, settings=SETTINGS)
    with closing_site(site), ExitStack() as stack:
        reach_all(site, workers)
        stack.enter_context(other.connect(TALK))
        websockets = open_on_all(stack, site, workers)
        for path in ("news?subscribe-broadcast&callback=deny", "news?subscribe-broadcast&callback=deny", "?"):
            with pytest.raises(InvalidStatus), site.connect(path):
                pass
        assert site.get("ws/news")[0] == 426
        for number in range(5):
            publish(str(number), facility="news", broadcast=True)
        websockets[0].send("from a browser")
        for websocket in websockets:
            while websocket.recv(10) != "from a browser":
                pass
        sockets = float(len(websockets))
        expected = {
            "sockets": sockets, "channels": float(workers), "workers": float(workers), "silent_workers": 0,
            "received": 1, "delivered": 6 * sockets, "dropped": 0,
            "101": sockets, "403": 2, "404": 1, "426": 1, "closed": 0,
        }  # fmt: skip
        for _ in range(2 * workers):  # whichever worker answers
            assert sums(site) == expected
        # of the other server only its own one
        assert sums(other)["sockets"] == sums(other)["101"] == sums(other)["workers"] == 1
        assert sums(other)["delivered"] == 6
        assert Scrape(site).workers.isdisjoint(Scrape(other).workers)
        websockets[0].close()
        wait_until(lambda: sums(site)["closed"] == 1)
        assert sums(site)["sockets"] == sockets - 1
    assert "Traceback" not in site.output


def closing_site(site: Site) -> Any:
    return closing(SimpleNamespace(close=site.stop))


def test_what_a_worker_is_like_is_told(configured: RedisServer, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", redis_url=configured.url, settings=SETTINGS)
    assert Scrape(site).values("wsredis_canary_seconds") == []
    site.get("ws/-/readyz")
    scrape = Scrape(site)
    assert 0 < scrape.sum("wsredis_canary_seconds") < 2
    assert scrape.values("wsredis_canaries_total", outcome="returned") == [1]
    assert scrape.values("wsredis_canaries_total", outcome="lost") == [0]
    assert scrape.values("wsredis_redis_up") == [1]
    assert scrape.values("wsredis_draining") == [0]
    assert len(scrape.values("wsredis_loop_lag_seconds", quantile="0.99")) == 1
    assert 10e6 < scrape.sum("wsredis_resident_memory_bytes") < 1e9
    began_at = Path(f"/proc/{site.pid}").stat().st_ctime
    assert abs(scrape.sum("wsredis_start_time_seconds") - began_at) < 30


def test_a_worker_that_does_not_answer_is_counted_as_silent(
    configured: RedisServer, start_site: Callable[..., Site]
) -> None:
    site = start_site("runwsserver", "--workers", "2", redis_url=configured.url, settings=SETTINGS)
    reach_all(site, 2)
    with paused(site.worker_pids()[0]):
        scrape = Scrape(site)
        assert scrape.values("wsredis_workers") == [2]
        assert scrape.values("wsredis_silent_workers") == [1]
        assert len(scrape.workers) == 1
    wait_until(lambda: Scrape(site).values("wsredis_silent_workers") == [0])


def test_without_redis_a_worker_tells_of_itself(own_redis: RedisServer, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", "--workers", "2", redis_url=own_redis.url, settings=SETTINGS)
    reach_all(site, 2)
    with paused(own_redis.process.pid):
        scrape = Scrape(site)
        assert scrape.values("wsredis_redis_up") == [0]
        assert len(scrape.values("wsredis_sockets")) == 1
        assert scrape.values("wsredis_workers") == scrape.values("wsredis_silent_workers") == []
    own_redis.kill()
    assert Scrape(site).values("wsredis_redis_up") == [0]
    own_redis.start()
    wait_until(lambda: Scrape(site).values("wsredis_redis_up") == [1, 1], 30)


def test_the_loop_is_sampled_now_and_then_and_sleeps_meanwhile() -> None:
    gauges = Gauges(Reactor(gevent.get_hub(), None), SimpleNamespace(delivered=0))  # type: ignore[arg-type]
    gevent.sleep(4.5 * SAMPLE_SECONDS)
    gauges.stop()
    assert 3 <= len(gauges._counts) <= 6


# The text


def in_text(**statistics: Any) -> str:
    """Return the text of a server with one worker, of which everything is known."""
    known: dict[str, Any] = {series.key: {"0": 1} if series.label else 1 for series in SERIES}
    return generate_latest(Server({"host:1:ab": {**known, **statistics}}, silent=0)).decode()


UNITS = ("_bytes", "_seconds")
ABBREVIATED = re.compile(r"_(s|ms|us|sec|secs|min|mins|hours|kb|mb|gb|b|milliseconds|kilobytes|megabytes)(_|$)")


def test_the_names_follow_prometheus_conventions() -> None:
    """As `promtool check metrics` looks at them."""
    text = in_text()
    families = list(text_string_to_metric_families(text))
    assert len(families) == len(SERIES) + 2
    for family in families:
        assert family.documentation.endswith(".")
        assert re.fullmatch(r"wsredis(_[a-z]+)+", family.name)
        assert not ABBREVIATED.search(family.name)
        assert family.type in ("gauge", "counter", "summary")
        assert not family.name.endswith(("_count", "_sum", "_bucket", "_info", "_gauge", "_counter", "_summary"))
        assert all(sample.name == family.name + "_total" * (family.type == "counter") for sample in family.samples)
        assert all(("quantile" in sample.labels) == (family.type == "summary") for sample in family.samples)
        assert f"# HELP {family.samples[0].name} " in text
        assert f"# TYPE {family.samples[0].name} {family.type}\n" in text
    for series in SERIES:
        has_unit = series.key in ("outbox_bytes", "lag", "canary_seconds", "memory_bytes", "started_at")
        assert series.name.endswith(UNITS) == has_unit


def test_what_is_not_known_is_not_told() -> None:
    text = in_text(canary_seconds=None, canaries=None, sockets=0)
    assert "\nwsredis_canary_seconds{" not in text
    assert "\nwsredis_canaries_total{" not in text
    assert '\nwsredis_sockets{worker="host:1:ab"} 0.0\n' in text


# docs/


def test_the_table_in_the_docs_is_complete() -> None:
    text = (ROOT / "docs/metrics.rst").read_text()
    told = re.findall(r"^   \* - ``(wsredis_\w+)``\n     - (\w+)\n     - (.+)$", text, re.MULTILINE)
    expected = [
        (series.name, series.kind, ", ".join(f"``{name}``" for name in ("worker", series.label) if name))
        for series in SERIES
    ]
    assert told == [*expected, (WORKERS[0], "gauge", "none"), (SILENT[0], "gauge", "none")]


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\bwsredis_\w+", text))


def test_what_the_docs_and_the_dashboard_ask_for_exists() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    queries = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    asked = set().union(*map(names_in, queries))
    assert len(queries) > 8
    known = {series.name for series in SERIES} | {WORKERS[0], SILENT[0]}
    assert asked <= known
    assert names_in((ROOT / "docs/metrics.rst").read_text()) <= known


def test_the_dashboard_is_whole() -> None:
    dashboard = json.loads(DASHBOARD.read_text())
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    for panel in dashboard["panels"]:
        place = panel["gridPos"]
        assert 0 <= place["x"] < place["x"] + place["w"] <= 24
        for target in panel.get("targets", ()):
            assert target["expr"].count("(") == target["expr"].count(")")
            assert 'job=~"$job"' in target["expr"]
    assert {variable["name"] for variable in dashboard["templating"]["list"]} == {"datasource", "job", "instance"}


# Who may read them

LOOPBACK = ["127.0.0.0/8", "::1"]


@pytest.mark.parametrize(
    ("headers", "networks", "refused"),
    [
        ({"REMOTE_ADDR": "127.0.0.1"}, LOOPBACK, ""),
        ({"REMOTE_ADDR": "127.8.9.1"}, LOOPBACK, ""),
        ({"REMOTE_ADDR": "::1"}, LOOPBACK, ""),
        ({"REMOTE_ADDR": "::ffff:127.0.0.1"}, LOOPBACK, ""),
        ({"REMOTE_ADDR": "10.1.2.3"}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "10.1.2.3"}, ["10.0.0.0/8"], ""),
        ({"REMOTE_ADDR": "10.1.2.3"}, ["10.1.2.3"], ""),
        ({"REMOTE_ADDR": "127.0.0.1"}, ["10.0.0.0/8"], "127.0.0.1"),
        ({"REMOTE_ADDR": "127.0.0.1"}, [], "127.0.0.1"),
        ({"REMOTE_ADDR": "2001:db8::7"}, ["2001:db8::/32"], ""),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.1.2.3"}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, LOOPBACK, ""),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "127.0.0.1, 10.1.2.3"}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.1.2.3, 127.0.0.1"}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "10.1.2.3:4711"}, [*LOOPBACK, "10.0.0.0/8"], ""),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": "unknown"}, LOOPBACK, "unknown"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_FORWARDED_FOR": ""}, LOOPBACK, "''"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_X_REAL_IP": "10.1.2.3"}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=127.0.0.1"}, LOOPBACK, ""),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "For=10.1.2.3;proto=https"}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "for=127.0.0.1, for=10.1.2.3"}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "by=127.0.0.1;for=_hidden"}, LOOPBACK, "_hidden"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": 'for="[2001:db8::1]:80"'}, [*LOOPBACK, "2001:db8::/32"], ""),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": 'for="[2001:db8::1]:80"'}, LOOPBACK, "2001:db8::1"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": 'for="127.0.0.1, for=10.1.2.3'}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "127.0.0.1", "HTTP_FORWARDED": "proto=https"}, LOOPBACK, "proto=https"),
        ({"REMOTE_ADDR": ""}, LOOPBACK, "unix socket"),
        ({}, LOOPBACK, "unix socket"),
        ({"REMOTE_ADDR": "0.0.0.0"}, ["0.0.0.0/0"], "unix socket"),
        ({"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "127.0.0.1"}, LOOPBACK, ""),
        ({"REMOTE_ADDR": "", "HTTP_X_FORWARDED_FOR": "10.1.2.3"}, LOOPBACK, "10.1.2.3"),
        ({"REMOTE_ADDR": "not an address"}, LOOPBACK, "not an address"),
    ],
)
def test_every_address_that_a_request_names_must_be_allowed(
    headers: dict[str, str], networks: list[str], refused: str
) -> None:
    if not refused:
        require_allowed(headers, networks)
        return
    with pytest.raises(NotAuthorized, match=re.escape(refused)) as raised:
        require_allowed(headers, networks)
    assert "METRICS_FROM" in str(raised.value)


def test_who_may_not_read_them_is_told_of_in_the_log(configured: RedisServer, start_site: Callable[..., Site]) -> None:
    site = start_site("runwsserver", redis_url=configured.url, settings={"WSREDIS": {"METRICS_FROM": ["10.0.0.0/8"]}})
    assert read(site, "-/metrics")[:2] == (403, "403 Forbidden\n")
    site.wait_for(r"403 /ws/-/metrics: WSREDIS\['METRICS_FROM'\] does not allow '127\.0\.0\.1'")
    assert read(site, "-/healthz")[0] == read(site, "-/readyz")[0] == 200


def test_a_unix_socket_has_no_address(start_site: Callable[..., Site], configured: RedisServer, folder: Path) -> None:
    path = str(folder / "s")
    start_site("runwsserver", "--unix", path, redis_url=configured.url)

    def status(*lines: str) -> bytes:
        with closing(socket.socket(socket.AF_UNIX)) as sock:
            sock.connect(path)
            request = ["GET /ws/-/metrics HTTP/1.0", "Host: localhost", *lines, "", ""]
            sock.sendall("\r\n".join(request).encode())
            return sock.makefile("rb").readline().split()[1]

    assert status() == b"403"
    assert status("X-Forwarded-For: 127.0.0.1") == b"200"
    assert status("X-Forwarded-For: 10.1.2.3") == b"403"


def test_without_prometheus_client_one_line_says_what_to_install(
    configured: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    application = get_wsgi_application()
    status, _ = ask(application, "/ws/-/metrics", REMOTE_ADDR="127.0.0.1")
    assert status == "501 Not Implemented"
    assert ask(application, "/ws/-/metrics", REMOTE_ADDR="10.1.2.3")[0] == "403 Forbidden"
