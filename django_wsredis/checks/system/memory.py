"""Memory, against MAX_SOCKETS: of the machine, and of the control group that wscheck runs in, as in a container."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from .. import kernel
from ..findings import Problem, Row, skipped

CGROUPS = Path("/sys/fs/cgroup")
# of each version: its folder below CGROUPS, the files of what is allowed and what is used, and what is soon given back
VERSION_1 = ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
VERSION_2 = ("", "memory.max", "memory.current", "inactive_file")

# What a worker grows by for an idle socket that speaks wsredis.v1, and the kernel for a TCP socket: docs/scaling.rst,
# measured with 5,000 sockets. docs/benchmarks.rst has 2.2 to 4.1 kB for the first, by host.
WORKER_BYTES = 3_300
KERNEL_BYTES = 5_000

TITLES = {"wsredis.W556": "Memory is not enough for MAX_SOCKETS."}


def row(max_sockets: int | None) -> Row:
    """Look whether there is memory for as many sockets as one worker may have."""
    match = re.search(r"^MemAvailable:\s+(\d+) kB", kernel.text("meminfo"), re.M)
    if match is None:
        return skipped("memory", f"{kernel.PROC}/meminfo cannot be read here")
    sizes = [(int(match[1]) * 1024, "MemAvailable"), *_left_in_groups()]
    available, whose = min(sizes)
    found = f"{_size(available)} available ({whose}); {(WORKER_BYTES + KERNEL_BYTES) / 1000:g} kB a socket"
    if max_sockets is None:
        return Row(checked="memory", found=f"{found}; MAX_SOCKETS not set")
    needed = max_sockets * (WORKER_BYTES + KERNEL_BYTES)
    found += f", {_size(needed)} for MAX_SOCKETS"
    if needed <= available:
        return Row(checked="memory", found=found)
    more = f"\nOr more memory for its control group: MemoryMax={_whole(needed)} in the unit, docker run --memory"
    problem = Problem(
        id="wsredis.W556",
        text=f"{_size(available)} of memory are available ({whose}), and one worker needs {_size(needed)} for "
        f"{max_sockets:,} sockets: {WORKER_BYTES:,} bytes for each in the worker, {KERNEL_BYTES:,} in the kernel.",
        hint=f'WSREDIS["MAX_SOCKETS"] = {available // (WORKER_BYTES + KERNEL_BYTES)}, or less: divided by the workers, '
        f"and by 2 if a proxy runs here, too.{more if len(sizes) > 1 and whose != 'MemAvailable' else ''}",
    )
    return Row(checked="memory", found=found, problems=(problem,))


def _left_in_groups() -> Iterator[tuple[int, str]]:
    """Yield what may still be used by each control group that holds us, with the name of the file that limits it."""
    for line in kernel.text("self/cgroup").splitlines():
        number, controllers, path = (*line.split(":", 2), "", "")[:3]
        if number == "0":
            version = VERSION_2
        elif "memory" in controllers.split(","):
            version = VERSION_1
        else:
            continue
        top = CGROUPS / version[0]
        # a container sees its own group as the top one, though its path may be that of the machine
        for folder in {parent: None for name in (path.lstrip("/"), "") for parent in _upwards(top, name)}:
            if (left := _left(folder, *version[1:])) is not None:
                yield left, str(folder / version[1])


def _upwards(top: Path, name: str) -> list[Path]:
    folder = top / name
    return [each for each in (folder, *folder.parents) if each.is_relative_to(top)]


def _left(folder: Path, most_name: str, used_name: str, cache_name: str) -> int | None:
    """Return what a group may still use; None if it has no limit. Files that are cached count as free."""
    try:
        most, used = ((folder / name).read_text().strip() for name in (most_name, used_name))
    except OSError:  # this one limits nothing, or is hidden
        return None
    if not (most.isdecimal() and used.isdecimal()):  # "max"
        return None
    try:
        cache = re.search(rf"^{cache_name} (\d+)$", (folder / "memory.stat").read_text(), re.M)
    except OSError:
        cache = None
    return max(0, int(most) - int(used) + (int(cache[1]) if cache else 0))


def _size(size: int) -> str:
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.0f} MB"


def _whole(size: int) -> str:
    """Return a size as systemd and Docker read it, rounded up and with as much again for the rest of the site."""
    return f"{-(-2 * size // 2**20)}M"
