"""The app: `"django_wsredis"` in INSTALLED_APPS."""

from django.apps import AppConfig
from django.core import checks


class WSRedisConfig(AppConfig):
    name = "django_wsredis"
    verbose_name = "Websockets"

    def ready(self) -> None:
        from .checks import check_deployment, check_settings
        from .following import follow

        checks.register(check_settings)
        checks.register(check_deployment, deploy=True)
        follow()
