"""Draws the pictures of inspect.rst: `python -m docs.wsinspect.draw` writes them beside this file.

They are what rich exports of what wsinspect shows of real servers: a Redis, runwsserver, uWSGI and gunicorn, with real
sockets. It takes half a minute, and needs what the tests need.
"""

from __future__ import annotations

import random
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

from django.core.management import call_command
from django.test import override_settings
from rich.console import Group as Lines
from rich.console import RenderableType
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from django_wsredis import connections, count, publish
from django_wsredis.control import Filter
from django_wsredis.inspection import Inspector
from django_wsredis.management.display.frame import Frame, footer
from django_wsredis.management.orders import Order
from django_wsredis.management.views import OverviewView, SocketsView, View
from tests import conftest
from tests.hosted import HostedSite
from tests.rawsocket import RawSocket
from tests.servers import Site, find_redis, wait_until
from tests.topologies import Server

from ..terminal import draw_terminal

WIDTH, HEIGHT = 80, 24
USERS = {"alice": "staff", "bob": "staff", "carol": "editors", "dave": "editors", "erin": "", "frank": ""}
PATHS = ("chat/lobby", "chat/lobby", "chat/tea-room", "news", "inbox")
AUDIENCES = "subscribe-broadcast&subscribe-user&subscribe-group&publish-broadcast"
SOCKETS = 120
SETTINGS = {
    "WSREDIS": {
        "ALLOWED_CHANNELS": "tests.project.callbacks.everything",
        "PING_INTERVAL": 2,
        "HISTORY": {"chat/*": {"messages": 500, "seconds": 86400}},
    }
}


@contextmanager
def stage() -> Iterator[None]:
    """Run servers, and clients that talk."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="wsr-")))
        call_command("migrate", verbosity=0)
        redis = Server(folder, find_redis(), "--appendonly", "yes", "--maxmemory", "512mb")
        stack.callback(redis.stop)
        url = f"redis://{redis.address}/0"
        options: dict[str, Any] = {"database": conftest.DATABASE, "redis_url": url, "settings": SETTINGS}
        sites: list[Site] = [Site("runwsserver", "--workers", "2", **options)]
        stack.callback(sites[0].stop)
        for host in ("uwsgi gevent", "gunicorn gthread"):
            sites.append(HostedSite(host, At(url), conftest.DATABASE, SETTINGS))
            stack.callback(sites[-1].stop)
        stack.enter_context(override_settings(WSREDIS={"URL": url, **SETTINGS["WSREDIS"]}))
        sockets = list(connect(stack, sites))
        talking = Thread(target=talk, args=(sockets, over := Event()))
        talking.start()
        stack.callback(talking.join)
        stack.callback(over.set)
        connect_slow(stack, sites[1], "erin")
        connect_slow(stack, sites[0], "frank")
        wait_until(lambda: count().sockets == SOCKETS + 2, 30, "the sockets")
        for name in ("erin", "frank"):  # until what the kernel does not take waits in an outbox
            while not any(socket.outbox_bytes for socket in connections(users=[name], sort="outbox", limit=1).sockets):
                for _ in range(10):
                    publish("x" * 40_000, facility="feed", users=[name])
        with redis.client() as client:
            client.publish("wsredis:user:erin:feed", b"\xffW\xff")  # an error, which is logged
        time.sleep(6)  # over which rates are told
        yield


class At:
    """What `HostedSite` asks of a Redis."""

    def __init__(self, url: str) -> None:
        self.url = url


def log_in(name: str) -> str:
    """Return the session of a user, who may be new."""
    from django.contrib.auth.models import Group, User  # Django is set up now

    user, _ = User.objects.get_or_create(username=name)
    if USERS[name]:
        user.groups.add(Group.objects.get_or_create(name=USERS[name])[0])
    return conftest.login(name)


def connect_slow(stack: ExitStack, site: Site, name: str) -> None:
    """Connect a user whose browser takes nothing."""
    socket = RawSocket(site.port, f"feed?{AUDIENCES}", {"Cookie": f"sessionid={log_in(name)}"})
    stack.callback(socket.abort)


def connect(stack: ExitStack, sites: list[Site]) -> Iterator[ClientConnection]:
    """Yield open sockets: of users, and of some who have not logged in."""
    chosen = random.Random(7)
    cookies = {name: log_in(name) for name in USERS}
    for _ in range(SOCKETS):
        cookie = cookies.get(chosen.choice([*USERS, "", ""]))
        socket = chosen.choice([sites[0], *sites]).connect(f"{chosen.choice(PATHS)}?{AUDIENCES}", cookie=cookie)
        yield stack.enter_context(socket)


def talk(sockets: list[ClientConnection], over: Event) -> None:
    """Publish, and let sockets send; all take what comes."""
    for socket in sockets:
        Thread(target=take, args=(socket,), daemon=True).start()
    chosen = random.Random(11)
    while not over.wait(0.05):
        publish("something is new", facility=chosen.choice(("news", "chat/lobby")), broadcast=True)
        publish({"unread": 3}, facility="inbox", users=[chosen.choice(list(USERS))])
        chosen.choice(sockets).send("hello from a browser")


def take(socket: ClientConnection) -> None:
    """Receive until the end."""
    try:
        for _ in socket:
            pass
    except ConnectionClosed:
        pass


def frame(view: View) -> RenderableType:
    """Return a frame of the live view."""
    report = view.look()
    keys = footer(view.keys, view.order.word, time.strftime("%H:%M:%S"), WIDTH)
    return Frame(lambda width: view.head(report, width), lambda *size: view.body(report, *size), keys)


def draw(name: str, command: str, shown: RenderableType) -> None:
    """Write a picture."""
    draw_terminal(Path(__file__).with_name(f"{name}.svg"), command, shown, WIDTH, HEIGHT)


def main() -> None:
    with stage():
        overview = OverviewView(Inspector(Filter(), limit=8), "", Order("sockets"), 8)
        draw("overview", "./manage.py wsinspect", Lines(*overview.lines(overview.look(), WIDTH)))
        sockets = SocketsView(Filter(), "", Order("outbox"), 6)
        command = "./manage.py wsinspect --sockets --sort outbox --limit 6"
        draw("sockets", command, Lines(*sockets.lines(sockets.look(), WIDTH)))
        watched = OverviewView(Inspector(Filter(), limit=50), "", Order("out"), 50)
        draw("watch", "./manage.py wsinspect --watch", frame(watched))


if __name__ == "__main__":
    main()
