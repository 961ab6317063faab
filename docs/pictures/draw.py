"""Draws the pictures of deploy.rst, one for each layout: `python docs/pictures/draw.py` writes them beside this file.

An arrow leads from who connects to who accepts. All colours are legible on white and on black, so that a picture
needs no background of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
LINE = "#757c86"  # arrows and what is written on the page itself; contrast above 4:1 on white and on black
INK = "#1c2530"  # what is written in a box

# kind → (fill, outline)
COLOURS = {
    "browser": ("#f3f5f8", "#7b8794"),
    "proxy": ("#d8e7f7", "#3f78b5"),
    "worker": ("#d9efdc", "#3f8f50"),
    "redis": ("#f9dcd4", "#c2543a"),
}

MARGIN = 2
BROWSER_WIDTH, PROXY_WIDTH, WORKER_WIDTH, REDIS_WIDTH = 92, 108, 134, 76
ARROW_WIDTH = 108
ROUTED_WIDTH = 80  # of the arrow from a router to the workers beside it
WORKER_HEIGHT = 44
PADDING = 14  # between the outline of a server and what is in it
TITLE_HEIGHT = 26  # of a server
GAP = 12  # between workers
SERVER_GAP = 20
RIM = 9  # half the height of the ellipse on top of Redis


@dataclass(frozen=True)
class Arrow:
    above: str  # the protocol
    below: str = ""  # the address


@dataclass(frozen=True)
class Box:
    title: str
    note: str = ""


@dataclass(frozen=True)
class Server:
    """One command, with the processes that it runs."""

    title: str
    arrow: Arrow  # that leads to it
    workers: tuple[Box, ...]
    redis: Arrow  # what its workers want of Redis
    router: Box | None = None  # a process of the server that accepts for the workers
    routed: Arrow | None = None


@dataclass(frozen=True)
class Layout:
    servers: tuple[Server, ...]
    proxy: Box | None = None
    front: Arrow | None = None  # from browsers to the proxy


BOTH = Arrow("subscribe", "publish")
TWO = (Box("worker 1", "pages, websockets"), Box("worker 2", "pages, websockets"))
ONE = (Box("worker", "pages, websockets"),)
FRONT = Arrow("HTTP, ws", ":80 or :443")
NGINX = Box("NGiNX", "TLS, static files")


def uwsgi_for(what: str, title: str, arrow: Arrow, redis: Arrow, workers: int) -> Server:
    """Return one of two uWSGIs: for pages, or for websockets."""
    names = ["worker"] if workers == 1 else [f"worker {number + 1}" for number in range(workers)]
    return Server(title, arrow, tuple(Box(name, what) for name in names), redis)


PICTURES = {
    "uwsgi-behind-nginx": Layout(
        (Server("uwsgi", Arrow("uwsgi", "unix socket"), TWO, BOTH),), proxy=NGINX, front=FRONT
    ),
    "runwsserver-behind-nginx": Layout(
        (Server("runwsserver --workers 2", Arrow("HTTP, ws", "socket or port"), TWO, BOTH),), proxy=NGINX, front=FRONT
    ),
    "two-uwsgis-behind-nginx": Layout(
        (
            uwsgi_for("pages", "uwsgi, threads", Arrow("uwsgi", "pages.sock"), Arrow("publish"), 2),
            uwsgi_for("websockets", "uwsgi, gevent", Arrow("ws", "ws.sock"), BOTH, 2),
        ),
        proxy=NGINX,
        front=FRONT,
    ),
    "uwsgi-router": Layout(
        (
            Server(
                "uwsgi",
                Arrow("HTTP, ws", ":80 or :443"),
                TWO,
                BOTH,
                router=Box("router", "TLS"),
                routed=Arrow("uwsgi"),
            ),
        ),
    ),
    "uwsgi-threads": Layout(
        (
            Server(
                "uwsgi, threads",
                Arrow("HTTP, ws", ":8000"),
                (Box("worker 1", "4 threads, loop"), Box("worker 2", "4 threads, loop")),
                BOTH,
            ),
        ),
    ),
    "uwsgi-behind-apache": Layout(
        (Server("uwsgi", Arrow("HTTP, ws", ":8000"), TWO, BOTH),),
        proxy=Box("Apache", "TLS, static files"),
        front=FRONT,
    ),
    "uwsgi-emperor": Layout(
        (
            uwsgi_for("pages", "vassal pages.ini", Arrow("uwsgi", "unix socket"), Arrow("publish"), 2),
            uwsgi_for("websockets", "vassal websockets.ini", Arrow("uwsgi", "unix socket"), BOTH, 1),
        ),
        proxy=Box("Emperor", "routes by path"),
        front=Arrow("HTTP, ws", ":8000"),
    ),
    "gunicorn-behind-nginx": Layout(
        (Server("gunicorn", Arrow("HTTP, ws", "socket or port"), TWO, BOTH),), proxy=NGINX, front=FRONT
    ),
    "runwsservers-behind-haproxy": Layout(
        (
            Server("runwsserver --workers 2", Arrow("HTTP, ws", ":8001"), TWO, BOTH),
            Server("runwsserver --workers 2", Arrow("HTTP, ws", ":8002"), TWO, BOTH),
        ),
        proxy=Box("HAProxy", "round-robin, TLS"),
        front=FRONT,
    ),
}


def draw(layout: Layout) -> str:
    """Return the picture of a layout."""
    height = sum(map(server_height, layout.servers)) + SERVER_GAP * (len(layout.servers) - 1)
    middle = MARGIN + height / 2
    left = MARGIN
    parts = [browser(left, MARGIN, height)]
    left += BROWSER_WIDTH
    if layout.proxy and layout.front:
        parts.append(arrow(left, middle, ARROW_WIDTH, layout.front))
        left += ARROW_WIDTH
        parts.append(box("proxy", left, MARGIN, PROXY_WIDTH, height, layout.proxy))
        left += PROXY_WIDTH
    right = left + ARROW_WIDTH + max(map(server_width, layout.servers))
    top = MARGIN
    for each in layout.servers:
        half = top + server_height(each) / 2
        parts.append(arrow(left, half, ARROW_WIDTH, each.arrow))
        parts.append(server(left + ARROW_WIDTH, top, each))
        parts.append(arrow(right, half, ARROW_WIDTH, each.redis))
        top += server_height(each) + SERVER_GAP
    parts.append(cylinder(right + ARROW_WIDTH, MARGIN, height))
    width = right + ARROW_WIDTH + REDIS_WIDTH + MARGIN
    return page(width, height + 2 * MARGIN, "".join(parts))


def page(width: float, height: float, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:g}" height="{height:g}"'
        f' viewBox="0 0 {width:g} {height:g}" font-family="{FONT}" font-size="13" text-anchor="middle">\n'
        f"<style>.note {{ font-size: 11px }} .free {{ font-size: 12px; fill: {LINE} }} .box {{ fill: {INK} }}</style>\n"
        f'<marker id="head" markerWidth="9" markerHeight="8" refX="8" refY="4" orient="auto">'
        f'<path d="M0,0 L9,4 L0,8 z" fill="{LINE}"/></marker>\n{content}</svg>\n'
    )


def server_height(server: Server) -> float:
    count = len(server.workers)
    return TITLE_HEIGHT + count * WORKER_HEIGHT + (count - 1) * GAP + PADDING


def server_width(server: Server) -> float:
    return 2 * PADDING + WORKER_WIDTH + (PROXY_WIDTH + ROUTED_WIDTH if server.router else 0)


def server(left: float, top: float, server: Server) -> str:
    """Draw a dashed outline around the processes of one command."""
    width, height = server_width(server), server_height(server)
    outline = f'fill="none" stroke="{LINE}" stroke-dasharray="5 4"'
    parts = [
        f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="6" {outline}/>\n',
        text("free", left + width / 2, top + 18, server.title),
    ]
    inner, upper = left + PADDING, top + TITLE_HEIGHT
    lower = height - TITLE_HEIGHT - PADDING
    if server.router and server.routed:
        parts.append(box("proxy", inner, upper, PROXY_WIDTH, lower, server.router))
        inner += PROXY_WIDTH
        for number in range(len(server.workers)):
            middle = upper + number * (WORKER_HEIGHT + GAP) + WORKER_HEIGHT / 2
            parts.append(arrow(inner, middle, ROUTED_WIDTH, server.routed))
        inner += ROUTED_WIDTH
    for number, worker in enumerate(server.workers):
        parts.append(box("worker", inner, upper + number * (WORKER_HEIGHT + GAP), WORKER_WIDTH, WORKER_HEIGHT, worker))
    return "".join(parts)


def box(kind: str, left: float, top: float, width: float, height: float, content: Box, radius: int = 3) -> str:
    shape = f'<rect x="{left:g}" y="{top:g}" width="{width:g}" height="{height:g}" rx="{radius}"{colours(kind)}/>\n'
    return shape + caption(left + width / 2, top + height / 2, content)


def browser(left: float, top: float, height: float) -> str:
    """Draw a rounded box with the bar of a window."""
    dots = "".join(
        f'<circle cx="{left + 12 + 9 * number:g}" cy="{top + 11:g}" r="2.5" fill="{COLOURS["browser"][1]}"/>'
        for number in range(3)
    )
    bar = f'<path d="M{left:g},{top + 22:g} h{BROWSER_WIDTH}"{colours("browser")}/>{dots}\n'
    return box("browser", left, top, BROWSER_WIDTH, height, Box("browsers", "wsredis.js"), radius=11) + bar


def cylinder(left: float, top: float, height: float) -> str:
    half = REDIS_WIDTH / 2
    side = height - 2 * RIM
    arc = f"a{half:g},{RIM} 0 0"
    return (
        f'<path d="M{left:g},{top + RIM:g} v{side:g} {arc} 0 {REDIS_WIDTH},0 v-{side:g}'
        f' {arc} 0 -{REDIS_WIDTH},0 {arc} 0 {REDIS_WIDTH},0"{colours("redis")}/>\n'
        f'<path d="M{left:g},{top + RIM:g} {arc} 1 {REDIS_WIDTH},0" fill="none" stroke="{COLOURS["redis"][1]}"/>\n'
    ) + caption(left + half, top + RIM + height / 2, Box("Redis", ":6379"))


def arrow(left: float, middle: float, width: float, content: Arrow) -> str:
    line = f'<path d="M{left:g},{middle:g} h{width:g}" stroke="{LINE}" stroke-width="1.5" marker-end="url(#head)"/>\n'
    centre = left + width / 2 - 3
    above = text("free", centre, middle - 7, content.above)
    return line + above + (text("free", centre, middle + 17, content.below) if content.below else "")


def caption(centre: float, middle: float, content: Box) -> str:
    if not content.note:
        return text("box", centre, middle + 4.5, content.title)
    return text("box", centre, middle - 2, content.title) + text("box note", centre, middle + 13, content.note)


def text(style: str, x: float, y: float, content: str) -> str:
    return f'<text class="{style}" x="{x:g}" y="{y:g}">{escape(content)}</text>\n'


def colours(kind: str) -> str:
    fill, outline = COLOURS[kind]
    return f' fill="{fill}" stroke="{outline}"'


if __name__ == "__main__":
    for name, layout in PICTURES.items():
        Path(__file__).with_name(f"{name}.svg").write_text(draw(layout))
