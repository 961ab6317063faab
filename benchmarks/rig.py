"""What the benchmarks share: the C programs, a Redis, a server of ours, what processes use, and a table."""

from __future__ import annotations

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import zip_longest
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = HERE / "build"
SETTINGS_MODULE = "benchmarks.project"
ANSWER_SECONDS = 180  # also for the handshakes of many sockets that are logged in
REST_SECONDS, REST_SHARE, REST_TIMEOUT_SECONDS = 0.5, 0.05, 60  # who uses less of a core than that is at rest

sys.path.insert(0, str(ROOT))
console = Console(width=160)

# name → source, options
PROGRAMS: dict[str, tuple[str, list[str]]] = {
    "bare_loop": ("bare_loop.c", []),
    "clients": ("clients.c", []),
    "clients_tls": ("clients.c", ["-DWITH_TLS", "-lssl", "-lcrypto"]),
}


def build(name: str) -> Path:
    """Return a C program, compiled if need be. Needs a C compiler as `cc`."""
    BUILD.mkdir(exist_ok=True)
    source, options = PROGRAMS[name]
    program = BUILD / name
    newest = max((HERE / file).stat().st_mtime for file in (source, "common.h"))
    if not program.exists() or program.stat().st_mtime < newest:
        subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, HERE / source, *options], check=True)
    return program


class Program:
    """A child that is told lines and answers in lines of JSON."""

    def __init__(self, stack: ExitStack, *command: str | int | Path) -> None:
        self.popen = subprocess.Popen(
            list(map(str, command)), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        stack.callback(self.stop)

    def tell(self, text: str) -> None:
        self.popen.stdin.write(text)
        self.popen.stdin.flush()

    def answer(self) -> dict[str, Any]:
        if not select.select([self.popen.stdout], [], [], ANSWER_SECONDS)[0]:
            raise RuntimeError(f"{self.popen.args[0]} has waited {ANSWER_SECONDS} s in vain")
        line = self.popen.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.popen.args[0]} ended")
        answer = json.loads(line)
        if answer["event"] in ("refused", "closed"):
            raise RuntimeError(f"{self.popen.args[0]}: {answer}")
        return answer

    def stop(self) -> None:
        self.popen.stdin.close()
        self.popen.stdout.close()
        try:
            self.popen.wait(5)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()


class Server:
    """runwsserver with its Redis, in a folder of their own."""

    def __init__(self, stack: ExitStack, **wsredis: Any) -> None:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="wsr-"))
        self.env = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": SETTINGS_MODULE,
            "BENCHMARK_FOLDER": folder,
            "BENCHMARK_WSREDIS": json.dumps(wsredis),
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
        }
        os.environ.update(self.env)
        self.manage("migrate", "-v0")
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "django", "runwsserver", "127.0.0.1:0"], env=self.env, text=True,
            stdout=subprocess.PIPE,
        )  # fmt: skip
        stack.callback(self.stop)
        for line in self.popen.stdout:
            if match := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                self.port = int(match[1])
                break
        else:
            raise RuntimeError("runwsserver did not start")
        self.redis = redis.Redis(unix_socket_path=f"{folder}/redis/redis.sock")
        stack.callback(self.redis.close)

    def manage(self, *arguments: str) -> None:
        subprocess.run([sys.executable, "-m", "django", *arguments], env=self.env, check=True)

    def log_in(self) -> str:
        """Return the key of a session in the database, in which a new user is logged in."""
        code = (
            "from django.contrib.auth.models import Group, User;"
            "from django.contrib.sessions.backends.db import SessionStore;"
            "u = User.objects.create_user('alice'); u.groups.add(Group.objects.create(name='staff'));"
            "s = SessionStore(); s['_auth_user_id'] = str(u.pk);"
            "s['_auth_user_backend'] = 'django.contrib.auth.backends.ModelBackend';"
            "s['_auth_user_hash'] = u.get_session_auth_hash(); s.save(); print(s.session_key)"
        )
        command = [sys.executable, "-m", "django", "shell", "--no-imports", "-c", code]
        return subprocess.run(command, env=self.env, check=True, text=True, capture_output=True).stdout.strip()

    def pids(self) -> list[int]:
        """Return the processes that serve, without the parent that starts them anew, and without Redis."""
        python = os.path.realpath(sys.executable)
        workers = [pid for pid in descendants(self.popen.pid) if os.path.realpath(f"/proc/{pid}/exe") == python]
        return workers or [self.popen.pid]

    def stop(self) -> None:
        self.popen.terminate()
        self.popen.wait(10)
        self.popen.stdout.close()


@contextmanager
def rig() -> Iterator[ExitStack]:
    """Compile what is needed, and end all that was started."""
    build("bare_loop")
    build("clients")
    with ExitStack() as stack:
        yield stack


def descendants(pid: int) -> Iterator[int]:
    """Yield a process's children, and theirs."""
    for text in read_all(Path(f"/proc/{pid}/task").glob("*/children")):
        for child in map(int, text.split()):
            yield child
            yield from descendants(child)


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return the processor time that the threads of processes have used, by the scheduler's count in nanoseconds."""
    stats = [text for pid in pids for text in read_all(Path(f"/proc/{pid}/task").glob("*/schedstat"))]
    return sum(int(text.split()[0]) for text in stats) / 1e9


def wait_for_rest(pids: Sequence[int]) -> None:
    """Wait until processes have finished what they do after handshakes: until they use hardly any processor time.

    Raises TimeoutError.
    """
    deadline = time.monotonic() + REST_TIMEOUT_SECONDS
    used = cpu_seconds(pids)
    while time.monotonic() < deadline:
        time.sleep(REST_SECONDS)
        before, used = used, cpu_seconds(pids)
        if used - before < REST_SHARE * REST_SECONDS:
            return
    raise TimeoutError(f"the processes {', '.join(map(str, pids))} do not come to rest")


def memory_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size: what processes have alone, and their share of the rest."""
    rollups = read_all(Path(f"/proc/{pid}/smaps_rollup") for pid in pids)
    return sum(int(match[1]) * 1024 for text in rollups if (match := re.search(r"^Pss: +(\d+) kB", text, re.M)))


def read_all(paths: Iterable[Path]) -> Iterator[str]:
    """Yield the texts of files below /proc, without those of processes and threads that have ended."""
    for path in paths:
        with suppress(FileNotFoundError, ProcessLookupError):
            yield path.read_text()


def print_table(title: str, columns: list[str], rows: list[list[str]], *, rst: bool = False) -> None:
    """Print a table; as reStructuredText, to be pasted into docs/, without its title."""
    if rst:
        print(rst_table(columns, rows))
        return
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def rst_table(columns: list[str], rows: list[list[str]]) -> str:
    """Return a simple table; a line break in a column's title begins a second line of it."""
    heads = [column.split("\n") for column in columns]
    head_rows = list(zip_longest(*heads, fillvalue=""))
    widths = [max(map(len, cells)) for cells in zip(*head_rows, *rows, strict=True)]
    rule = " ".join("=" * width for width in widths)

    def line(cells: Iterable[str], *, is_head: bool = False) -> str:
        # a title's lines must begin in one column: an indented one would be read as a quotation
        first, *others = zip(cells, widths, strict=True)
        texts = [text.ljust(width) if is_head else text.rjust(width) for text, width in others]
        return " ".join([first[0].ljust(first[1]), *texts]).rstrip()

    head = [line(cells, is_head=True) for cells in head_rows]
    return "\n".join([rule, *head, rule, *map(line, rows), rule])
