"""The other end of the sockets of /echo/, /ping/ and /rooms/; sample_site/sockets.py gives them their URLs."""

from django.utils import timezone

from django_wsredis import publish
from django_wsredis.views import WebSocketView, websocket, websocket_loop

from .forms import RoomForm
from .models import Guest

SHOWN_MESSAGES = 50


@websocket
def echo(request, websocket):
    """Send back what comes. It is called once for each socket, and may wait for as long as that lives."""
    for message in websocket:
        websocket.send(message)


@websocket_loop
def ping(request, websocket):
    """Answer ping with pong, and pong with ping. It is called once for each message."""
    message = websocket.receive()
    if message == "ping":
        websocket.send("pong")
    elif message == "pong":
        websocket.send("ping")


class Room(WebSocketView):
    """A room: what one writes, all who are in it see. Called when something happens; a socket at rest has no thread."""

    form_class = RoomForm
    max_message_bytes = 10_000
    messages_per_second = 5
    burst = 20

    def on_open(self):
        self.room = self.kwargs["name"]
        self.guest = None  # until the page says who it is
        # What was said before comes first. on_published() sends each message to the page, as it is.
        self.websocket.subscribe(facility=self.facility, broadcast=True, history=SHOWN_MESSAGES)

    def form_valid(self, form):
        who = {"name": form.cleaned_data["name"], "color": form.cleaned_data["color"]}
        text = form.cleaned_data["text"]
        if self.guest is None or not self.guest.is_still_here(who):
            self.enter(who)
        for guest in Guest.gone(self.room):
            self.leave(guest)
        if text:
            self.say(text=text, **who)
            self.send_errors({})  # none: the page empties its field

    def on_close(self, code):
        if self.guest:
            self.leave(self.guest)

    @property
    def facility(self):
        return f"rooms/{self.room}"

    def say(self, **message):
        """Tell all, also those who come later."""
        message["time"] = timezone.now()
        publish(message, facility=self.facility, broadcast=True)

    def enter(self, who):
        """Be in the room, as who has come or under a new name."""
        if self.guest:
            self.leave(self.guest)
        is_new = not Guest.here(self.room).filter(name=who["name"]).exists()  # and no second window, say
        self.guest = Guest.objects.create(room=self.room, **who)
        if is_new:
            self.say(event="came", **who)
        self.tell_who_is_here()

    def leave(self, guest):
        is_first, _ = Guest.objects.filter(pk=guest.pk).delete()  # another socket may have found it gone, too
        if not is_first:
            return
        if not Guest.here(self.room).filter(name=guest.name).exists():
            self.say(event="left", name=guest.name, color=guest.color)
        self.tell_who_is_here()

    def tell_who_is_here(self):
        """Tell all who are here now: again until it is still so, as other workers tell it at the same time."""
        here = Guest.here(self.room).values("name", "color").distinct().order_by("name", "color")
        told = None
        while (guests := list(here.all())) != told:
            publish({"guests": guests}, facility=self.facility, broadcast=True, expire=0)  # of this moment only
            told = guests
