"""A program: clients that behave as wsredis.js does, on one asyncio loop, and write down what they see.

    python -m tests.faults.clients PORT COUNT

What it is told, and answers:
  "status": {"live": how many clients have an ack of all that they subscribe to, "least": the fewest messages of any
      client on any channel, "positions": {channel: the lowest position of any client}}
  "record": [what each client saw: [Event, …]], and the clients are gone
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from collections import Counter
from typing import Any
from urllib.parse import quote

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidHandshake

from . import plan
from .plan import Event

TICK_SECONDS = 0.25
FINAL_CODES = {1003, 1008, 4401, 4403}
OPTIONS: dict[str, Any] = {
    "subprotocols": [plan.SUBPROTOCOL],
    "compression": None,
    "ping_interval": None,
    "proxy": None,
    "max_queue": None,
    "open_timeout": plan.CONNECT_TIMEOUT,
    "close_timeout": 1,
}
AT_ONCE = 32  # handshakes under way, when all come


class Client:
    """One socket after another, with a position in each channel."""

    def __init__(self, port: int, facilities: list[str], slots: asyncio.Semaphore) -> None:
        self._uri = f"ws://127.0.0.1:{port}/ws/{facilities[0]}?"
        self._facilities = facilities
        self._slots = slots
        self._websocket: ClientConnection | None = None
        self._heard_at = 0.0
        self._is_probing = False
        self._attempt = 0
        self.positions: dict[str, str] = {}
        self.counts: Counter[str] = Counter({plan.channel_of(facility): 0 for facility in facilities})
        self.events: list[Event] = []
        self._unacked: set[str] = set(facilities)

    @property
    def is_live(self) -> bool:
        return self._websocket is not None and not self._unacked

    async def run(self) -> None:
        """Come back until cancelled."""
        while True:
            self._unacked = set(self._facilities)
            try:
                async with self._slots:
                    websocket = await connect(self._uri + self._query(self._facilities[0]), **OPTIONS)
            except (OSError, InvalidHandshake, EOFError) as error:
                self._write_down("refused", id=repr(error))
            else:
                await self._live(websocket)
            await asyncio.sleep(random.random() * min(plan.RETRY_CAP, plan.RETRY_BASE * 2**self._attempt))
            self._attempt += 1

    async def _live(self, websocket: ClientConnection) -> None:
        self._websocket = websocket
        opened_at = self._heard_at = time.time()
        self._is_probing = False
        self._write_down("open")
        try:
            for facility in self._facilities[1:]:
                await self._subscribe(facility)
            async for message in websocket:
                await self._on_message(message)
        except ConnectionClosed:
            pass
        finally:
            self._websocket = None
        code = websocket.close_code or 1006
        self._write_down("close", id=str(code))
        if code in FINAL_CODES:
            raise RuntimeError(f"the server closed for good: {code} {websocket.close_reason}")
        if time.time() - opened_at > plan.STABLE_AFTER:
            self._attempt = 0

    async def _subscribe(self, facility: str) -> None:
        request = {"type": "subscribe", "facility": facility, "query": self._query(facility)}
        await self._websocket.send(json.dumps(request))

    def _query(self, facility: str) -> str:
        channel = plan.channel_of(facility)
        position = self.positions.get(channel)
        return "subscribe-broadcast" + (f"&since={quote(f'{channel}={position}', safe='')}" if position else "")

    async def _on_message(self, message: str | bytes) -> None:
        self._heard_at = time.time()
        self._is_probing = False
        assert isinstance(message, str)
        header, _, payload = message.partition("\n")
        given: dict[str, Any] = json.loads(header)
        kind = given.get("type", "message")
        if kind == "message":
            channel, id = given["channel"], given["id"]
            self._write_down("message", channel, id, plan.number_of(channel, payload))
            self.positions[channel] = id
            self.counts[channel] += 1
        elif kind == "ack":
            self._unacked.discard(given["facility"])
            for channel, id in given["channels"].items():
                self._write_down("ack", channel, id or "")
                if id is not None:
                    self.positions[channel] = id
        elif kind == "gap":
            self._write_down("gap", given["channel"], given["since"] or "")
        elif kind == "error" and given["status"] == 503:  # Redis is away
            await asyncio.sleep(plan.RETRY_BASE)
            await self._subscribe(given["facility"])
        elif kind != "pong":
            raise RuntimeError(f"what does the server mean by {header}?")

    def _write_down(self, kind: str, channel: str = "", id: str = "", number: int = -1) -> None:
        self.events.append(Event(kind, channel, id, number, time.time()))

    async def check(self) -> None:
        """Look for a dead network, as wsredis.js does: a ping after a silence, and the end without an answer."""
        silence = time.time() - self._heard_at
        if self._websocket is None or silence < plan.HEARTBEAT_INTERVAL:
            return
        if not self._is_probing:
            self._is_probing = True
            await self._websocket.send('{"type":"ping"}')
        elif silence > plan.HEARTBEAT_INTERVAL + plan.HEARTBEAT_TIMEOUT:
            self._websocket.transport.abort()


class Crowd:
    def __init__(self, port: int, count: int) -> None:
        slots = asyncio.Semaphore(AT_ONCE)
        self.clients = [Client(port, plan.facilities_of(number), slots) for number in range(count)]

    def status(self) -> dict[str, Any]:
        lowest: dict[str, str] = {}
        for client in self.clients:
            for channel in client.counts:
                position = client.positions.get(channel, "0-0")
                lowest[channel] = min(lowest.get(channel, position), position, key=plan.id_key)
        return {
            "live": sum(client.is_live for client in self.clients),
            "least": min(count for client in self.clients for count in client.counts.values()),
            "positions": lowest,
        }

    async def look_after(self) -> None:
        while True:
            await asyncio.sleep(TICK_SECONDS)
            await asyncio.gather(*(client.check() for client in self.clients), return_exceptions=True)

    async def run(self) -> None:
        async with asyncio.TaskGroup() as tasks:  # an error of one is the end of all
            running = [tasks.create_task(client.run()) for client in self.clients]
            running.append(tasks.create_task(self.look_after()))
            while (question := (await asyncio.to_thread(sys.stdin.readline)).strip()) == "status":
                print(json.dumps(self.status()), flush=True)
            for task in running:
                task.cancel()
            if question == "record":
                print(json.dumps([client.events for client in self.clients]), flush=True)


if __name__ == "__main__":
    asyncio.run(Crowd(int(sys.argv[1]), int(sys.argv[2])).run())
