"""What is wrong with the settings themselves, wherever they run."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from dataclasses import MISSING, fields
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured

from ..conf import LEGACY_NAMES, Settings, given_settings, legacy_url, resolve
from ..rules import RULES, is_websocket_url, problems
from .findings import Problem, Row
from .situation import Situation

TITLES = {
    "wsredis.E001": "A key of WSREDIS is unknown, or its value is wrong.",
    "wsredis.E002": "A dotted path in WSREDIS cannot be imported.",
    "wsredis.E003": "WEBSOCKET_URL is no path with a slash at both ends.",
    "wsredis.E004": "What a setting names cannot be called as it will be.",
    "wsredis.W001": "A setting has its old name, of ws4redis.",
    "wsredis.W002": "django_wsredis stands after django.contrib.staticfiles.",
}
REFERENCES = ("ALLOWED_CHANNELS", "PROCESS_REQUEST", "SUBSCRIBER")
ARGUMENTS = {"ALLOWED_CHANNELS": ("request", "channels"), "PROCESS_REQUEST": ("request",)}
SUBSCRIBER_METHODS = ("subscribe_channels", "publish_channels")


def look(situation: Situation) -> Iterator[Row]:
    """Look at the settings."""
    try:
        given = given_settings()
    except ImproperlyConfigured as error:
        problem = Problem(
            id="wsredis.E001", text=str(error), hint='It must be a dict: WSREDIS = {"URL": "redis://localhost:6379/0"}'
        )
        yield Row(checked="WSREDIS", found=str(error), problems=(problem,))
        return
    wrong = tuple(
        Problem(id="wsredis.E001", text=text, hint=f"{hint}{_default(key)}")
        for key, value in given.items()
        for text, hint in problems({key: value})
    )
    yield Row(checked="WSREDIS", found=_listed(given), problems=wrong)
    imports = tuple(_import_problems(given))
    yield Row(checked="dotted paths", found=_listed(key for key in REFERENCES if given.get(key)), problems=imports)
    yield _websocket_url()
    old = [name for name in dir(django_settings) if name.startswith("WS4REDIS_")]
    yield Row(checked="settings of ws4redis", found=_listed(old), problems=tuple(map(_old_name, old)))
    yield _order()


def _listed(names: Iterable[str]) -> str:
    return ", ".join(map(str, names)) or "none"


def _default(key: Any) -> str:
    """Return the line to write where nothing else is wanted, to follow a hint; "" where there is none."""
    defaults = {field.name.upper(): field.default for field in fields(Settings)}
    value = defaults.get(key, MISSING)
    if value is MISSING or isinstance(value, (tuple, frozenset)):
        return ""
    return f' By default: "{key}": {value!r},'


def _websocket_url() -> Row:
    url = getattr(django_settings, "WEBSOCKET_URL", "/ws/")
    hint = 'WEBSOCKET_URL = "/ws/"; it must begin and end with "/", with a name between.'
    wrong = () if is_websocket_url(url) else (Problem(id="wsredis.E003", text=f"WEBSOCKET_URL is {url!r}.", hint=hint),)
    return Row(checked="WEBSOCKET_URL", found=str(url), problems=wrong)


def _old_name(name: str) -> Problem:
    return Problem(id="wsredis.W001", text=f"{name} is a setting of ws4redis.", hint=_legacy_hint(name))


def _order() -> Row:
    names = [config.name for config in apps.get_app_configs()]
    if "django.contrib.staticfiles" not in names[: names.index("django_wsredis")]:
        return Row(checked="INSTALLED_APPS", found="in the right order")
    problem = Problem(
        id="wsredis.W002",
        text="django_wsredis is after django.contrib.staticfiles, so that app's runserver runs, without websockets.",
        hint='Name it first in INSTALLED_APPS = ["django_wsredis", …]',
    )
    return Row(checked="INSTALLED_APPS", found="staticfiles before django_wsredis", problems=(problem,))


def _import_problems(given: dict[str, Any]) -> Iterator[Problem]:
    for key in REFERENCES:
        reference = given.get(key)
        if reference is None or not RULES[key][0](reference):  # then E001 says it
            continue
        try:
            must_be = _must_be(key, resolve(reference))
        except Exception as error:  # whatever the project's module raises
            module, _, name = reference.rpartition(".")
            hint = (
                f"Correct the path; until then every websocket is refused. Try it: ./manage.py shell -c 'from {module} "
                f"import {name}' ({error})"
            )
            yield Problem(id="wsredis.E002", text=f"WSREDIS[{key!r}] cannot be imported: {reference!r}.", hint=hint)
        else:
            if must_be:
                hint = f"It must be {must_be}; until then every websocket is refused."
                yield Problem(id="wsredis.E004", text=f"WSREDIS[{key!r}] is {reference!r}.", hint=hint)


def _must_be(key: str, named: Any) -> str:
    """Return what the object must be that a setting names; "" if it is that."""
    if key == "SUBSCRIBER":
        is_right = isinstance(named, type) and all(hasattr(named, name) for name in SUBSCRIBER_METHODS)
        return "" if is_right else "a class that is derived from django_wsredis.handshake.Subscriber"
    arguments = ARGUMENTS[key]
    try:
        inspect.signature(named).bind(*arguments)
    except TypeError:  # it takes others; or it cannot be called
        return f"a function of ({', '.join(arguments)})"
    except ValueError:  # what is written in C may not tell
        pass
    return ""


def _legacy_hint(name: str) -> str:
    if name == "WS4REDIS_SUBSCRIBER":
        return "Derive the class from django_wsredis.handshake.Subscriber and name it in WSREDIS['SUBSCRIBER']."
    if name not in LEGACY_NAMES:
        return "It has no meaning here; remove it."
    key = LEGACY_NAMES[name]
    value = getattr(django_settings, name)
    if key == "URL" and isinstance(value, dict):
        shown = legacy_url({**value, "password": "PASSWORD" if value.get("password") else None})
        return f'It still works; rename it to WSREDIS[{key!r}], which is a URL: "{shown}"'
    return f"It still works; rename it to WSREDIS[{key!r}]."
