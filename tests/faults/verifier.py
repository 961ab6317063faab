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
    received: int  # by all clients together
    lost: int  # messages that Redis kept, that a client did not get, and that no gap tells of
    doubled: int
    swapped: int
    gaps: int  # that clients were told of
    needless: int  # gaps where nothing was lost in Redis
    excused: int  # messages that a client did not get, and was told so
    forgotten: int  # messages that Redis confirmed and lost, that a client did not get, and was not told
    seconds: float  # from the fault until nothing came late any more

    def __str__(self) -> str:
        forgotten = f"forgotten by Redis {self.forgotten:,}, " if self.forgotten else ""
        return (
            f"sent {self.sent:,} ({self.unknown:,} unknown), received {self.received:,}, lost {self.lost:,}, "
            f"doubled {self.doubled:,}, swapped {self.swapped:,}, gaps {self.gaps:,}, {forgotten}"
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
        self.is_whole = self.kept == self.taken  # Redis has all that it ever took


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
) -> Result:
    """Compare, by channel: what was sent, what Redis holds ({id: number}), and all that the clients wrote down."""
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
        received=sum(len(story.messages) for _, story in stories),
        lost=sum(story.lost for _, story in stories),
        doubled=sum(story.doubled for _, story in stories),
        swapped=sum(story.swapped for _, story in stories),
        gaps=sum(len(story.gaps) for _, story in stories),
        needless=sum(len(story.gaps) for truth, story in stories if truth.is_whole),
        excused=sum(story.excused for _, story in stories),
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
