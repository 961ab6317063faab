"""Redis: what it is, and how it does."""

from __future__ import annotations

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from django_wsredis.inspection.overview import shown_slots
from django_wsredis.inspection.reports import Redis, Server

from .tables import add_number, cut, table
from .words import milliseconds, number, size

TOPOLOGIES = {"single": "one server", "sentinel": "master and replicas, watched by sentinels", "cluster": "cluster"}
PERSISTENCE = {"aof": "AOF", "rdb": "RDB", "none": "nothing", None: "not told"}


def redis_lines(state: Redis, width: int) -> list[RenderableType]:
    """Return Redis as a whole, and each of its servers."""
    topology = Text(TOPOLOGIES[state.topology], style="dim")
    head = [Text.assemble(("Redis", "bold"), "  ", state.url, "  ", topology, overflow="fold")]
    if state.topology != "single":  # whose URL is long
        head = [Text.assemble(("Redis", "bold"), "  ", topology), cut(state.url)]
    rows = table(width)
    if state.topology != "single":
        rows.add_column("Server", overflow="fold")
    rows.add_column("Version", no_wrap=True, ratio=1)
    for header in ("Latency", "Memory", "Clients", "Channels", "Saves"):
        add_number(rows, header)
    for server in state.servers:
        _add_server(rows, state, server)
    return [*head, rows]


def _add_server(rows: Table, state: Redis, server: Server) -> None:
    cells: list[RenderableType] = []
    if state.topology != "single":
        name = Text(server.address)
        if server.slots:
            name.append(f"\n  {shown_slots(server.slots)}", style="dim")
        cells.append(name)
    if server.problem:
        rows.add_row(*cells, "does not answer", style="red")
        return
    memory = size(server.memory_bytes)
    if server.max_memory_bytes:
        memory += f" of {size(server.max_memory_bytes)}"
    saves = Text(PERSISTENCE[server.persistence])
    if server.persistence_failed:
        saves = Text(f"{saves}, fails", style="bold red")
    rows.add_row(
        *cells,
        f"{server.flavour} {server.version}",
        milliseconds(server.round_trip_ms),
        memory,
        number(server.clients),
        number(server.pubsub_channels),
        saves,
    )
    for replica in server.replicas:
        style = "dim" if replica.state == "online" else "yellow"
        state_text = "replica" if replica.state == "online" else f"replica, {replica.state}"
        if state.topology == "single":
            rows.add_row(f"{state_text} {replica.address}", style=style)
        else:
            rows.add_row(f"└ {replica.address}", state_text, style=style)
