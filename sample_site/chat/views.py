from django.contrib.auth.decorators import login_required
from django.http import HttpResponse
from django.shortcuts import render

from django_wsredis import publish
from django_wsredis.exceptions import BrokerUnavailable

from .forms import DirectForm


def index(request):
    return render(request, "chat/index.html")


def chat(request):
    return render(request, "chat/chat.html")


@login_required
def user(request):
    if request.method == "POST":
        return send_to_user(request)
    return render(request, "chat/user.html", {"form": DirectForm()})


@login_required
def group(request):
    return render(request, "chat/group.html", {"groups": request.user.groups.order_by("name")})


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
