"""The parts of this package which need no Python 2.7 and no server."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from .install import Python27Missing, cache_dir, candidates, find_python27
from .report import Report, Verdict, parse
from .wstest import case_id, select


def script(path: Path, says: str, status: int = 0) -> str:
    path.write_text(f"#!/bin/sh\necho '{says}'\nexit {status}\n")
    path.chmod(0o755)
    return str(path)


def test_find_python27_passes_over_what_does_not_run(tmp_path: Path) -> None:
    shim = script(tmp_path / "shim", "not enabled", status=127)
    good = script(tmp_path / "good", "/opt/python2.7")
    assert find_python27([str(tmp_path / "absent"), shim, good]) == "/opt/python2.7"


def test_find_python27_refuses_other_versions() -> None:
    with pytest.raises(Python27Missing, match="PYTHON27"):
        find_python27([sys.executable])


def test_candidates_begin_with_the_named_one(tmp_path: Path) -> None:
    installed = tmp_path / "versions/2.7.18/bin/python2.7"
    installed.parent.mkdir(parents=True)
    installed.touch()
    environ = {"PYTHON27": "mine", "PYENV_ROOT": str(tmp_path)}
    assert list(candidates(environ)) == ["mine", "python2.7", str(installed)]


def test_cache_dir() -> None:
    assert cache_dir({"XDG_CACHE_HOME": "/c"}) == Path("/c/django-wsredis/autobahn")
    assert cache_dir({"HOME": "/h"}) == Path("/h/.cache/django-wsredis/autobahn")


def test_select() -> None:
    cases = [case_id(name) for name in ("Case1_1_1", "Case7_1_5", "Case7_13_1", "Case12_1_1")]
    assert select(cases, ["1.*", "7.*"], ["7.1.*"]) == ["1.1.1", "7.13.1"]


def report(*verdicts: tuple[str, str]) -> Report:
    index = {
        f"1.1.{number}": {"behavior": behavior, "behaviorClose": close, "duration": 5}
        for number, (behavior, close) in enumerate(verdicts)
    }
    planned = list(index)
    return Report(planned, parse(index, planned), Path(), 1)


def test_report_of_good_cases() -> None:
    good = report(("OK", "OK"), ("INFORMATIONAL", "INFORMATIONAL"))
    assert good.ok
    assert good.shortfalls() == ""


@pytest.mark.parametrize("behavior", ["NON-STRICT", "UNIMPLEMENTED"])
def test_report_tolerates(behavior: str) -> None:
    tolerant = report(("OK", "OK"), (behavior, "OK"))
    assert tolerant.ok
    assert tolerant.tolerated == {"1.1.1": Verdict(behavior, "OK", 5)}


@pytest.mark.parametrize("pair", [("FAILED", "OK"), ("OK", "WRONG CODE"), ("NON-STRICT", "UNCLEAN")])
def test_report_of_failures(pair: tuple[str, str]) -> None:
    bad = report(("OK", "OK"), pair)
    assert not bad.ok
    assert list(bad.failed) == ["1.1.1"]
    assert not bad.tolerated


def test_report_of_cases_not_run() -> None:
    none = Report(["1.1.1"], {}, Path(), 0)
    assert not none.ok
    assert none.not_run == ["1.1.1"]
    assert none.shortfalls() == "1.1.1: NOT RUN"
