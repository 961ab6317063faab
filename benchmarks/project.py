"""Settings of the server under test."""

import json
import os

SECRET_KEY = "benchmark"
ALLOWED_HOSTS = ["127.0.0.1"]
INSTALLED_APPS = ["django_wsredis", "django.contrib.auth", "django.contrib.contenttypes", "django.contrib.sessions"]
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
ROOT_URLCONF = "benchmarks.project"
WEBSOCKET_URLCONF = "benchmarks.sockets"
urlpatterns: list[object] = []
FOLDER = os.environ["BENCHMARK_FOLDER"]
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": f"{FOLDER}/db.sqlite3"}}
WSREDIS = {
    "URL": f"embedded://{FOLDER}/redis",
    "PING_INTERVAL": 600,  # so that no round of pings falls into a measurement
    **json.loads(os.environ["BENCHMARK_WSREDIS"]),
}
LOGGING = {"version": 1, "handlers": {"null": {"class": "logging.NullHandler"}}, "root": {"handlers": ["null"]}}


def everything(request: object, channels: list[str]) -> list[str]:
    """An ALLOWED_CHANNELS that grants all."""
    return channels
