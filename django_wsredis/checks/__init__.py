"""What `manage.py check` says of the settings. Ids are stable."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Warning
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.wsgi import WSGIHandler
from django.utils.module_loading import import_string

from ..conf import LEGACY_NAMES, given_settings, resolve
from ..rules import RULES, problems

ARGUMENTS = {"ALLOWED_CHANNELS": ("request", "channels"), "PROCESS_REQUEST": ("request",)}
SUBSCRIBER_METHODS = ("subscribe_channels", "publish_channels")


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """Check the settings.

    E001 wrong key or value, E002 a path that cannot be imported, E003 WEBSOCKET_URL, E004 a function that cannot be
    called as it will be, or a class that is none; W001 old name, W002 order.
    """
    try:
        given = given_settings()
    except ImproperlyConfigured as error:
        return [Error(str(error), hint="It must be a dict.", id="wsredis.E001")]
    found: list[CheckMessage] = [Error(problem, hint=hint, id="wsredis.E001") for problem, hint in problems(given)]
    found += _check_imports(given)
    url = getattr(django_settings, "WEBSOCKET_URL", "/ws/")
    if not (isinstance(url, str) and url.startswith("/") and url.endswith("/") and url.strip("/")):
        hint = 'It must begin and end with "/", with a name between: "/ws/". No page is below it.'
        found.append(Error(f"WEBSOCKET_URL is {url!r}.", hint=hint, id="wsredis.E003"))
    for name in dir(django_settings):
        if name.startswith("WS4REDIS_"):
            found.append(Warning(f"{name} is a setting of ws4redis.", hint=_legacy_hint(name), id="wsredis.W001"))
    return found + _check_order()


def check_application(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """W003: uWSGI and gunicorn would answer websockets with Django's 404. For `check --deploy`."""
    dotted = django_settings.WSGI_APPLICATION
    try:
        application = dotted and import_string(dotted)
    except ImportError:  # Django's own commands say that well
        return []
    if not isinstance(application, WSGIHandler):  # ours, or one that wraps another
        return []
    return [
        Warning(
            f"{dotted} is Django's own application: under uWSGI and gunicorn every websocket gets 404.",
            hint="In wsgi.py, import get_wsgi_application from django_wsredis.wsgi. (runwsserver needs no change.)",
            id="wsredis.W003",
        )
    ]


def _check_order() -> list[CheckMessage]:
    names = [config.name for config in apps.get_app_configs()]
    if "django.contrib.staticfiles" not in names[: names.index("django_wsredis")]:
        return []
    return [
        Warning(
            "django_wsredis stands after django.contrib.staticfiles, so that app's runserver runs, without websockets.",
            hint="Name django_wsredis first in INSTALLED_APPS.",
            id="wsredis.W002",
        )
    ]


def _check_imports(given: dict[str, Any]) -> list[CheckMessage]:
    found: list[CheckMessage] = []
    for key in ("ALLOWED_CHANNELS", "PROCESS_REQUEST", "SUBSCRIBER"):
        reference = given.get(key)
        if reference is None or not RULES[key][0](reference):  # then E001 says it
            continue
        try:
            must_be = _must_be(key, resolve(reference))
        except Exception as error:  # whatever the project's module raises
            hint = f"Correct the path; until then every websocket is refused. ({error})"
            found.append(Error(f"WSREDIS[{key!r}] cannot be imported: {reference!r}.", hint=hint, id="wsredis.E002"))
        else:
            if must_be:
                hint = f"It must be {must_be}; until then every websocket is refused."
                found.append(Error(f"WSREDIS[{key!r}] is {reference!r}.", hint=hint, id="wsredis.E004"))
    return found


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
    return f"It still works; rename it to WSREDIS[{LEGACY_NAMES[name]!r}]."
