"""wscheck's area system: one thing of this machine is changed, and its problem is found."""

from __future__ import annotations

import resource
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from django.test import override_settings

from django_wsredis import listening
from django_wsredis.checks import check_deployment, check_settings, kernel, system
from django_wsredis.checks.findings import Problem, Row
from django_wsredis.checks.situation import Situation
from django_wsredis.checks.system import files, limits, memory, versions
from django_wsredis.checks.uwsgi import serving
from django_wsredis.checks.uwsgi.reading import Option, OptionList
from django_wsredis.loop import loop

from .servers import ROOT, may_open, run_manage

FILES = {
    "sys/net/core/somaxconn": "4096\n",
    "sys/net/ipv4/ip_local_port_range": "32768\t60999\n",
    "meminfo": "MemTotal:       24684084 kB\nMemFree:  21175796 kB\nMemAvailable:   16000000 kB\n",
}
ROWS = ["open files", "somaxconn", "ports of a proxy", "memory", "Python", *versions.NEEDED.values()]


@pytest.fixture(autouse=True)
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine that is well: its files below a folder, and 20,000 open files."""
    for name, text in FILES.items():
        path = tmp_path / "proc" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.setattr(kernel, "PROC", tmp_path / "proc")
    monkeypatch.setattr(memory, "CGROUPS", tmp_path / "cgroup")
    allow_files(monkeypatch, 20_000, 20_000)
    return tmp_path


def allow_files(monkeypatch: pytest.MonkeyPatch, soft: int, hard: int) -> None:
    monkeypatch.setattr(files.resource, "getrlimit", lambda what: (soft, hard))


def look(**wsredis: Any) -> dict[str, Row]:
    with override_settings(WSREDIS=wsredis):
        rows = list(system.look(Situation()))
    found = {row.checked: row for row in rows}
    assert len(found) == len(rows)
    return found


def problems(rows: dict[str, Row]) -> list[Problem]:
    return [problem for row in rows.values() for problem in row.problems]


def only(rows: dict[str, Row], id: str) -> Problem:
    (problem,) = problems(rows)
    assert problem.id == id
    assert problem.hint
    return problem


@pytest.mark.parametrize("max_sockets", [None, 10_000])
def test_a_machine_that_is_well_has_no_problem(max_sockets: int | None) -> None:
    rows = look(MAX_SOCKETS=max_sockets)
    assert problems(rows) == []
    assert list(rows) == ROWS
    assert not any(row.is_skipped for row in rows.values())
    assert rows["open files"].found.startswith("soft limit 20,000, hard limit 20,000; MAX_SOCKETS ")
    assert rows["redis-py"].found.startswith(metadata.version("redis"))


# Open files


def test_w551_a_hard_limit_that_is_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_files(monkeypatch, 1024, 4096)
    text = only(look(MAX_SOCKETS=10_000), "wsredis.W551").text
    assert "4,096" in text
    assert "4,032 sockets" in text


def test_w552_a_soft_limit_that_is_too_low(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_files(monkeypatch, 4096, 20_000)
    assert "4,096 files (soft limit)" in only(look(MAX_SOCKETS=10_000), "wsredis.W552").text
    assert problems(look(MAX_SOCKETS=4096 - 64)) == []


def test_i553_a_soft_limit_that_is_low(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_files(monkeypatch, 1024, resource.RLIM_INFINITY)
    assert "960 sockets" in only(look(), "wsredis.I553").text
    assert problems(look(MAX_SOCKETS=500)) == []


def test_without_a_limit_nothing_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_files(monkeypatch, resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert look(MAX_SOCKETS=10_000)["open files"].found.startswith("soft limit none, hard limit none")


def test_where_nothing_runs_the_limit_is_that_of_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """And it is true: a worker with so many files takes so many sockets."""
    monkeypatch.undo()
    with may_open(1024):
        soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        (row,) = files.rows(Situation())
        assert row.found.startswith(f"soft limit {soft:,}, hard limit")
        assert row.found.endswith("of this shell, as no server of this project is seen to run here")
        assert loop.max_open_sockets() == soft - files.RESERVED_FILES


# The kernel


def test_w554_few_that_may_wait(machine: Path) -> None:
    (machine / "proc/sys/net/core/somaxconn").write_text("128\n")
    assert "is 128:" in only(look(), "wsredis.W554").text


def test_w555_few_ports_are_no_problem_without_a_proxy_that_needs_them(machine: Path) -> None:
    (machine / "proc/sys/net/ipv4/ip_local_port_range").write_text("50000\t50999\n")
    rows = look(MAX_SOCKETS=10_000)
    assert problems(rows) == []
    assert rows["ports of a proxy"].found.startswith("1,000 (50000 to 50999) to each TCP address; the area of a proxy")
    assert kernel.ports_row(set(), 10_000, "x:1").problems == ()
    assert kernel.ports_row({"127.0.0.1:8000"}, None, "x:1").problems == ()
    assert kernel.ports_row({"127.0.0.1:8000"}, 1000, "x:1").problems == ()
    (problem,) = kernel.ports_row({"127.0.0.1:8000"}, 1001, "x:1").problems
    assert (problem.id, problem.place) == ("wsredis.W555", "x:1")
    assert "1,000 connections at most to each of 127.0.0.1:8000, and MAX_SOCKETS is 1,001" in problem.text


def test_the_kernels_limit_of_who_may_wait_is_read_once_for_all_areas(machine: Path) -> None:
    (machine / "proc/sys/net/core/somaxconn").write_text("777\n")
    assert kernel.somaxconn() == 777
    assert look()["somaxconn"].found.startswith("777;")
    conf = OptionList([Option("listen", "778", "x:1")])
    assert serving.listen(conf).found == "778; net.core.somaxconn is 777"
    assert [problem.id for problem in serving.listen(conf).problems] == ["wsredis.E324"]


def test_w556_little_memory(machine: Path) -> None:
    text = FILES["meminfo"].replace("16000000", "50000")
    (machine / "proc/meminfo").write_text(text)
    assert problems(look()) == []
    assert "51 MB" in only(look(MAX_SOCKETS=10_000), "wsredis.W556").text


# a group's limit → what is used and allowed; the names of the files are the kernel's, of its two versions
GROUPS = {
    "of a container": ("0::/", "", "memory.max", "memory.current"),
    "of a systemd unit": ("0::/system.slice/site.service", "system.slice/site.service", "memory.max", "memory.current"),
    "of a unit's slice": ("0::/system.slice/site.service", "system.slice", "memory.max", "memory.current"),
    "of version 1": (
        "5:memory:/docker/x\n0::/", "memory/docker/x", "memory.limit_in_bytes", "memory.usage_in_bytes"
    ),
    "of a container of version 1": (
        "11:cpu,cpuacct:/\n5:memory:/docker/x", "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
    ),
}  # fmt: skip


@pytest.mark.parametrize("group", GROUPS)
def test_w556_little_memory_of_a_control_group(machine: Path, group: str) -> None:
    told, name, most, used = GROUPS[group]
    (machine / "proc/self").mkdir()
    (machine / "proc/self/cgroup").write_text(f"{told}\n")
    folder = machine / "cgroup" / name
    folder.mkdir(parents=True)
    (folder / most).write_text("max\n" if most == "memory.max" else "9223372036854771712\n")
    (folder / used).write_text("450000000\n")
    rows = look(MAX_SOCKETS=10_000)
    assert problems(rows) == []
    assert rows["memory"].found.startswith("16.4 GB available (MemAvailable)")
    (folder / most).write_text("500000000\n")  # 50 MB more than is used, for 83 MB of sockets
    problem = only(look(MAX_SOCKETS=10_000), "wsredis.W556")
    assert f"50 MB of memory are available ({folder / most})" in problem.text
    assert 'WSREDIS["MAX_SOCKETS"] = 6024' in problem.hint
    assert "MemoryMax=159M" in problem.hint
    assert problems(look(MAX_SOCKETS=6024)) == []
    (folder / most).write_text("533000001\n")
    assert problems(look(MAX_SOCKETS=10_000)) == []


def test_w556_files_that_are_cached_are_no_memory_that_is_lacking(machine: Path) -> None:
    (machine / "proc/self").mkdir()
    (machine / "proc/self/cgroup").write_text("0::/\n")
    (machine / "cgroup").mkdir()
    (machine / "cgroup/memory.max").write_text("500000000\n")
    (machine / "cgroup/memory.current").write_text("499000000\n")
    only(look(MAX_SOCKETS=10_000), "wsredis.W556")
    (machine / "cgroup/memory.stat").write_text("anon 99000000\ninactive_file 300000000\nactive_file 100000000\n")
    rows = look(MAX_SOCKETS=10_000)
    assert problems(rows) == []
    assert rows["memory"].found.startswith("301 MB available")


def test_on_another_system_what_is_not_seen_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "PROC", Path("/nonexistent"))
    rows = look(MAX_SOCKETS=10_000)
    assert problems(rows) == []
    assert [row.checked for row in rows.values() if row.is_skipped] == ["somaxconn", "ports of a proxy", "memory"]
    assert serving.listen(OptionList([Option("listen", "4096", "x:1")])).is_skipped
    assert kernel.ports_row({"127.0.0.1:8000"}, 10_000, "x:1").is_skipped


def test_the_files_of_this_machine_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if Path("/proc/meminfo").exists():
        rows = look()
        assert rows["somaxconn"].found.startswith(f"{int(Path('/proc/sys/net/core/somaxconn').read_text()):,};")
        assert not any(rows[name].is_skipped for name in ("ports of a proxy", "memory"))


def test_the_constants_are_those_of_a_worker_and_of_the_documentation() -> None:
    assert files.RESERVED_FILES == loop.RESERVED_FILES
    assert limits.BACKLOG == listening.BACKLOG
    for template in ("uwsgi.ini", "emperor.ini"):
        text = (ROOT / f"django_wsredis/configurations/{template}.template").read_text()
        assert f"\nlisten = {limits.BACKLOG}\n" in text
    text = " ".join((ROOT / "docs/scaling.rst").read_text().split())
    assert f"that speaks ``wsredis.v1``, in a worker {memory.WORKER_BYTES / 1000:g} kB" in text
    assert f"a TCP socket, in the kernel {memory.KERNEL_BYTES / 1000:g} kB" in text


# Versions


def pretend(monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> None:
    real = metadata.version
    monkeypatch.setattr(versions.metadata, "version", lambda asked: version if asked == name else real(asked))


@pytest.mark.parametrize(
    ("name", "version", "wanted"),
    [
        ("gevent", "25.8.2", ">=25.9"),
        ("greenlet", "3.1.1", ">=3.2"),
        ("redis", "7.4.0", ">=8.0,<9"),
        ("hiredis", "2.0.0", ">="),
        ("websockets", "16.0", ">=17.0,<18"),
        ("django", "5.1.9", ">=5.2,<6.2"),
    ],
)
def test_e557_a_version_that_is_too_old(monkeypatch: pytest.MonkeyPatch, name: str, version: str, wanted: str) -> None:
    pretend(monkeypatch, name, version)
    problem = only(look(), "wsredis.E557")
    assert problem.text.startswith(f"{name} is {version}, and {wanted}")
    assert f"pip install '{name}{wanted}" in problem.hint


def test_e557_a_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name == "hiredis":
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(versions.metadata, "version", version)
    assert "hiredis is not installed" in only(look(), "wsredis.E557").text


@pytest.mark.parametrize(("name", "version"), [("redis", "9.0.0"), ("websockets", "18.0"), ("django", "6.2rc1")])
def test_w558_a_version_that_is_too_new(monkeypatch: pytest.MonkeyPatch, name: str, version: str) -> None:
    pretend(monkeypatch, name, version)
    assert version in only(look(), "wsredis.W558").text


def test_i559_a_python_that_is_not_tested(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions.platform, "python_version_tuple", lambda: ("3", "99", "0"))
    monkeypatch.setattr(versions.platform, "python_version", lambda: "3.99.0")
    assert "Python 3.99.0" in only(look(), "wsredis.I559").text


def test_a_package_without_metadata_is_not_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(versions, "PACKAGE", "django-wsredis-as-a-folder")
    assert look()["versions"].is_skipped


def test_the_ranges_are_those_of_the_package() -> None:
    """Of its metadata, as it is installed; setup.cfg is where they are written."""
    listed = (ROOT / "setup.cfg").read_text()
    for name in ("gevent", "greenlet", "websockets"):
        assert f"{name}{versions._range('django-wsredis', name)}" in listed
    assert f"redis[hiredis]{versions._range('django-wsredis', 'redis')}" in listed


# Where it is asked


def test_it_works_with_wrong_settings() -> None:
    rows = look(NOPE=1)
    assert list(rows) == ROWS
    assert problems(rows) == []


def test_check_deploy_tells_of_it_and_check_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    allow_files(monkeypatch, 1024, 4096)
    with override_settings(WSREDIS={"MAX_SOCKETS": 10_000}):
        assert "wsredis.W551" in [message.id for message in check_deployment(None)]
        assert "wsredis.W551" not in [message.id for message in check_settings(None)]


def test_check_deploy_needs_no_redis() -> None:
    done = run_manage("check", "--deploy", redis_url="redis://127.0.0.1:1/0")
    assert done.returncode == 0, done.stderr
