"""One trial: publishers, clients and windows at one site, while a test lets something fail."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from django_wsredis.channels import Channel, redis_name
from django_wsredis.messages import decode
from django_wsredis.publisher import LONGEST_PAUSE_SECONDS

from ..servers import wait_until
from . import plan
from .plan import Sent
from .program import Program
from .verifier import Result, verify
from .windows import Windows

FLOW_MESSAGES = 25  # of each channel, which are 2.5 seconds of it
WHOLE_SECONDS = 20.0  # in which all must have everything, at the end
RETRY_SECONDS = 20.0  # of the publishers

# that a site needs for a trial
SETTINGS: dict[str, Any] = {
    "ROOT_URLCONF": "tests.faults.urls",
    "WSREDIS": {"HISTORY": plan.HISTORY, "DRAIN_SECONDS": 1, "PING_INTERVAL": 2},
}


class Trial:
    """What runs at one site. Streams are read with `client()`."""

    def __init__(self, stack: ExitStack, port: int, url: str, client: Callable[[], Any], windows: Windows) -> None:
        self._client = client
        self._windows = windows
        self._began_at = time.time()
        self._back_at: float | None = None
        wsredis = {"WSREDIS": {"HISTORY": plan.HISTORY}}
        env = {"TEST_REDIS_URL": url, "TEST_SETTINGS": json.dumps(wsredis)}
        self._publishers = Program("publishers", RETRY_SECONDS, env=env)
        stack.callback(self._publishers.stop)
        self._clients = Program("clients", port, plan.CLIENTS)
        stack.callback(self._clients.stop)
        stack.enter_context(windows.at(port))
        self.flow()

    def status(self) -> dict[str, Any]:
        return self._clients.ask("status")

    def wait_for_live(self) -> None:
        """Wait until all clients are there with all that they subscribed to."""
        wait_until(lambda: self.status()["live"] == plan.CLIENTS, 40, f"all clients live: {self.status()['live']}")

    def flow(self, messages: int = FLOW_MESSAGES) -> None:
        """Wait until every client is live and got some more messages of each of its channels."""
        self.wait_for_live()
        least = self.status()["least"]
        wait_until(lambda: self.status()["least"] >= least + messages, 40, "messages for every client")

    def fault(self) -> None:
        """Say that the fault is now."""
        self._began_at = time.time()

    def back(self) -> None:
        """Say that Redis, which was away, is back now."""
        self._back_at = time.time()

    def finish(self) -> Result:
        """Let the publishers stop and all clients get everything; return what the verifier finds."""
        answer = self._publishers.ask("stop")
        sent = {plan.channel_of(name): [Sent(*message) for message in messages] for name, messages in answer.items()}
        stored = self._read_streams()
        last = {channel: max(ids, key=plan.id_key) for channel, ids in stored.items() if ids}
        deadline = time.monotonic() + WHOLE_SECONDS
        while not self._have(last) and time.monotonic() < deadline:
            time.sleep(0.05)
        self._windows.have(last, deadline - time.monotonic())
        events = [plan.events(rows) for rows in self._clients.ask("record")] + self._windows.events()
        # a publisher that waits for Redis tries again so late
        back_at = None if self._back_at is None else self._back_at + LONGEST_PAUSE_SECONDS
        return verify(sent, stored, events, self._began_at, back_at)

    def _have(self, last: Mapping[str, str]) -> bool:
        positions = self.status()["positions"]
        return all(plan.id_key(positions[channel]) >= plan.id_key(id) for channel, id in last.items())

    def _read_streams(self) -> dict[str, dict[str, int]]:
        """Return {channel: {id: number}} of all that Redis holds."""
        stored: dict[str, dict[str, int]] = {}
        with self._client() as client:
            for facility in plan.FACILITIES:
                channel = plan.channel_of(facility)
                entries = client.xrange(redis_name("wsredis", Channel("broadcast", "", facility)))
                stored[channel] = {
                    id.decode(): plan.number_of(channel, decode(fields[b"m"], id).data) for id, fields in entries
                }
        return stored
