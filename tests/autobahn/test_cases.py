"""Autobahn|Testsuite's fuzzing client against the loop's own connections.

A sample of the compression cases (12, 13) runs by default; `AUTOBAHN=all` runs all 517 cases, in ten minutes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..servers import ROOT, missing
from .wstest import SAMPLE, Python27Missing, run

CASES = (
    ["*"] if os.environ.get("AUTOBAHN") == "all" else ["1.*", "2.*", "3.*", "4.*", "5.*", "6.*", "7.*", "9.*", "10.*"]
)


@pytest.fixture
def echo_url() -> Iterator[str]:
    command = [sys.executable, "-m", "tests.autobahn.echo"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        yield f"ws://127.0.0.1:{process.stdout.readline().strip()}"
        process.terminate()


def test_no_case_fails_and_none_ends_uncleanly(echo_url: str, tmp_path: Path) -> None:
    cases = CASES if CASES == ["*"] else [*CASES, *SAMPLE]
    try:
        report = run(echo_url, cases=cases, outdir=tmp_path, timeout=900)
    except Python27Missing as reason:
        missing(str(reason))
    assert report.ok, f"{report.summary()}\n{report.shortfalls()}"
