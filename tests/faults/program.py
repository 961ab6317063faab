"""A child that is asked in lines and answers in lines of JSON."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from typing import Any

from ..servers import ROOT, wait_until

ANSWER_SECONDS = 60.0


class Program:
    """A module of this package, run as a process of its own. It ends at the end of its stdin."""

    def __init__(self, module: str, *arguments: str | int | float, env: dict[str, str] | None = None) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", f"tests.faults.{module}", *map(str, arguments)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, cwd=ROOT,
            env={**os.environ, **(env or {})},
        )  # fmt: skip
        self._answers: list[Any] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, question: str) -> Any:
        self.popen.stdin.write(question + "\n")
        return self.answer()

    def answer(self) -> Any:
        def is_there() -> bool:
            if self.popen.poll() is not None:  # after its last answer, or without one
                self._reader.join(5)
                assert self._answers, f"{self.popen.args} ended"
            return bool(self._answers)

        wait_until(is_there, ANSWER_SECONDS, f"an answer of {self.popen.args}")
        return self._answers.pop(0)

    def _read(self) -> None:
        for line in self.popen.stdout:
            self._answers.append(json.loads(line))

    def stop(self) -> None:
        self.popen.stdin.close()
        try:
            self.popen.wait(10)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        self._reader.join(5)
        self.popen.stdout.close()
