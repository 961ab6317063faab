"""Where the project keeps its sessions, by `SESSION_ENGINE`; of that of a request see `visitor.py`."""

from __future__ import annotations

import secrets
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.sessions.backends import db, signed_cookies
from django.contrib.sessions.backends.base import SessionBase


def are_there() -> bool:
    """Tell whether the project has sessions: the default engine needs the app of its model."""
    return apps.is_installed("django.contrib.sessions") or not django_settings.SESSION_ENGINE.endswith(".db")


def store() -> type[SessionBase]:
    """Return the engine's class."""
    found: type[SessionBase] = import_module(django_settings.SESSION_ENGINE).SessionStore
    return found


def are_in_cookies() -> bool:
    """Tell whether a session is all in its cookie, which is another one each time that it is saved."""
    return issubclass(store(), signed_cookies.SessionStore)


def model() -> Any:
    """Return the model that the engine keeps sessions in, None if it has none, or none that is installed."""
    found = store()
    try:
        return found.get_model_class() if issubclass(found, db.SessionStore) else None
    except RuntimeError:  # of Django, for the model of an app that is not
        return None


def prove_store() -> None:
    """Raise what is wrong with the engine's cache: while that is away, no session seems to be there.

    A session that was not found, and is not found after this, has gone.
    """
    cache = getattr(store()(), "_cache", None)
    if cache is None or model() is not None:  # in the latter case the database has the last word, and would raise
        return
    key, value = f"django_wsredis.{secrets.token_hex(8)}", secrets.token_hex(8)
    cache.set(key, value, 10)
    if cache.get(key) != value:
        raise ConnectionError("the cache of sessions keeps nothing")
    cache.delete(key)
