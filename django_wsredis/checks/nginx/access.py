"""Who may come in: addresses, passwords, how many at once; and whether the listener speaks HTTP/1.1 at all."""

from __future__ import annotations

from collections.abc import Iterator

from ..findings import Problem, Row, skipped
from .program import Program
from .reaching import Arrival
from .reading import Directive
from .routes import Route
from .variables import inherited, setting

TITLES = {
    "wsredis.E218": "A listener speaks HTTP/2 alone, in which NGiNX has no websockets.",
    "wsredis.E219": "Every address is denied.",
    "wsredis.W220": "A password is asked for, which not every browser sends with a websocket.",
    "wsredis.W221": "Every open websocket counts for limit_conn, which is low.",
}
# open websockets below which a limit is low: many people share one address, and each has some tabs
ENOUGH = 100
ENOUGH_FOR_ALL = 1000
OF_ALL = ("$server_name", "$server_addr", "$server_port", "$host", "$http_host")  # zones by which everybody is counted
HTTP_1_BESIDE_2 = (1, 25, 1)  # since then a listener without TLS sees which one is spoken


def look(arrival: Arrival, program: Program | None) -> Iterator[Row]:
    """Look at what keeps browsers out."""
    yield _listener(arrival, program)
    guards = [*_guards(arrival)]
    yield _permission(arrival.route, is_guarded=bool(guards))
    for guard in guards:
        yield skipped(guard.name, f"{guard.place}: `{guard.text}`: whom it lets in shows --live")
    yield _limit(arrival.route)
    for limit in inherited(arrival.route.chain, "limit_req"):
        if _only_counts(arrival.route, limit):
            yield Row(checked=limit.name, found=f"`{limit.text}` refuses nobody: limit_req_dry_run is on")
            continue
        why = f"{limit.place}: `{limit.text}`: whether it lets all browsers come back after a restart"
        yield skipped(limit.name, why)


def _guards(arrival: Arrival) -> Iterator[Directive]:
    """Return what decides by more than the configuration tells: an address that is asked, a browser's certificate."""
    value, guard = setting(arrival.route.chain, "auth_request", "off")
    if guard is not None and value != "off":
        yield guard
    value, guard = setting(arrival.route.chain, "ssl_verify_client", "off")
    if guard is not None and value == "on" and arrival.door.has_tls:
        yield guard


def _listener(arrival: Arrival, program: Program | None) -> Row:
    door = arrival.door
    place = door.address if door.port == 0 else f"{door.address}:{door.port}"
    found = f"{place}{', TLS' if door.has_tls else ''}{', HTTP/1.1 and HTTP/2' if 'http2' in door.options else ''}"
    is_old = program is not None and () < program.version < HTTP_1_BESIDE_2
    if "http2" not in door.options or door.has_tls or not is_old:
        return Row(checked="listener", found=found)
    listen = next(listen for listen in door.listens if "http2" in listen.args)
    line = " ".join(word for word in listen.text.split() if word != "http2")
    problem = Problem(
        id="wsredis.E218",
        text=f"`{listen.text}` speaks HTTP/2 alone, as there is no TLS to agree on another: no websocket can begin.",
        hint=f"In its place: {line};",
        place=listen.place,
    )
    return Row(checked="listener", found=f"{place}, HTTP/2 alone", problems=(problem,))


def _permission(route: Route, *, is_guarded: bool) -> Row:
    rules = inherited(route.chain, "allow", "deny")
    realm, asking = setting(route.chain, "auth_basic", "off")
    if not inherited(route.chain, "auth_basic_user_file"):  # then nobody is asked
        realm = "off"
    is_any = setting(route.chain, "satisfy", "all")[0] == "any"
    denying = _denies_all(rules)
    parts = [f"`{rule.text}`" for rule in rules] + ([f"`{asking.text}`"] if asking and realm != "off" else [])
    found = ", ".join(parts) or ("neither addresses nor passwords" if is_guarded else "for everybody")
    problems: tuple[Problem, ...] = ()
    if denying is not None and not (is_any and realm != "off"):
        text = f"`{denying.text}` stands before every `allow`: websockets get 403."
        hint = "Remove that line; or write before it who may come in: allow 192.0.2.0/24;"
        problems = (Problem(id="wsredis.E219", text=text, hint=hint, place=denying.place),)
    elif asking is not None and realm != "off" and (not is_any or not rules or denying is not None):
        problem = Problem(
            id="wsredis.W220",
            text=f"`{asking.text}`: no page can send the password with a websocket, and only some browsers do it by"
            " themselves; the others get 401.",
            hint=f"In `{route.location.text}` write: auth_basic off; the session says who it is.",
            place=asking.place,
        )
        problems = (problem,)
    return Row(checked="access", found=found, problems=problems)


def _denies_all(rules: list[Directive]) -> Directive | None:
    """Return the rule that denies every address; the first that fits an address counts."""
    for rule in rules:
        if rule.name == "allow":
            return None
        if rule.args == ("all",):
            return rule
    return None


def _only_counts(route: Route, limit: Directive) -> bool:
    """Tell whether a limit is only tried out."""
    return setting(route.chain, f"{limit.name}_dry_run", "off")[0] == "on"


def _limit(route: Route) -> Row:
    limits = [limit for limit in inherited(route.chain, "limit_conn") if len(limit.args) == 2]
    found = ", ".join(f"`{limit.text}`" for limit in limits) or "none"
    problems = tuple(
        _low(route, limit)
        for limit in limits
        if not _only_counts(route, limit) and limit.args[1].isdecimal() and int(limit.args[1]) < _enough(route, limit)
    )
    return Row(checked="limit_conn", found=found, problems=problems)


def _low(route: Route, limit: Directive) -> Problem:
    key = _key(route, limit)
    zone = f"limit_conn_zone {key or '$binary_remote_addr'} zone=websockets:10m;"
    return Problem(
        id="wsredis.W221",
        text=f"`{limit.text}`: more than {limit.args[1]} open websockets of one {key or 'key'} get 503, and pages"
        " beside them.",
        hint=f"Beside the server: {zone}\n"
        f"and in `{route.location.text}`: limit_conn websockets {_enough(route, limit)};",
        place=limit.place,
    )


def _enough(route: Route, limit: Directive) -> int:
    return ENOUGH_FOR_ALL if _key(route, limit) in OF_ALL else ENOUGH


def _key(route: Route, limit: Directive) -> str:
    """Return what the zone of a limit counts by, as `$binary_remote_addr`; "" where that is not known."""
    for made in route.chain[0].all("limit_conn_zone"):
        if f"zone={limit.args[0]}" in {arg.rpartition(":")[0] for arg in made.args}:
            return made.args[0]
    return ""
