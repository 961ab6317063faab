"""--user: a session for the user, by the project's own SESSION_ENGINE, which ends with the check."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from django.apps import apps
from django.conf import settings as django_settings

from ... import sessions
from ..findings import Problem, Row
from .way import Broken, Way, seen

SESSION_SECONDS = 300  # if nobody can delete it, as the machine goes down


def begin(way: Way) -> Row:
    """Make the session; nothing of the user changes, not even the time of the last login."""
    name = way.situation.user
    if not (apps.is_installed("django.contrib.auth") and sessions.are_there()):
        hint = f"Leave out --user; a token goes in the URL: --live '{way.shown}?token=…'"
        raise _broken(name, "the project has no users, or no sessions", hint)
    try:
        user = _find(name)
        if user is None:
            hint = "Write --user with the name with which somebody logs in, as these do:\n" + _shell(
                "print([u.get_username() for u in User.objects.all()[:9]])"
            )
            raise _broken(name, "there is no such user", hint)
        backend = _backend_of(user)
        if backend is None:
            hint = (
                "Is the user active? One of AUTHENTICATION_BACKENDS must return the user from get_user().\n"
                + _shell(f"print(User.objects.get_by_natural_key({name!r}).is_active)")
            )
            raise _broken(name, "no backend lets the user in", hint)
        key = _save(way, user, backend)
    except Broken:
        raise
    except Exception as error:  # of the database, or of whatever keeps sessions; its text may hold the key
        hint = (
            "What keeps users and sessions must run, and have its tables: ./manage.py migrate\n"
            f"For sessions it is that of SESSION_ENGINE = {django_settings.SESSION_ENGINE!r}"
        )
        raise _broken(name, f"it failed: {type(error).__name__}", hint) from error
    way.user, way.cookie = user.get_username(), f"{django_settings.SESSION_COOKIE_NAME}={key}"
    kept = "in its cookie" if sessions.are_in_cookies() else "deleted at the end"
    return seen(f"of {name}, by {django_settings.SESSION_ENGINE}, {kept}")


def _broken(name: str, reason: str, hint: str) -> Broken:
    problem = Problem(id="wsredis.E611", text=f"Session: none can be made for {name!r}: {reason}.", hint=hint)
    return Broken(seen(reason, problem))


def _shell(code: str) -> str:
    return f'./manage.py shell -c "from django.contrib.auth import get_user_model; User = get_user_model(); {code}"'


def _find(name: str) -> Any:
    from django.contrib.auth import get_user_model  # has models: only if they are installed

    model: Any = get_user_model()
    try:
        return model._default_manager.get_by_natural_key(name)
    except model.DoesNotExist:
        return None


def _backend_of(user: Any) -> str | None:
    """Return the first backend that knows the user, as each request will ask it."""
    from django.contrib.auth import load_backend

    paths = django_settings.AUTHENTICATION_BACKENDS
    return next((path for path in paths if load_backend(path).get_user(user.pk) is not None), None)


def _save(way: Way, user: Any, backend: str) -> str:
    """Return the value of the session's cookie."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    session = sessions.store()()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = backend
    if hasattr(user, "get_session_auth_hash"):
        session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.set_expiry(SESSION_SECONDS + int(way.situation.idle))
    way.stack.callback(_end, session)  # before it is saved: an interruption may come right after
    session.save()
    return str(session.session_key)


def _end(session: Any) -> None:
    with suppress(Exception):  # whatever keeps sessions is away; it forgets this one soon
        session.delete()
