"""`manage.py wsinspect --tail` as a process."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any, Self

from .servers import ROOT, Process, wait_until


class Tail(Process):
    """Follows messages until the end of a `with` block, which Ctrl-C is. Its notices are among its lines."""

    def __init__(self, redis_url: str, what: str, *options: str, settings: dict[str, Any] | None = None) -> None:
        env = {"TEST_REDIS_URL": redis_url, "TEST_SETTINGS": json.dumps(settings or {}), "PYTHONUNBUFFERED": "1"}
        manage = [sys.executable, "-X", "dev", "-W", "error", str(ROOT / "tests/project/manage.py")]
        super().__init__([*manage, "wsinspect", "--tail", what, *options], env={**os.environ, **env}, cwd=ROOT)
        self._numbers = itertools.count()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        status = self.stop(signal.SIGINT)
        assert "Traceback" not in self.output
        assert status == 0, self.output

    def wait_until_followed(self, publish: Callable[[str], Any]) -> None:
        """Publish texts until one of them is shown."""
        first = next(self._numbers)

        def is_shown() -> bool:
            assert self.popen.poll() is None, self.output
            publish(f"probe {next(self._numbers)} of {first}")
            return f" of {first}" in self.output

        wait_until(is_shown, 30, f"a message in:\n{self.output}\n")
