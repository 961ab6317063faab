"""`./manage.py runserver`: Django's own development server, with websockets; unchanged in everything else."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from django.apps import apps
from django.core.exceptions import ImproperlyConfigured
from django.core.management import load_command_class
from django.core.management.base import CommandError
from django.utils import autoreload

from django_wsredis import embedded, loop, redis, redis_errors
from django_wsredis.conf import get_settings
from django_wsredis.exceptions import BrokerUnavailable
from django_wsredis.hosts.runserver import DetachingServer
from django_wsredis.log import log_to_stderr
from django_wsredis.wsgi import WebSocketApplication

logger = logging.getLogger("django_wsredis.redis")


def next_runserver() -> type:
    """Return the class of the command that would run without us: that of the next app, or Django's own.

    So staticfiles, or any other app that has its own runserver, keeps what it adds.
    """
    configs = list(apps.get_app_configs())
    ours = next(i for i, config in enumerate(configs) if config.name == "django_wsredis")
    for name in [config.name for config in configs[ours + 1 :]] + ["django.core"]:
        try:
            return type(load_command_class(name, "runserver"))
        except ModuleNotFoundError as error:
            if error.name not in (f"{name}.management", f"{name}.management.commands", _module(name)):
                raise
    raise AssertionError("django.core has a runserver")


def _module(name: str) -> str:
    return f"{name}.management.commands.runserver"


if TYPE_CHECKING:
    from django.core.management.commands.runserver import Command as NextCommand
else:
    NextCommand = next_runserver()


class Command(NextCommand):
    server_cls = DetachingServer

    def run(self, **options: Any) -> None:
        log_to_stderr()
        try:
            url = get_settings().url
        except ImproperlyConfigured as error:
            raise CommandError(str(error)) from error
        if threading.current_thread() is threading.main_thread():
            # as Django does with its reloader alone: so that sockets and the embedded server are told, too
            signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        try:
            # around the reloader, so that Redis and what it keeps outlive a reload
            with embedded.running(url):
                try:
                    super().run(**options)
                finally:
                    loop.stop()
        except BrokerUnavailable as error:
            raise CommandError(str(error)) from error

    def get_handler(self, *args: Any, **options: Any) -> Any:
        autoreload.file_changed.connect(loop.expect_restart, weak=False)
        return WebSocketApplication(super().get_handler(*args, **options))

    def on_bind(self, server_port: int) -> None:
        super().on_bind(server_port)
        settings = get_settings()
        self.stdout.write(f"Websockets below {settings.websocket_url}; Redis: {redis_errors.shown_url(settings.url)}")
        self.stdout.flush()
        try:  # the loop, which would notice it, starts with the first websocket
            redis.require_answer()
        except BrokerUnavailable as error:
            logger.warning("%s", error)
