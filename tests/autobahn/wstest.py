"""Runs Autobahn|Testsuite's fuzzing client against a websocket echo server.

    python -m tests.autobahn.wstest ws://127.0.0.1:9001 [--cases '1.*,7.1.*'] [--exclude '9.*']

Exit status: 0 if every case ran and none failed, 1 if not, 2 if wstest could not be run to its end.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from .install import InstallFailed, Python27Missing, ensure_wstest
from .report import Report, parse

__all__ = ["SAMPLE", "Python27Missing", "Report", "RunFailed", "run"]

# 49 of the 216 cases of compression: every offer and every kind of data, each with messages of 16 and
# 1,024 bytes, and of 8,192 in fragments; all the small sizes with the default offer; and two of 131,072
# bytes: frames above 64 KiB even when compressed, in fragments, and the smallest window without context.
SAMPLE = (
    "1[23].?.1",
    "1[23].?.4",
    "1[23].?.11",
    "1[23].1.[23567]",
    "13.5.7",
    "13.5.10",
    "12.1.18",
)

# wstest, with more patience. It gives most answers and ends one second; a machine that lets the server stand for longer
# is no fault of the server.
PATIENCE = 15
PATIENT = f"""
from autobahntestsuite import fuzzing, wstest
kill = fuzzing.FuzzingProtocol.killAfter
fuzzing.FuzzingProtocol.killAfter = lambda self, seconds: kill(self, {PATIENCE} * seconds)
wstest.run()
"""


class RunFailed(Exception):
    """wstest did not come to its end; the message has its last line."""


def run(
    url: str,
    cases: Iterable[str] = ("*",),
    exclude: Iterable[str] = (),
    outdir: Path | None = None,
    timeout: float = 1800,
) -> Report:
    """Runs the cases which match one of `cases` and none of `exclude`.

    `outdir` gets wstest's report; a new temporary directory does if it is None.
    Raises Python27Missing or InstallFailed if wstest cannot be had, ValueError if no case matches,
    RunFailed if wstest fails or takes more than `timeout` seconds.
    """
    bin_dir = ensure_wstest()
    planned = select(known_cases(bin_dir), list(cases), list(exclude))
    if not planned:
        # wstest would wait for ever.
        raise ValueError("no case matches")
    outdir = (outdir or Path(tempfile.mkdtemp(prefix="autobahn-"))).resolve()
    outdir.mkdir(parents=True, exist_ok=True)
    index = outdir / "index.json"
    index.unlink(missing_ok=True)

    start = time.monotonic()
    _fuzz(bin_dir / "python", {"url": url, "agent": "server"}, planned, outdir, timeout)
    seconds = time.monotonic() - start
    servers = json.loads(index.read_text())
    return Report(planned, parse(servers.get("server", {}), planned), outdir, seconds)


def known_cases(bin_dir: Path) -> list[str]:
    """Returns the ids of all cases of the installed suite, in its order."""
    code = "from autobahntestsuite.case import Cases; print(' '.join(c.__name__ for c in Cases))"
    command: list[str | Path] = [bin_dir / "python", "-W", "ignore", "-c", code]
    return [case_id(name) for name in subprocess.check_output(command, text=True).split()]


def case_id(class_name: str) -> str:
    """Returns `7.1.5` for `Case7_1_5`."""
    return class_name.removeprefix("Case").replace("_", ".")


def select(cases: Iterable[str], include: Sequence[str], exclude: Sequence[str]) -> list[str]:
    """Returns the ids which match a shell pattern of `include`, and none of `exclude`."""
    return [case for case in cases if _matches(case, include) and not _matches(case, exclude)]


def _matches(case: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(case, pattern) for pattern in patterns)


def _fuzz(python: Path, server: dict[str, str], cases: list[str], outdir: Path, timeout: float) -> None:
    spec, log = outdir / "spec.json", outdir / "wstest.log"
    options = {"closeHandshakeTimeout": PATIENCE, "serverConnectionDropTimeout": PATIENCE}
    spec.write_text(json.dumps({"options": options, "outdir": str(outdir), "servers": [server], "cases": cases}))
    with log.open("w") as out:
        try:
            subprocess.run(
                [python, "-c", PATIENT, "-m", "fuzzingclient", "-s", spec],
                cwd=outdir,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore"},
                timeout=timeout,
                check=True,
            )
            return
        except subprocess.TimeoutExpired:
            problem = f"wstest had not ended in {timeout:g} s"
        except subprocess.CalledProcessError as error:
            problem = f"wstest ended in {error.returncode}"
    last = (log.read_text(errors="replace").strip().splitlines() or ["nothing"])[-1]
    raise RunFailed(f"{problem}, having said last: {last}")


def _patterns(text: str) -> list[str]:
    return [pattern for pattern in text.split(",") if pattern]


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.autobahn.wstest")
    parser.add_argument("url")
    parser.add_argument("--cases", type=_patterns, default=["*"], help="patterns, commas between")
    parser.add_argument("--exclude", type=_patterns, default=[], help="patterns of cases to omit")
    parser.add_argument("--sample", action="store_true", help="the sample of compression cases")
    parser.add_argument("--outdir", type=Path, help="for the report; a new directory if not given")
    parser.add_argument("--timeout", type=float, default=1800, help="seconds for the whole run")
    args = parser.parse_args(argv)
    try:
        report = run(
            args.url,
            SAMPLE if args.sample else args.cases,
            args.exclude,
            args.outdir,
            args.timeout,
        )
    except (Python27Missing, InstallFailed, RunFailed, ValueError) as error:
        print(f"wstest: {error}", file=sys.stderr)
        return 2
    if shortfalls := report.shortfalls():
        print(shortfalls)
    print(f"report: {report.directory / 'index.html'}")
    print(report.summary())
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
