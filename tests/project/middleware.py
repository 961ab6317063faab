"""Middleware of the project's own."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse


def adds_something(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        request.added = "something"
        response = get_response(request)
        if "cookie" in request.GET:
            response.set_cookie("seen", "yes", httponly=True)
        return response

    return middleware
