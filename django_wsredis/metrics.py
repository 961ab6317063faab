"""How the workers of this server do, in Prometheus' text format; docs/metrics.rst lists the series.

A scrape reaches one worker of several. It asks the others, as wsinspect does, and tells of those of its own server: the
same host and master process. So nothing is counted twice where each server is scraped. Needs prometheus_client.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.exposition import generate_latest

from . import loop
from .asking import ask
from .control import Announcement, Filter, Request
from .exceptions import BrokerUnavailable


class Series(NamedTuple):
    """A series with a value for each worker. key: of `Survey.statistics()`; label: of a value that is a dict."""

    name: str
    kind: str
    key: str
    help: str
    label: str = ""


SERIES = (
    Series("wsredis_sockets", "gauge", "sockets", "Websockets that are open."),
    Series("wsredis_channels", "gauge", "channels", "Channels that these sockets listen to."),
    Series("wsredis_messages_received_total", "counter", "received", "Messages from browsers."),
    Series("wsredis_messages_delivered_total", "counter", "delivered", "Messages to browsers, one for each socket."),
    Series("wsredis_messages_dropped_total", "counter", "dropped", "Messages that slow sockets were spared (SLOW)."),
    Series("wsredis_outbox_bytes", "gauge", "outbox_bytes", "What waits for slow sockets."),
    Series("wsredis_closes_total", "counter", "closes", "Sockets that were closed, by close code.", "code"),
    Series("wsredis_handshakes_total", "counter", "handshakes", "Answers to handshakes, by status.", "status"),
    Series("wsredis_loop_lag_seconds", "summary", "lag", "How late the loop is, in the last minute.", "quantile"),
    Series("wsredis_canary_seconds", "gauge", "canary_seconds", "How long the last canary took that came back."),
    Series("wsredis_canaries_total", "counter", "canaries", "Canaries, by what became of them.", "outcome"),
    Series("wsredis_redis_up", "gauge", "is_connected", "Whether Redis is connected, and answers."),
    Series("wsredis_draining", "gauge", "is_draining", "Whether the worker closes its sockets, as it ends."),
    Series("wsredis_resident_memory_bytes", "gauge", "memory_bytes", "Memory of the worker's process."),
    Series("wsredis_start_time_seconds", "gauge", "started_at", "When the worker began, since 1970."),
)
# Of the server as a whole, so without the label `worker`.
WORKERS = ("wsredis_workers", "Workers of this server that live, as Redis knows.")
SILENT = ("wsredis_silent_workers", "Workers of this server that did not answer, so their series are missing.")


class Server(NamedTuple):
    """What is told: the statistics of each worker that answered, by its id; how many did not, if Redis tells."""

    workers: Mapping[str, Mapping[str, Any]]
    silent: int | None

    def collect(self) -> Iterator[Metric]:
        """Yield the series; this makes it a collector of prometheus_client."""
        for series in SERIES:
            metric = Metric(series.name.removesuffix("_total"), series.help, series.kind)
            for worker, statistics in self.workers.items():
                for labels, value in _values(series, statistics.get(series.key)):
                    metric.add_sample(series.name, {"worker": worker, **labels}, float(value))
            yield metric
        if self.silent is not None:
            yield GaugeMetricFamily(*WORKERS, len(self.workers) + self.silent)
            yield GaugeMetricFamily(*SILENT, self.silent)


def _values(series: Series, value: Any) -> Iterator[tuple[dict[str, str], float]]:
    if value is None:  # it is not known yet; or to an older version, in the midst of a deploy
        return
    for key, number in value.items() if series.label else [("", value)]:
        yield {series.label: str(key)} if series.label else {}, number


def scrape() -> bytes:
    """Return the metrics. Blocks; raises Unavailable if this worker's own loop does not answer."""
    return generate_latest(look())


def look() -> Server:
    """Return how this worker does, and, as far as Redis lets them be asked, the others of this server."""
    own = loop.get_loop()
    mine, statistics = own.announcement, own.statistics()
    try:
        asked = ask(Request(verb="report", which=Filter(worker=f"{mine.host}:"), limit=0))
    except BrokerUnavailable:  # which the log knows
        return Server(_told([mine], {mine.id: {**statistics, "is_connected": False}}), silent=None)
    workers = {mine.id: mine, **{worker.id: worker for worker in asked.workers if worker.group == mine.group}}
    answers = {mine.id: statistics, **{answer["worker"]: answer for answer in asked.answers}}
    told = _told(workers.values(), answers)
    return Server(told, silent=len(workers) - len(told))


def _told(workers: Iterable[Announcement], answers: Mapping[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return the answers of some workers, by the workers' ids, with what the announcement tells, in our units."""
    return {
        worker.id: {**answer, "started_at": worker.started_at, "lag": {"0.99": answer["lag_p99_ms"] / 1000}}
        for worker in workers
        if (answer := answers.get(worker.id)) is not None
    }
