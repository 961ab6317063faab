"""What the benchmarks share: the two C programs, a Redis, a server of ours, and a table."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import redis
from rich.console import Console
from rich.table import Table

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
BUILD = HERE / "build"
SETTINGS_MODULE = "benchmarks.project"

sys.path.insert(0, str(ROOT))
console = Console(width=100)


def compile_programs() -> None:
    """Build bare_loop and clients. Needs a C compiler as `cc`."""
    BUILD.mkdir(exist_ok=True)
    for name in ("bare_loop", "clients"):
        source, program = HERE / f"{name}.c", BUILD / name
        if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
            subprocess.run(["cc", "-O2", "-Wall", "-Wextra", "-o", program, source], check=True)


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

    def memory_bytes(self) -> int:
        """The proportional set size: what the process has alone, and its share of the rest."""
        for line in Path(f"/proc/{self.popen.pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
        raise RuntimeError("no Pss")

    def stop(self) -> None:
        self.popen.terminate()
        self.popen.wait(10)
        self.popen.stdout.close()


@contextmanager
def rig() -> Iterator[ExitStack]:
    """Compile what is needed, and end all that was started."""
    compile_programs()
    with ExitStack() as stack:
        yield stack


def cpu_seconds(popen: subprocess.Popen[str]) -> float:
    """Return the processor time that a child's threads have used, by the scheduler's count in nanoseconds."""
    tasks = Path(f"/proc/{popen.pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e9


def print_table(title: str, columns: list[str], rows: list[list[str]]) -> None:
    table = Table(title=title, title_justify="left")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
