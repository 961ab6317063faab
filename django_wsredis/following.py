"""Open sockets follow Django: what it tells of users, sessions and groups is told to the workers.

Every process that runs Django listens to its signals, as far as `WSREDIS["FOLLOW"]` says: views, the admin, a shell, a
task. The workers are told when the transaction is over, together of all that it changed. What keeps them from being
told is logged and not raised: nobody's logout fails because Redis is away, and the workers look from time to time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from django.apps import apps
from django.conf import settings as django_settings
from django.contrib.auth.signals import user_logged_in, user_logged_out
from django.core.exceptions import FieldDoesNotExist, ImproperlyConfigured
from django.core.signals import setting_changed
from django.db.models import Model
from django.db.models.signals import m2m_changed, post_delete, post_init, post_save, pre_delete
from django.dispatch import Signal

from . import sessions
from .conf import get_settings
from .news import chunks, tell

_FORMER = "_wsredis_password"  # of a user: the password as it was read or saved last

Listener: TypeAlias = "tuple[Signal, Callable[..., None], Any]"  # the last is the sender, None for any

_listeners: list[Listener] = []


def follow() -> None:
    """Listen to the signals that the settings name, of the models that are installed; and to no others."""
    while _listeners:
        signal, receiver, sender = _listeners.pop()
        signal.disconnect(receiver, sender=sender)
    try:
        names = get_settings().follow
    except ImproperlyConfigured:  # the checks say it
        return
    for signal, receiver, sender in _wanted(names):
        signal.connect(receiver, sender=sender)
        _listeners.append((signal, receiver, sender))


def _wanted(names: frozenset[str]) -> Iterator[Listener]:
    if "session" in names and (model := _session_model()) is not None:
        yield from ((post_delete, _on_session_deleted, kind) for kind in _kinds(model))
    if not apps.is_installed("django.contrib.auth"):
        return
    from django.contrib.auth import get_user_model

    user_model = get_user_model()
    if "logout" in names:
        yield user_logged_out, _on_logged_out, None
        yield user_logged_in, _on_logged_in, None
    for kind in _kinds(user_model):
        if "password" in names:
            yield post_init, _on_user_read, kind
            yield post_save, _on_password_saved, kind
        if "inactive" in names:
            yield post_save, _on_inactive_saved, kind
        if "deleted" in names:
            yield post_delete, _on_user_deleted, kind
    if "groups" in names and (groups := _groups_field(user_model)) is not None:
        yield m2m_changed, _on_membership_changed, groups.remote_field.through
        yield from ((pre_delete, _on_group_deleted, kind) for kind in _kinds(groups.related_model))


def _session_model() -> Any:
    try:
        return sessions.model() if sessions.are_there() else None
    except (ImportError, AttributeError):  # SESSION_ENGINE is wrong: the checks say it
        return None


def _kinds(model: type[Model]) -> list[type[Model]]:
    """Return a model with its proxies and children, whose signals are sent in their own name."""
    return [kind for kind in apps.get_models() if issubclass(kind, model)]


def _groups_field(user_model: type[Model]) -> Any:
    try:
        field = user_model._meta.get_field("groups")
    except FieldDoesNotExist:
        return None
    return field if field.many_to_many else None


def _on_logged_out(request: Any, user: Any, **_: Any) -> None:
    if key := _session_key(request):
        tell("end", sessions=[key], reason="logged out")
        if user is not None and sessions.are_in_cookies():
            # it may be the session of more sockets, from before its cookie changed: their browsers are to show theirs
            tell("end", users=[user.get_username()])


def _on_logged_in(request: Any, **_: Any) -> None:
    """A login gives a session another key, and ends that of another user."""
    former = getattr(request, "COOKIES", {}).get(django_settings.SESSION_COOKIE_NAME)
    if former and hasattr(request, "session") and former != _session_key(request):
        tell("end", sessions=[former], reason="somebody else logged in")


def _session_key(request: Any) -> str | None:
    return getattr(getattr(request, "session", None), "session_key", None)


def _on_session_deleted(instance: Any, **_: Any) -> None:
    tell("end", sessions=[instance.session_key], reason="the session was deleted")


def _on_user_read(instance: Any, **_: Any) -> None:
    """Remember the password: to ask the database for it at each save would be a query that nobody expects."""
    instance.__dict__[_FORMER] = instance.__dict__.get("password")


def _on_password_saved(instance: Any, created: bool, raw: bool, update_fields: Any, **_: Any) -> None:
    """What set_password() leaves there, Django removes where it stores the same password in a newer way.

    Without it the password may be another one all the same: each session knows the one that it began with.
    """
    former = instance.__dict__.get(_FORMER)
    if update_fields is None or "password" in update_fields:
        _on_user_read(instance)
    if not _has_changed("password", created, raw, update_fields):
        return
    if getattr(instance, "_password", None) is not None:
        tell("close", users=[instance.get_username()], reason="the password was changed")
    elif instance.password != former:
        tell("recheck", users=[instance.get_username()])


def _on_inactive_saved(instance: Any, created: bool, raw: bool, update_fields: Any, **_: Any) -> None:
    if not getattr(instance, "is_active", True) and _has_changed("is_active", created, raw, update_fields):
        tell("close", users=[instance.get_username()], reason="the user is not active")


def _on_user_deleted(instance: Any, **_: Any) -> None:
    tell("close", users=[instance.get_username()], reason="the user was deleted")


def _on_membership_changed(
    instance: Any, action: str, reverse: bool, pk_set: set[Any] | None, using: str, **_: Any
) -> None:
    is_cleared = action == "pre_clear"  # when it is still known who was there; this is in a transaction
    if not is_cleared and not (action in ("post_add", "post_remove") and pk_set):
        return
    if not reverse:
        tell("regroup", users=[instance.get_username()])
    elif is_cleared:
        tell("regroup", users=_members(instance, using))
    else:
        tell("regroup", users=[name for keys in chunks(pk_set or ()) for name in _usernames(using, pk__in=keys)])


def _on_group_deleted(instance: Any, using: str, **_: Any) -> None:
    tell("regroup", users=_members(instance, using))


def _has_changed(field: str, created: bool, raw: bool, update_fields: Any) -> bool:
    """Tell whether what was saved may have changed a field of something that sockets know already."""
    return not created and not raw and (update_fields is None or field in update_fields)


def _members(group: Model, using: str) -> list[Any]:
    return _usernames(using, groups=group)


def _usernames(using: str, **conditions: Any) -> list[Any]:
    from django.contrib.auth import get_user_model

    model: Any = get_user_model()
    return list(model._base_manager.using(using).filter(**conditions).values_list(model.USERNAME_FIELD, flat=True))


def _follow_again(*, setting: str, **_: Any) -> None:
    if setting == "WSREDIS":
        follow()


setting_changed.connect(_follow_again, dispatch_uid="django_wsredis.following")
