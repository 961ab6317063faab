"""A user model of a project's own, without groups; and a proxy of it."""

from django.contrib.auth.base_user import AbstractBaseUser
from django.db import models


class Person(AbstractBaseUser):
    email = models.CharField(max_length=100, unique=True)

    USERNAME_FIELD = "email"


class Friend(Person):
    class Meta:
        proxy = True
