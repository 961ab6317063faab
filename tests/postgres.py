"""A PostgreSQL of a test's own, on a unix socket."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

from .servers import Process, missing


def find_postgres() -> Path:
    """Return the folder of PostgreSQL's programs; Debian has it not on PATH."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    if config := shutil.which("pg_config"):
        found = subprocess.run([config, "--bindir"], capture_output=True, text=True, check=True)
        folders.insert(0, Path(found.stdout.strip()))
    if program := shutil.which("initdb"):
        folders.append(Path(program).resolve().parent)
    for folder in folders:
        if (folder / "initdb").exists() and (folder / "postgres").exists():
            return folder
    return missing("no PostgreSQL: neither initdb on PATH, nor pg_config, nor /usr/lib/postgresql")


class Postgres:
    """An empty PostgreSQL. database: of Django's settings, how it is reached."""

    def __init__(self, folder: Path) -> None:
        programs = find_postgres()
        options: dict[str, Any] = {"cwd": folder}
        if os.geteuid() == 0:  # as which it refuses to run
            nobody = pwd.getpwnam("nobody")
            os.chown(folder, nobody.pw_uid, nobody.pw_gid)
            options |= {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
        subprocess.run(
            [programs / "initdb", "-D", "data", "-U", "postgres", "--auth=trust", "--locale=C", "-E", "UTF8", "-N"],
            check=True, capture_output=True, **options,
        )  # fmt: skip
        self.process = Process(
            [str(programs / "postgres"), "-D", "data", "-F", "-k", str(folder), "-c", "listen_addresses="], **options
        )
        self.database = {
            "ENGINE": "django.db.backends.postgresql", "NAME": "postgres", "USER": "postgres", "HOST": str(folder)
        }  # fmt: skip
        self.process.wait_for("ready to accept connections")

    def connections(self) -> list[str]:
        """Return what each connection of others is doing: "active", "idle", "idle in transaction", …"""
        import psycopg

        query = "SELECT state FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        with psycopg.connect(host=self.database["HOST"], user="postgres", autocommit=True) as connection:
            return [state for (state,) in connection.execute(query)]

    def stop(self) -> None:
        self.process.stop(signal.SIGINT)  # at TERM it would wait for its clients
