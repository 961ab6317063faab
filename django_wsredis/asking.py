"""Asking the workers, and hearing their answers. Synchronous; knows no gevent."""

from __future__ import annotations

import json
import time
from collections.abc import Set
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

from . import control, redis
from .channels import everywhere_name
from .commands import Command, publish_command
from .conf import get_settings
from .control import Announcement, Request
from .messages import Message

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ANSWER_SECONDS = 1.0  # that are waited for workers; one that is dead is not waited for
STRAY_SECONDS = 0.05  # that are waited for others that heard a request, after all workers that are known have answered


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What workers answered; `workers` are those that live, `silent` the ids of those that did not answer in time.

    unannounced: the ids of those that answered and of which Redis has no announcement.
    announced, listening: how many workers live, also those that are not meant, and how many heard the request.
    """

    answers: list[dict[str, Any]]
    workers: list[Announcement]
    silent: list[str]
    unannounced: list[str]
    announced: int
    listening: int
    seconds: float


def ask(request: Request, *, seconds: float = ANSWER_SECONDS) -> Asked:
    """Ask all workers that share this Redis and PREFIX; wait for the answers of those that heard it, for so long.

    Raises BrokerUnavailable.
    """
    began_at = time.monotonic()
    prefix = get_settings().prefix
    reply = control.reply_name(prefix)
    request = replace(request, reply=reply.decode())
    announced, heard_by = redis.execute([control.workers_command(prefix), _command(prefix, request)])
    known = control.read_workers(announced)
    answers = collect(reply, heard_by, until=began_at + seconds, known={worker.id for worker in known})
    heard_by -= sum(not answer.get("is_worker", True) for answer in answers)  # those of wsinspect --tail
    answered = {answer["worker"] for answer in answers}
    workers = [worker for worker in known if worker.id.startswith(request.which.worker)]
    answers = [answer for answer in answers if not answer.get("is_other")]
    return Asked(
        answers=answers,
        workers=workers,
        silent=[worker.id for worker in workers if worker.id not in answered],
        unannounced=sorted({answer["worker"] for answer in answers} - {worker.id for worker in workers}),
        announced=len(known),
        listening=heard_by,
        seconds=time.monotonic() - began_at,
    )


def tell(request: Request) -> None:
    """Tell all workers something that needs no answer. Raises BrokerUnavailable."""
    redis.execute([_command(get_settings().prefix, request)])


def _command(prefix: str, request: Request) -> Command:
    message = Message(request.encode(), True, is_request=True)
    return publish_command(everywhere_name(prefix), message, None, is_sharded=redis.is_cluster())


def collect(reply: bytes, expected: int, *, until: float, known: Set[str] = frozenset()) -> list[dict[str, Any]]:
    """Return what is pushed to a list of answers: so many, or what is there at a time of the monotonic clock.

    known: who is sure to answer. After them others are hardly waited for: they may be no workers, and never answer.
    """
    answers: list[dict[str, Any]] = []
    missing = set(known)
    while len(answers) < expected and (left := until - time.monotonic()) > 0:
        (popped,) = redis.execute([("BLPOP", reply, f"{max(left, 0.01):.3f}")])
        if popped is None:
            break
        answers.append(json.loads(popped[1]))
        missing.discard(answers[-1]["worker"])
        if known and not missing:
            until = min(until, time.monotonic() + STRAY_SECONDS)
    return answers


def known(kind: type[DataclassInstance], answer: dict[str, Any]) -> dict[str, Any]:
    """Return what of an answer a dataclass has fields for: a worker of a newer version tells more."""
    return {field.name: answer[field.name] for field in fields(kind) if field.name in answer}
