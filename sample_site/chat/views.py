from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render

from django_wsredis import BrokerUnavailable, cursor, history, publish

from .forms import COLORS, DirectForm

SHOWN_MESSAGES = 50


def index(request):
    return render(request, "chat/index.html")


def chat(request):
    """Show the last messages; the socket goes on exactly where they end."""
    messages, since = [], ""
    try:
        start = cursor(request, "chat")  # first, so that nothing can fall between the two
        page = history(facility="chat", broadcast=True, limit=SHOWN_MESSAGES)
        messages, since = page.messages, page.cursor or start
    except BrokerUnavailable:
        pass  # the page works all the same, and its socket connects when Redis is back
    return render(request, "chat/chat.html", {"messages": messages, "since": since})


@login_required
def user(request):
    if request.method == "POST":
        return send_to_user(request)
    return render(request, "chat/user.html", {"form": DirectForm()})


@login_required
def group(request):
    return render(request, "chat/group.html", {"groups": request.user.groups.order_by("name")})


def echo(request):
    return render(request, "chat/echo.html")


def ping(request):
    return render(request, "chat/ping.html")


def room(request, name):
    return render(request, "chat/room.html", {"name": name, "colors": COLORS})


def send_to_user(request):
    """Publish from an ordinary view; the page posts to it with fetch()."""
    form = DirectForm(request.POST)
    if not form.is_valid():
        return HttpResponse("Please choose a recipient and write a message.", status=400, content_type="text/plain")
    recipient = form.cleaned_data["recipient"]
    message = f"{request.user.username}: {form.cleaned_data['text']}"
    try:
        publish(message, facility="direct", users=[recipient.username])
    except BrokerUnavailable:
        return HttpResponse("Redis is away; please try again.", status=503, content_type="text/plain")
    return HttpResponse(f"Sent to {recipient.username}.", content_type="text/plain")
