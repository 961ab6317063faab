"""What was published, what Redis holds, and what each client saw: is anything lost, doubled or swapped? Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from .plan import Event, Sent, id_key

# A message that needed longer, from the moment when publish() returned, or until then, came late.
LATE_SECONDS = 0.25


class Result(NamedTuple):
    """What the verifier found; all but `seconds` are counts."""

    sent: int  # messages that Redis took
    unknown: int  # messages of which publish() could not say that
    per_second: float  # messages that publishers sent, but while Redis was away
    received: int  # by all clients together
    lost: int  # messages that Redis kept, that a client did not get, and that no gap tells of
    doubled: int
    swapped: int
    gaps: int  # that clients were told of
    untold: int  # how often a client was told of no gap in a channel
    needless: int  # gaps where nothing was lost in Redis
    excused: int  # messages that a client did not get, and was told so
    gone: int  # messages that Redis took, and has no more
    gone_seconds: float  # before the fault: since when what Redis confirmed is gone
    forgotten: int  # those of them that a client did not get, and was not told of, counted for each client
    seconds: float  # from the fault until nothing came late any more

    def __str__(self) -> str:
        gone = f"gone from Redis {self.gone:,}, forgotten {self.forgotten:,}, " if self.gone else ""
        return (
            f"sent {self.sent:,} ({self.per_second:.0f}/s, {self.unknown:,} unknown), received {self.received:,}, "
            f"lost {self.lost:,}, doubled {self.doubled:,}, swapped {self.swapped:,}, gaps {self.gaps:,}, {gone}"
            f"all whole again after {self.seconds:.1f} s"
        )


class Truth:
    """One channel's messages in their order: those that publishers know of, and those that Redis has or had."""

    def __init__(self, sent: Sequence[Sent], stored: Mapping[str, int], seen: Iterable[Event]) -> None:
        ids = {event.id: event.number for event in seen} | dict(stored)
        confirmed = {message.number for message in sent if message.confirmed_at is not None}
        self.numbers: list[int] = []
        nowhere = sorted(confirmed - set(ids.values()), reverse=True)  # lost in Redis before anybody got them
        for id in sorted(ids, key=id_key):
            while nowhere and nowhere[-1] < ids[id]:
                self.numbers.append(nowhere.pop())
            self.numbers.append(ids[id])
        self.numbers += reversed(nowhere)
        self.ids = {number: id for id, number in ids.items()}
        self.taken = confirmed | set(ids.values())
        self.kept = set(stored.values())
        self.unknown = len({message.number for message in sent} - self.taken)
        self.gone = self.taken - self.kept
        self.gone_times = [m.confirmed_at for m in sent if m.confirmed_at is not None and m.number in self.gone]


class Story:
    """What one client saw of one channel."""

    def __init__(self, events: Sequence[Event], truth: Truth) -> None:
        self.messages = [event for event in events if event.kind == "message"]
        self.gaps = [index for index, event in enumerate(events) if event.kind == "gap"]
        self.doubled = len(self.messages) - len({event.number for event in self.messages})
        self.swapped = self._count_swapped()
        self.lost = self.excused = self.forgotten = 0
        self._look_for_holes(events, truth)

    def _count_swapped(self) -> int:
        swapped, seen, newest = 0, set(), (0, 0)
        for event in self.messages:
            if event.number not in seen and id_key(event.id) < newest:
                swapped += 1
            seen.add(event.number)
            newest = max(newest, id_key(event.id))
        return swapped

    def _look_for_holes(self, events: Sequence[Event], truth: Truth) -> None:
        """Count what the client did not get from its first position on; a gap told at that place excuses it."""
        places = {event.number: index for index, event in reversed(list(enumerate(events))) if event.kind == "message"}
        expected = truth.numbers[first_expected(events, truth) :]
        before = -1  # the place of the last message that came
        holes: list[int] = []
        for number in [*expected, None]:
            if number is not None and number not in places:
                holes.append(number)
                continue
            after = len(events) if number is None else places[number]
            if any(before < gap < after for gap in self.gaps):
                self.excused += len(holes)
            else:
                self.lost += sum(number in truth.kept for number in holes)
                self.forgotten += sum(number not in truth.kept for number in holes)
            before, holes = after, []


