from django.urls import path

from . import views

urlpatterns = [
    path("", views.index, name="index"),
    path("chat/", views.chat, name="chat"),
    path("chat/user/", views.user, name="chat-user"),
    path("chat/group/", views.group, name="chat-group"),
]
