"""What a test publishes, as its code said it: recorded when `publish()` is called, in whatever thread."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Any, Self
from unittest.mock import ANY, patch

from .. import publisher, redis
from ..commands import PUBLISH_SCRIPT, Command
from ..exceptions import BrokerUnavailable
from ..publisher import Publisher
from ..recipients import Names, Special
from .publications import Criteria, Publication, shown

__all__ = ["ANY", "Names", "Publication", "PublishRecorder", "Special"]


class PublishRecorder:
    """Records what is published between `start()` and `stop()`, or in a `with`.

    publishes_for_real: whether it also goes to Redis. Otherwise nobody receives it, and nothing can be read.

    What waits for a commit counts, as it goes out with that: the transaction of Django's TestCase, which never is
    committed, is none that the tested code knows of. What was rolled back, or was addressed to nobody, does not count.
    """

    def __init__(self, *, publishes_for_real: bool = False) -> None:
        self.all: list[Publication] = []  # also those that do not count
        self._publishes_for_real = publishes_for_real
        self._now = threading.local()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def __len__(self) -> int:
        return len(self.publications)

    @property
    def publications(self) -> list[Publication]:
        """What was published up to now, or will be with a commit."""
        return [publication for publication in self.all if publication.counts]

    def start(self) -> None:
        """Record from now on."""
        publish_message, after_commit = Publisher.publish_message, vars(publisher)["after_commit"]

        def recording(self_: Publisher, message: Any, **options: Any) -> Any:
            publication = Publication(self_, message, options)
            former, self._now.publication = getattr(self._now, "publication", None), publication
            self.all.append(publication)  # before a socket can hear it
            try:
                return publish_message(self_, message, **options)
            except BaseException:
                self.all.remove(publication)
                raise
            finally:
                self._now.publication = former

        def recording_after_commit(function: Callable[[], None]) -> None:
            publication: Publication = self._now.publication

            def send() -> None:
                publication.is_sent = True
                function()

            # Django keeps it as long as there may be a commit, and a rollback drops it
            publication.waiting = weakref.ref(send)
            publication.is_sent = False
            after_commit(send)

        self._stack.enter_context(patch.object(Publisher, "publish_message", recording))
        self._stack.enter_context(patch.object(publisher, "after_commit", recording_after_commit))
        if not self._publishes_for_real:
            self._stack.enter_context(patch.object(redis, "execute", _to_nobody))

    def stop(self) -> None:
        """Record no more, and publish for real again."""
        self._stack.close()

    def clear(self) -> None:
        """Forget what was recorded."""
        self.all.clear()

    def assert_published(
        self,
        message: Any = ANY,
        *,
        facility: str | Special | None = None,
        broadcast: bool | None = None,
        groups: Names | None = None,
        users: Names | None = None,
        sessions: Names | None = None,
        count: int | None = None,
    ) -> list[Publication]:
        """Return the publications that fit everything that is given; AssertionError if there is none.

        message: as it was given to `publish()`, or equal as JSON; `unittest.mock.ANY` fits in it, too.
        groups, users, sessions: exactly these, as `publish()` takes them; `[]` is none.
        broadcast: whether to everybody. count: exactly so many must fit.
        """
        criteria = Criteria(
            message=message, facility=facility, broadcast=broadcast, groups=groups, users=users, sessions=sessions
        )
        fitting = [publication for publication in self.publications if not criteria.misfits(publication)]
        if len(fitting) == count or (count is None and fitting):
            return fitting
        wanted = f"published that fits {criteria}" if str(criteria) else "published"
        problem = f"{len(fitting)} were {wanted}, and not {count}." if fitting else f"No message was {wanted}."
        raise AssertionError(f"{problem}\n{shown(self.all, criteria)}")

    def assert_nothing_published(self) -> None:
        """Raise AssertionError if anything was published, or will be with a commit."""
        if self.publications:
            raise AssertionError(f"Something was published.\n{shown(self.all, Criteria())}")


def _to_nobody(commands: Sequence[Command]) -> list[Any]:
    """Do as a Redis to which no worker listens, for those who publish; a test that reads needs a real one."""
    for word, *rest in commands:
        if word not in ("PUBLISH", "SPUBLISH") and (word, rest[0]) != ("EVAL", PUBLISH_SCRIPT):
            raise BrokerUnavailable(
                "This test only records what is published. To read from Redis, or ask workers, "
                "use WebSocketLiveServerTestCase, or the pytest fixture wsredis_broker."
            )
    return [0] * len(commands)
