from django.urls import path, re_path

from . import views

urlpatterns = [
    path("", views.index, name="index"),
    path("chat/", views.chat, name="chat"),
    path("chat/user/", views.user, name="chat-user"),
    path("chat/group/", views.group, name="chat-group"),
    path("echo/", views.echo, name="echo"),
    path("ping/", views.ping, name="ping"),
    re_path(r"^rooms/(?P<name>[\w-]{1,40})/$", views.room, name="room"),
]
