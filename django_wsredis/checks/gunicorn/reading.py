"""gunicorn's configuration, as gunicorn itself reads it, in a process of its own: it is Python."""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..programs import Patience

DEFAULT_FILE = "gunicorn.conf.py"

# What it prints last is what gunicorn makes of a configuration.
PROBE = """
import json, sys
from gunicorn.app.base import Application
from gunicorn.app.wsgiapp import WSGIApplication

class Probe(WSGIApplication):
    load_config = Application.load_config  # WSGIApplication's own wants an application to be named

sys.argv[0] = "gunicorn"
cfg = (probe := Probe("gunicorn")).cfg
names = ("threads", "timeout", "graceful_timeout", "max_requests", "preload_app", "workers")
told = {name: getattr(cfg, name) for name in names}
told |= {"worker_class": cfg.worker_class_str, "application": probe.app_uri or cfg.wsgi_app or ""}
monkey = sys.modules.get("gevent.monkey")
told |= {"is_patched": monkey is not None and monkey.is_module_patched("threading")}
told |= {"certfile": bool(cfg.certfile), "bind": ", ".join(cfg.bind)}
print()
print(json.dumps(told))
"""


@dataclass(frozen=True, slots=True)
class Instance:
    """A gunicorn that is looked at. name: how rows call it. file: its configuration, if that is known."""

    name: str
    arguments: Sequence[str]
    folder: Path
    file: Path | None = None

    def words(self) -> Iterator[str]:
        """Yield what may name its application, without a run of its file: its arguments, and `wsgi_app = "…"`."""
        yield from self.arguments
        try:
            lines = ast.parse(self.file.read_text()).body if self.file else []
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
            return
        for line in lines:
            match line:
                case ast.Assign(targets=[ast.Name(id="wsgi_app")], value=ast.Constant(value=str(application))):
                    yield application

    def place(self, setting: str) -> str:
        """Return the file and line where something is set."""
        if self.file is None:
            return ""
        try:
            lines = self.file.read_text().splitlines()
        except (OSError, UnicodeDecodeError):
            return str(self.file)
        numbers = [number for number, line in enumerate(lines, 1) if re.match(rf"\s*{setting}\b.*=", line)]
        return f"{self.file}:{numbers[-1]}" if numbers else str(self.file)


def file_of(arguments: Sequence[str], folder: Path) -> Path | None:
    """Return the configuration that a command line names, or the one that gunicorn looks for."""
    line = "\0".join(arguments)
    match = re.search(r"(?:^|\0)(?:-c|--config)[\0=]?([^\0]+)", line)
    path = folder / (match[1] if match else DEFAULT_FILE)
    return path if path.is_file() else None


def ask(instance: Instance, patience: Patience) -> dict[str, Any] | str:
    """Return what gunicorn makes of a configuration, or what it says against it; "" if it does not answer."""
    # -P: the folder is not on sys.path while the probe imports; gunicorn itself puts it there later
    said = patience.ask(sys.executable, "-P", "-c", PROBE, *instance.arguments, folder=instance.folder)
    if said.status is None:
        return ""
    lines = [line for line in said.text.splitlines() if line.strip()] or ["it says nothing"]
    if said.status == 0:
        try:
            told = json.loads(lines[-1])
        except ValueError:  # it ended itself
            told = None
        return told if isinstance(told, dict) else lines[-1]
    return lines[-1].removeprefix("Error: ")
