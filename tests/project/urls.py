from django.urls import path

from . import views

urlpatterns = [
    path("", views.hello, name="hello"),
    path("whoami/", views.whoami),
    path("slow/<int:milliseconds>/", views.slow),
    path("stream/", views.stream),
    path("upload/", views.upload),
    path("publish/", views.publish_in_view),
    path("atomic/<str:end>/", views.publish_in_transaction),
    path("visit/", views.visit),
    path("login/<str:username>/", views.log_in),
    path("logout/", views.log_out),
    path("greenlets/", views.greenlets),
    path("hang/", views.hang),
    path("cursor/<path:facility>", views.cursor_page),
]
