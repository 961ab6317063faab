"""What a project has gevent patch, as a process sees it that only looks, and that a late patch would break."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from gevent import events, monkey

# modules on which it matters that all are patched, or none → what gevent calls them when it patches all
MODULES = {"socket": "socket", "ssl": "ssl", "select": "select", "threading": "thread"}

_wanted: set[str] = set()  # what code asked for that was imported while it was refused


@contextmanager
def refused() -> Iterator[None]:
    """Have gevent patch nothing meanwhile: it asks who subscribed to its events (gevent.events.DoNotPatch)."""
    events.subscribers.append(_refuse)
    try:
        yield
    finally:
        events.subscribers.remove(_refuse)


def _refuse(event: object) -> None:
    if isinstance(event, events.GeventWillPatchAllEvent):
        _wanted.update(module for module, name in MODULES.items() if event.will_patch_module(name))
    elif isinstance(event, events.GeventWillPatchModuleEvent):
        _wanted.add(event.module_name.replace("_thread", "threading"))
    else:
        return
    raise events.DoNotPatch


def is_patched(module: str) -> bool:
    """Tell whether gevent has patched a module here, or would have, had it not been refused."""
    return module in _wanted or monkey.is_module_patched(module)
