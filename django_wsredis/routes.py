"""`WEBSOCKET_URLCONF`: which paths below `WEBSOCKET_URL` are views, and the absolute URLs of these."""

from __future__ import annotations

import logging
from functools import cache
from types import ModuleType
from typing import Any

from django.conf import settings as django_settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.http import HttpRequest
from django.urls import Resolver404, ResolverMatch, get_resolver, include, path, reverse
from django.urls.resolvers import URLResolver

from .conf import get_settings
from .exceptions import Misconfigured

logger = logging.getLogger("django_wsredis.handshake")


def find(path_info: str) -> ResolverMatch | None:
    """Return the view of a path, as `request.path_info` has it; None for a facility.

    Raises Misconfigured if the URLconf cannot be used.
    """
    if get_settings().websocket_urlconf is None:
        return None
    try:
        return get_resolver(views_alone()).resolve(path_info)  # type: ignore[arg-type]  # it takes modules, too
    except Resolver404:
        return None
    except Exception as error:
        logger.exception("WEBSOCKET_URLCONF cannot be used, so every websocket is refused.")
        raise Misconfigured("WEBSOCKET_URLCONF cannot be used") from error


def is_view(path_info: str) -> bool:
    """Tell whether a path is a view's, or would be with a slash at its end. Raises as `find()` does."""
    return find(path_info) is not None or (not path_info.endswith("/") and find(f"{path_info}/") is not None)


def websocket_url(request: HttpRequest, name: str, /, *args: Any, **kwargs: Any) -> str:
    """Return the absolute URL of a view: `wss://example.com/ws/rooms/lobby/`.

    The scheme is the request's, the host too unless `WEBSOCKET_HOST` is set. name, args, kwargs: as of `reverse()`,
    in `WEBSOCKET_URLCONF`.

    Raises NoReverseMatch, and ImproperlyConfigured without `WEBSOCKET_URLCONF`.
    """
    settings = get_settings()
    if settings.websocket_urlconf is None:
        raise ImproperlyConfigured(f"{name!r} is the name of no websocket view: WEBSOCKET_URLCONF is not set.")
    scheme = "wss" if request.is_secure() else "ws"
    host = settings.websocket_host or request.get_host()
    return f"{scheme}://{host}{reverse(name, urlconf=views_alone(), args=args, kwargs=kwargs)}"  # type: ignore[arg-type]


@cache
def views_alone() -> ModuleType:
    """Return a URLconf of the views, below `WEBSOCKET_URL`."""
    return _urlconf([_views()])


@cache
def views_and_pages() -> ModuleType:
    """Return a URLconf of the project's pages, and of the views: what both name is the view's."""
    pages = getattr(django_settings, "ROOT_URLCONF", None)
    patterns = get_resolver(pages).url_patterns if pages else []
    return _urlconf([*patterns, _views()])  # reverse() takes the last one of a name


def _views() -> URLResolver:
    settings = get_settings()
    found: URLResolver = path(settings.websocket_url.removeprefix("/"), include(settings.websocket_urlconf))
    return found


def _urlconf(patterns: list[Any]) -> ModuleType:
    urlconf: Any = ModuleType("django_wsredis.urlconf")
    urlconf.urlpatterns = patterns
    return urlconf  # type: ignore[no-any-return]


def _forget(*, setting: str, **_: Any) -> None:
    if setting in ("WEBSOCKET_URL", "WEBSOCKET_URLCONF", "ROOT_URLCONF"):
        views_alone.cache_clear()
        views_and_pages.cache_clear()


setting_changed.connect(_forget, dispatch_uid="django_wsredis.routes")
