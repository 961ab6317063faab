"""How large the cookies are that this site itself gives to a browser, which each handshake brings back."""

from __future__ import annotations

from importlib import import_module

from django.apps import apps
from django.conf import settings
from django.contrib.messages.storage.cookie import CookieStorage
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.middleware.csrf import CSRF_SECRET_LENGTH
from django.utils.module_loading import import_string

MOST_BYTES = 4096  # of a name with its value: browsers take no more (RFC 6265bis, 5.6)
SESSION_KEY_BYTES = 32


def largest() -> dict[str, int]:
    """Return each cookie's name, with the bytes that `name=value` has at most. Raises what the project's modules do."""
    found: dict[str, int] = {}
    if _has_middleware("SessionMiddleware"):
        name = settings.SESSION_COOKIE_NAME
        found[name] = MOST_BYTES + 1 if _is_session_in_cookie() else _pair(name, SESSION_KEY_BYTES)
    if _has_middleware("CsrfViewMiddleware") and not settings.CSRF_USE_SESSIONS:
        found[settings.CSRF_COOKIE_NAME] = _pair(settings.CSRF_COOKIE_NAME, CSRF_SECRET_LENGTH)
    if apps.is_installed("django.contrib.messages") and (most := _messages_bytes()):
        found[CookieStorage.cookie_name] = _pair(CookieStorage.cookie_name, most)
    if _has_middleware("LocaleMiddleware"):
        codes = [code for code, _ in settings.LANGUAGES]
        found[settings.LANGUAGE_COOKIE_NAME] = _pair(settings.LANGUAGE_COOKIE_NAME, max(map(len, codes), default=0))
    return found


def _pair(name: str, value_bytes: int) -> int:
    return len(f"{name}=") + value_bytes


def _has_middleware(name: str) -> bool:
    """Tell whether Django's middleware of this name is there, or one that is derived from it."""
    kinds = (getattr(import_string(path), "__mro__", ()) for path in settings.MIDDLEWARE)
    return any(kind.__name__ == name for each in kinds for kind in each)


def _is_session_in_cookie() -> bool:
    return issubclass(import_module(settings.SESSION_ENGINE).SessionStore, SignedCookies)


def _messages_bytes() -> int:
    """Return how much of messages that are not shown yet a cookie holds; 0 if they are kept elsewhere."""
    storage = import_string(settings.MESSAGE_STORAGE)
    kinds = getattr(storage, "storage_classes", (storage,))  # the default has two: cookies, then the session
    return max((kind.max_cookie_size for kind in kinds if issubclass(kind, CookieStorage)), default=0)
