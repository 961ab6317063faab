from datetime import timedelta

from django.db import models
from django.utils import timezone

GONE_AFTER = timedelta(seconds=150)  # a page says each minute that it is still there


class Guest(models.Model):
    """Somebody in a room: a row for each socket.

    All workers see the same rows. Those of a worker that was killed, which told nobody, are out of date by themselves.
    """

    room = models.CharField(max_length=40)
    name = models.CharField(max_length=30)
    color = models.CharField(max_length=10)
    seen_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["room", "seen_at"])]

    @classmethod
    def here(cls, room):
        return cls.objects.filter(room=room, seen_at__gt=timezone.now() - GONE_AFTER)

    @classmethod
    def gone(cls, room):
        return cls.objects.filter(room=room, seen_at__lte=timezone.now() - GONE_AFTER)

    def is_still_here(self, who):
        """Note that it is; False if it is somebody else now, or was taken for gone meanwhile."""
        return bool(Guest.objects.filter(pk=self.pk, **who).update(seen_at=timezone.now()))
