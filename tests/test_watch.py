"""`manage.py wsinspect --watch`: in a real terminal, whose screen is looked at; and frames of every size."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings
from rich.console import Console

from django_wsredis import count, publish
from django_wsredis.inspection.reports import ChannelState, Kept, Overview, Redis, Server, SocketList
from django_wsredis.live import Socket
from django_wsredis.management.display.frame import Frame, footer
from django_wsredis.management.orders import OVERVIEW_KEYS, SOCKET_KEYS, Order
from django_wsredis.management.views import OverviewView, SocketsView, View
from django_wsredis.workers import WorkerState

from .hosted import HostedSite
from .servers import ROOT, Process, RedisServer, Site, free_port, missing, wait_until

SETTINGS = {"WSREDIS": {"ALLOWED_CHANNELS": "tests.project.callbacks.everything"}}
ASLEEP = 600.0  # seconds for which a shell stays, so that its screen can be seen


class Terminal:
    """A terminal of 80x24 that runs wsinspect, and then says how it ended and what the terminal is like."""

    def __init__(self, folder: Path, environment: dict[str, str], *arguments: str) -> None:
        program = shutil.which("tmux") or missing("no tmux on PATH")
        self._tmux = [program, "-f", "/dev/null", "-S", str(folder / "tmux.sock")]
        manage = [sys.executable, "-X", "dev", "-W", "error", str(ROOT / "tests/project/manage.py")]
        command = shlex.join([*manage, "wsinspect", *arguments])
        script = f"stty -a > {folder}/before; {command}; echo status $?; stty -a > {folder}/after; sleep {ASLEEP:g}"
        script = f"trap : INT; {script}"  # Ctrl-C ends wsinspect alone
        self._folder = folder
        self._run("new-session", "-d", "-x", "80", "-y", "24", "-c", str(ROOT), f"sh -c {shlex.quote(script)}", env={
            **os.environ, **environment, "TERM": "xterm-256color"
        })  # fmt: skip

    def _run(self, *arguments: str, **options: Any) -> str:
        return subprocess.run(
            [*self._tmux, *arguments], check=True, capture_output=True, text=True, timeout=20, **options
        ).stdout

    def screen(self) -> str:
        return self._run("capture-pane", "-p")

    def colours(self) -> str:
        """Return the screen with its escape sequences."""
        return self._run("capture-pane", "-p", "-e")

    def press(self, *keys: str) -> None:
        self._run("send-keys", *keys)

    def resize(self, width: int, height: int) -> None:
        self._run("resize-window", "-x", str(width), "-y", str(height))

    def wait_for(self, pattern: str, seconds: float = 20.0) -> re.Match[str]:
        """Return the match of a pattern on the screen."""
        shown = [""]

        def find() -> re.Match[str] | None:
            shown[0] = self.screen()
            return re.search(pattern, shown[0], re.MULTILINE)

        try:
            return wait_until(find, seconds, f"{pattern!r}")
        except BaseException:
            print(shown[0])
            raise

    def pid(self) -> int:
        """Return the process id of wsinspect."""
        shell = int(self._run("list-panes", "-F", "#{pane_pid}"))
        (child,) = Path(f"/proc/{shell}/task/{shell}/children").read_text().split()
        return int(child)

    def ended(self) -> int:
        """Wait for the end; see that the terminal is what it was. Returns the exit status."""
        status = int(self.wait_for(r"^status (\d+)")[1])
        wait_until(lambda: (self._folder / "after").exists() and (self._folder / "after").stat().st_size)
        assert (self._folder / "after").read_text() == (self._folder / "before").read_text()
        assert self._run("display-message", "-p", "#{alternate_on} #{cursor_flag}").split() == ["0", "1"]
        assert "Traceback" not in self.screen()
        return status

    def close(self) -> None:
        self._run("kill-server")


@pytest.fixture
def open_terminal(tmp_path: Path, folder: Path) -> Iterator[Callable[..., Terminal]]:
    with ExitStack() as stack:

        def start(site: Site | dict[str, str], *arguments: str) -> Terminal:
            environment = site if isinstance(site, dict) else site.env
            terminal = Terminal(folder, {**environment, "COLUMNS": "", "LINES": ""}, *arguments)
            stack.callback(terminal.close)
            return terminal

        yield start


@pytest.fixture
def sites(own_redis: RedisServer, database: Path) -> Iterator[tuple[Site, Site]]:
    with ExitStack() as stack:
        one = Site("runwsserver", "--noreload", database=database, redis_url=own_redis.url, settings=SETTINGS)
        stack.callback(one.stop)
        two = HostedSite("gunicorn gthread", own_redis, database, SETTINGS)
        stack.callback(two.stop)
        with override_settings(WSREDIS={"URL": own_redis.url}):
            yield one, two


def test_a_life_on_the_screen(
    own_redis: RedisServer, sites: tuple[Site, Site], open_terminal: Callable[..., Terminal], alice: str
) -> None:
    one, two = sites
    with ExitStack() as stack:
        ones = [stack.enter_context(one.connect("chat?subscribe-broadcast", cookie=alice)) for _ in range(3)]
        twos = [stack.enter_context(two.connect("chat?subscribe-broadcast")) for _ in range(4)]
        terminal = open_terminal(one, "--watch", "0.5")

        # sockets are counted, as they come and go
        terminal.wait_for(rf":{one.pid} +runwsserver\S* .* +3 +[\d.]+ +[\d.]+ +0 ")
        terminal.wait_for(rf":{two.pid} +gunicorn .* +4 +[\d.]+ +[\d.]+ +0 ")
        terminal.wait_for(r"^2 workers +7 ")
        terminal.wait_for(r"^broadcast:chat +7$")
        assert max(map(len, terminal.screen().splitlines())) <= 80
        assert terminal.screen().count("\n") == 24
        assert "\x1b[" in terminal.colours()
        ones[0].close()
        twos.append(stack.enter_context(two.connect("news?subscribe-broadcast")))
        terminal.wait_for(r"^broadcast:chat +6$")
        terminal.wait_for(r"^broadcast:news +1$")

        # keys sort
        def order() -> list[int]:
            return [int(pid) for pid in re.findall(r"^\w+:(\d+) ", terminal.screen(), re.MULTILINE)]

        assert order() == [two.pid, one.pid]  # by sockets
        terminal.press("s")
        wait_until(lambda: order() == [one.pid, two.pid], 10, "the other way round")
        terminal.press("s")
        wait_until(lambda: order() == [two.pid, one.pid], 10, "by sockets")
        terminal.press("n")
        wait_until(lambda: order() == sorted([one.pid, two.pid]), 10, "by name")
        terminal.press("x", "Up", "C-z", "C-\\")  # which are no keys
        wait_until(lambda: order() == sorted([one.pid, two.pid]), 10, "by name")

        # the window may change its size
        terminal.resize(120, 30)
        terminal.wait_for(rf" 127\.0\.0\.1:{two.port} ")
        terminal.resize(80, 24)

        # a worker is killed: it is named as long as it is announced, and then forgotten
        dead = two.pid
        os.kill(two.popen.pid, signal.SIGKILL)  # gunicorn's parent, which would replace it
        os.kill(dead, signal.SIGKILL)
        terminal.wait_for(rf":{dead} \(gunicorn \S+\) listens no more: it was killed, or has lost")
        terminal.wait_for(rf":{dead} +does not answer")
        terminal.wait_for(r"^2 workers +2 ")
        wait_until(lambda: str(dead) not in terminal.screen(), 25, "its being forgotten")
        assert f":{one.pid} " in terminal.screen()

        # Redis goes away and comes back
        own_redis.kill()
        terminal.wait_for(r"^Redis .* cannot be reached")
        assert "Trying again." in terminal.screen()
        assert f":{one.pid} " in terminal.screen()  # what was seen last
        own_redis.start()
        wait_until(lambda: "Trying again." not in terminal.screen(), 20, "its being back")
        terminal.wait_for(rf":{one.pid} +runwsserver\S* .* +2 ", 30)
        terminal.wait_for(r"^broadcast:chat +2$")
        wait_until(lambda: count().sockets == 2)

        terminal.press("q")
        assert terminal.ended() == 0
        assert terminal.screen().strip() == "status 0"


def test_sockets_are_watched(
    sites: tuple[Site, Site], open_terminal: Callable[..., Terminal], alice: str, bob: str
) -> None:
    one, two = sites
    with (
        one.connect("chat?subscribe-broadcast&publish-broadcast", cookie=alice) as alices,
        two.connect("chat?subscribe-broadcast", cookie=bob),
    ):
        terminal = open_terminal(one, "--watch", "--sockets", "--facility", "chat")
        terminal.wait_for(r"^alice +chat ")
        terminal.wait_for(r"^bob +chat ")
        terminal.wait_for(r"^Only facility chat")
        alices.send("hello")
        terminal.wait_for(r"^bob +chat .* 1 +\w+:\d+$")
        terminal.press("i")
        wait_until(lambda: re.findall(r"^(alice|bob) ", terminal.screen(), re.MULTILINE) == ["alice", "bob"])
        terminal.press("C-c")
        assert terminal.ended() == 0


def test_redis_may_be_away_at_the_beginning(open_terminal: Callable[..., Terminal]) -> None:
    away = {"TEST_REDIS_URL": f"redis://127.0.0.1:{free_port()}/0"}
    terminal = open_terminal(away, "--watch")
    terminal.wait_for(r"cannot be reached")
    terminal.wait_for(r"^q ends")
    terminal.press("q")
    assert terminal.ended() == 0


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 0)])
def test_signals_leave_the_terminal_as_it_was(
    own_redis: RedisServer, open_terminal: Callable[..., Terminal], number: signal.Signals, status: int
) -> None:
    terminal = open_terminal({"TEST_REDIS_URL": own_redis.url}, "--watch")
    terminal.wait_for(r"^q ends")
    os.kill(terminal.pid(), number)
    assert terminal.ended() == status


def test_errors_leave_the_terminal_as_it_was(open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal({"TEST_SETTINGS": json.dumps({"WSREDIS": {"URL": "nonsense://"}})}, "--watch")
    assert terminal.ended() == 1
    assert "CommandError: WSREDIS" in terminal.screen()


def test_without_colours_there_are_none(own_redis: RedisServer, open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal({"TEST_REDIS_URL": own_redis.url, "NO_COLOR": "1"}, "--watch")
    terminal.wait_for(r"^q ends")
    assert not re.search(r"\x1b\[[\d;]*3[1-7]m", terminal.colours())


def test_json_comes_line_by_line(own_redis: RedisServer) -> None:
    command = [sys.executable, "-X", "dev", "-W", "error", str(ROOT / "tests/project/manage.py")]
    env = {**os.environ, "TEST_REDIS_URL": own_redis.url}
    process = Process([*command, "wsinspect", "--watch", "0.2", "--json"], env=env, cwd=ROOT)
    try:

        def last() -> dict[str, Any]:
            return json.loads(process.lines[-1])

        wait_until(lambda: len(process.lines) >= 3, 20, "three lines")
        assert last()["problem"] is None
        assert last()["redis"]["topology"] == "single"
        own_redis.kill()
        wait_until(lambda: "cannot be reached" in (last()["problem"] or ""), 10, "the problem")
        assert last().keys() == {"time", "problem"}
        own_redis.start()
        wait_until(lambda: last()["problem"] is None, 10, "its end")
    finally:
        assert process.stop(signal.SIGINT) == 0
    assert "Traceback" not in process.output


# Frames


def worker(number: int, **told: Any) -> WorkerState:
    given: dict[str, Any] = {
        "id": f"machine{number}.with.a.long.name:{number}:abcd",
        "host": f"a-machine-with-a-long-name-{number}",
        "pid": 100_000 + number,
        "server": "gunicorn [bold]23.0.0",
        "group": "x",
        "address": "[2001:db8::1]:8000",
        **dict.fromkeys(("sockets", "sockets_meant", "channels", "received", "delivered", "dropped"), 1_234_567),
        **dict.fromkeys(("received_per_second", "delivered_per_second"), 12_345.6),
        "outbox_bytes": 2**30,
        "lag_p99_ms": 1234.5,
        "memory_bytes": 2**31,
        "uptime_seconds": 123_456.0,
        "is_draining": number % 2 == 0,
        "closes": {},
        "last_error": "an error\nof two lines \x1b[31m" + "x" * 200,
        "last_error_age_seconds": float(number),
        **told,
    }
    return WorkerState(**given)


def overview(workers: int, channels: int) -> Overview:
    kept = Kept(
        channel="x", messages=10_000, of=10_000, newest_id="1-0", newest_age_seconds=1e7, oldest_age_seconds=1e7,
        seconds_to_live=1e7,
    )  # fmt: skip
    server = Server(
        address="10.0.0.1:6379", flavour="Valkey", version="10.10.10", round_trip_ms=123.4, memory_bytes=2**40,
        max_memory_bytes=2**41, clients=123_456, pubsub_channels=1_234_567, persistence="none",
    )  # fmt: skip
    return Overview(
        time="", redis=Redis(url="redis://10.0.0.1", topology="single", servers=[server], unserved_slots=[]),
        problems=["something is wrong " * 10], workers_problem=None, workers=[worker(n) for n in range(workers)],
        silent=[], channels=[ChannelState(channel="x" * 250, sockets=n, kept=kept) for n in range(channels)],
        live_channels=channels, kept_channels=channels, seconds=0.1,
    )  # fmt: skip


def sockets(number: int) -> SocketList:
    one = Socket(
        user="[red]" + "u" * 150, address="2001:db8:1234:5678:9abc:def0:1234:5678", facilities=["x" * 200, "y"],
        channels=["broadcast:" + "x" * 200], age_seconds=1e7, round_trip_ms=1234.5, outbox_bytes=2**30,
        received=12_345_678, sent=12_345_678, worker="a-machine-with-a-long-name:12345:abcd",
    )  # fmt: skip
    return SocketList(time="", sockets=[one] * number, total=number, silent=[])


def drawn(view: View, report: Any, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, force_terminal=True, color_system=None)
    keys = footer(view.keys, "sockets", "12:00:00", width)
    frame = Frame(
        lambda width: view.head(report, width), lambda width, height: view.body(report, width, height), keys, "Away."
    )
    console.print(frame, end="")
    output = console.file.getvalue()
    return re.sub(r"\x1b\[[\d;]*m", "", output).splitlines()


@pytest.mark.parametrize(("width", "height"), [(80, 24), (40, 10), (20, 3), (200, 60), (80, 12)])
@pytest.mark.parametrize(("many", "few"), [(0, 0), (1, 1), (3, 100), (100, 3), (100, 100)])
def test_a_frame_has_the_size_of_the_terminal(width: int, height: int, many: int, few: int) -> None:
    nothing: Any = None
    for view, report in (
        (OverviewView(nothing, "user alice", Order("sockets"), 50), overview(many, few)),
        (SocketsView(nothing, "", Order("out"), 50), sockets(many)),
    ):
        lines = drawn(view, report, width, height)
        assert len(lines) == height
        assert max(map(len, lines)) <= width
        assert lines[0].startswith("Away.")
        assert lines[-1].startswith("q ends"[:width])


def test_workers_of_long_names_are_told_apart_in_80_columns() -> None:
    nothing: Any = None
    pod = "mysite-web-7d9f8b6c5d-x2x4z"
    told = {"host": pod, "server": "uWSGI 2.0.31", "is_draining": False, "sockets": 500, "sockets_meant": 500}
    workers = [worker(number, **told, pid=12345 + number) for number in range(2)]
    report = replace(overview(0, 3), workers=workers)
    lines = drawn(OverviewView(nothing, "", Order("sockets"), 50), report, 80, 30)
    for number in range(2):
        assert any(re.match(rf"mysi\S*…\S*x4z:{12345 + number} +.*uW", line) for line in lines), lines
    one = Socket(
        user="alice", address="10.0.0.1", facilities=["chat"], channels=["broadcast:chat", "user:alice:chat"],
        age_seconds=100, round_trip_ms=1.2, outbox_bytes=0, received=12, sent=1234, worker=f"{pod}:12345:abcd",
    )  # fmt: skip
    found = replace(sockets(0), sockets=[one], total=1)
    lines = drawn(SocketsView(nothing, "", Order("out"), 50), found, 80, 24)
    assert any(re.search(r"x4z:12345$", line) for line in lines)
    assert any("broadcast u" in line for line in lines)


def test_a_tail_is_cut_to_the_width(sites: tuple[Site, Site], open_terminal: Callable[..., Terminal]) -> None:
    terminal = open_terminal(sites[0], "--tail", "chat")

    def shown() -> bool:
        publish("x" * 200, facility="chat", broadcast=True)
        publish("the end", facility="chat", broadcast=True)
        return "the end" in terminal.screen()

    wait_until(shown, 30, "a message")
    lines = terminal.screen().splitlines()
    (long,) = {line.rpartition(" ")[2] for line in lines if "xxx" in line}
    assert re.fullmatch("x+…", long)
    assert all(re.match(r"\d\d:\d\d:\d\d\.\d{3} broadcast:chat +\d+B ", line) for line in lines if line)


def test_numbers_are_whole_in_80_columns() -> None:
    nothing: Any = None
    lines = drawn(OverviewView(nothing, "", Order("sockets"), 50), overview(2, 3), 80, 30)
    cells = [line.split()[-7:] for line in lines if line.endswith(" 1d")]
    assert cells == [["1,234,567", "12k", "12k", "1G", "1.2s", "2G", "1d"]] * 2
    assert any("an error⏎of two lines \\x1b" in line for line in lines)
    (line,) = {
        line for line in drawn(SocketsView(nothing, "", Order("out"), 50), sockets(1), 80, 24) if "[red]" in line
    }
    assert line.split()[2:7] == ["115d", "1.2s", "1G", "12,345,678", "12,345,678"]


def test_each_key_is_a_letter_of_its_word() -> None:
    for keys in (OVERVIEW_KEYS, SOCKET_KEYS):
        assert all(key in word for key, word in keys.items())
        assert "q" not in keys
    assert footer(OVERVIEW_KEYS, "sockets", "12:00:00", 80).cell_len == 80