def first_expected(events: Sequence[Event], truth: Truth) -> int:
    """Return the place of the first message that a client must get: the first it got, or what follows its first ack."""
    for event in events:
        if event.kind == "message":
            return truth.numbers.index(event.number)
        if event.kind == "ack" and event.id:
            later = (
                index
                for index, number in enumerate(truth.numbers)
                if number in truth.ids and id_key(truth.ids[number]) > id_key(event.id)
            )
            return next(later, len(truth.numbers))
    return 0


def verify(
    sent: Mapping[str, Sequence[Sent]],
    stored: Mapping[str, Mapping[str, int]],
    clients: Sequence[Sequence[Event]],
    began_at: float,
    back_at: float | None = None,
) -> Result:
    """Compare, by channel: what was sent, what Redis holds ({id: number}), and all that the clients wrote down.

    began_at, back_at: when the fault was, and when Redis was there again, if it was away.
    """
    seen: dict[str, list[Event]] = defaultdict(list)
    by_channel: dict[str, list[list[Event]]] = defaultdict(list)
    for events in clients:
        own: dict[str, list[Event]] = defaultdict(list)
        for event in events:
            if event.channel:
                own[event.channel].append(event)
        for channel, part in own.items():
            by_channel[channel].append(part)
            seen[channel] += [event for event in part if event.kind == "message"]
    truths = {channel: Truth(sent[channel], stored[channel], seen[channel]) for channel in sent}
    stories = [(truths[channel], Story(part, truths[channel])) for channel in sent for part in by_channel[channel]]
    return Result(
        sent=sum(len(truth.taken) for truth in truths.values()),
        unknown=sum(truth.unknown for truth in truths.values()),
        per_second=rate(sent, began_at, began_at if back_at is None else back_at),
        received=sum(len(story.messages) for _, story in stories),
        lost=sum(story.lost for _, story in stories),
        doubled=sum(story.doubled for _, story in stories),
        swapped=sum(story.swapped for _, story in stories),
        gaps=sum(len(story.gaps) for _, story in stories),
        untold=sum(not story.gaps for _, story in stories),
        needless=sum(len(story.gaps) for truth, story in stories if not truth.gone),
        excused=sum(story.excused for _, story in stories),
        gone=sum(len(truth.gone) for truth in truths.values()),
        gone_seconds=max((began_at - at for truth in truths.values() for at in truth.gone_times), default=0.0),
        forgotten=sum(story.forgotten for _, story in stories),
        seconds=whole_after(sent, seen, began_at),
    )


def whole_after(sent: Mapping[str, Sequence[Sent]], seen: Mapping[str, Sequence[Event]], began_at: float) -> float:
    """Return the seconds from the fault until the last message that was late, in being published or on its way."""
    late = [began_at]
    for channel, messages in sent.items():
        confirmed = {message.number: message.confirmed_at for message in messages if message.confirmed_at is not None}
        late += [m.confirmed_at for m in messages if m.confirmed_at is not None and m.seconds > LATE_SECONDS]
        late += [
            event.at
            for event in seen[channel]
            if event.number in confirmed and event.at - confirmed[event.number] > LATE_SECONDS
        ]
    return max(late) - began_at


def rate(sent: Mapping[str, Sequence[Sent]], away_from: float, away_until: float) -> float:
    """Return how many messages publishers sent in a second, without the time for which Redis was away."""
    messages = [message for part in sent.values() for message in part]
    confirmed = [(m.confirmed_at, m.seconds) for m in messages if m.confirmed_at is not None]
    first = min((at - seconds for at, seconds in confirmed), default=away_from)
    last = max((at for at, _ in confirmed), default=away_until)
    seconds = max(0, away_from - first) + max(0, last - away_until)
    count = sum(not away_from <= at <= away_until for at, _ in confirmed)
    return count / seconds if seconds else 0.0
