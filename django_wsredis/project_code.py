"""The project's own code, which decides on handshakes: what of it fails refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied

from .conf import resolve
from .exceptions import HandshakeError, NotAuthorized

logger = logging.getLogger("django_wsredis.handshake")


def import_setting(setting: str, reference: Any) -> Any:
    """Return what a setting of WSREDIS names. Raises NotAuthorized."""
    try:
        return resolve(reference)
    except Exception as error:
        logger.exception("WSREDIS[%r] cannot be imported, so everything is refused.", setting)
        raise NotAuthorized(f"WSREDIS[{setting!r}] cannot be imported") from error


def call(setting: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call what a setting names. A permission that it cannot decide is refused: raises NotAuthorized."""
    try:
        return function(*arguments)
    except PermissionDenied as error:
        raise NotAuthorized(f"WSREDIS[{setting!r}] denied it: {str(error) or 'it gave no reason'}") from error
    except HandshakeError:
        raise
    except Exception as error:
        logger.exception("WSREDIS[%r] failed, so the handshake is refused.", setting)
        raise NotAuthorized(f"WSREDIS[{setting!r}] failed") from error
