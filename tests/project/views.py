"""Pages that show how the server treats Django's own code."""

import gc
import threading
import time

import greenlet
from django.contrib.auth import get_user_model, login, logout
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse, StreamingHttpResponse
from django.shortcuts import render

from django_wsredis import publish


def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


def whoami(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"user": request.user.get_username(), "thread": threading.current_thread().name})


def slow(request: HttpRequest, milliseconds: int) -> HttpResponse:
    time.sleep(milliseconds / 1000)
    return HttpResponse("slow")


def hang(request: HttpRequest) -> HttpResponse:
    publish("hanging", facility="news", broadcast=True)
    time.sleep(30)
    return HttpResponse("late")


def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(f"line {number}\n" for number in range(1000))


def upload(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(len(request.body)))


def publish_in_view(request: HttpRequest) -> HttpResponse:
    publish(request.GET["message"], facility=request.GET["facility"], broadcast=True)
    return HttpResponse("published")


def publish_in_transaction(request: HttpRequest, end: str) -> HttpResponse:
    try:
        with transaction.atomic():
            publish(request.GET["message"], facility=request.GET["facility"], broadcast=True)
            if end == "rollback":
                raise RuntimeError("rolled back")
    except RuntimeError:
        pass
    return HttpResponse(end)


def visit(request: HttpRequest) -> HttpResponse:
    """Give the visitor a session, if it has none, and save it anew."""
    request.session["visits"] = request.session.get("visits", 0) + 1
    return HttpResponse("welcome")


def log_in(request: HttpRequest, username: str) -> HttpResponse:
    user = get_user_model().objects.get(username=username)
    login(request, user, backend="django.contrib.auth.backends.ModelBackend")
    return HttpResponse("welcome")


def log_out(request: HttpRequest) -> HttpResponse:
    logout(request)
    return HttpResponse("goodbye")


def greenlets(request: HttpRequest) -> HttpResponse:
    gc.collect()
    return HttpResponse(str(sum(issubclass(type(thing), greenlet.greenlet) for thing in gc.get_objects())))


def cursor_page(request: HttpRequest, facility: str) -> HttpResponse:
    return render(request, "cursor.html", {"facility": facility})
