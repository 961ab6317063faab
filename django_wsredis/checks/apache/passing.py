"""The rule by which Apache passes websockets on."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ..findings import Problem, Row, skipped
from ..kernel import ports_row
from ..own_hosts import need_the_host
from .access import access
from .reading import Directive
from .routing import Rule, rules, shown
from .site import Site

MIN_VERSION = (2, 4, 47)  # upgrade= of mod_proxy_http
DEFAULT_TIMEOUT_SECONDS = 60
DEFAULT_RETRY_SECONDS = 60
UNITS = {"": 1.0, "s": 1.0, "ms": 0.001, "min": 60.0, "h": 3600.0}


def rows(site: Site, host: Directive) -> Iterator[Row]:
    """Look at the rule that takes websockets."""
    before: list[Rule] = []  # which may take them
    rule: Rule | None = None
    after: list[Rule] = []
    for each in rules(site.configuration.top, host, site.path):
        if rule is not None:
            after.append(each)
        elif each.is_certain:
            rule = each
        else:
            before.append(each)
            yield skipped("rule", f"{each.directive.place}: {each.text}: on what it depends is not known here")
    if before and (rule is None or (not _upgrades(site, rule) and any(_upgrades(site, each) for each in before))):
        return
    if rule is not None and rule.is_redirect:
        yield Row(checked="rule", found=f"{rule.text}: browsers are sent elsewhere")
        return
    if rule is None or not rule.target:
        yield _nowhere(site, host, rule)
        return
    yield _rule(site, rule, next((each for each in after if _upgrades(site, each)), None))
    yield access(site, host, rule)
    yield _prefix(site, rule)
    yield _preserve_host(site, host)
    yield _timeout(site, host, rule)
    if rule.directive.name != "rewriterule" and rule.scheme != "balancer":  # which have none, or have it elsewhere
        yield _retry(rule)
    yield ports_row(_tcp_addresses(site, rule), site.settings.max_sockets, rule.directive.place)


def _tcp_addresses(site: Site, rule: Rule) -> set[str]:
    """Return where a rule, or its balancer, connects to by TCP."""
    urls = [rule.target] if rule.scheme != "balancer" else [
        word for member in _members(site, rule) for word in member if "://" in word
    ]  # fmt: skip
    hosts = (url.partition("://")[2].partition("/")[0] for url in urls if not url.startswith("unix:"))
    return {host.rpartition("@")[2] for host in hosts}


def _nowhere(site: Site, host: Directive, rule: Rule | None) -> Row:
    url = site.settings.websocket_url
    text = f"{rule.text} keeps {url} from being proxied." if rule else f"No ProxyPass takes {url}: websockets get 404."
    hint = f'ProxyPass "{url}" "http://127.0.0.1:8000{url}" upgrade=websocket'
    if rule and rule.directive.name == "rewriterule":
        hint = f"Write before it: RewriteCond %{{REQUEST_URI}} !^{url}"
    problem = Problem(
        id="wsredis.E454",
        text=text,
        hint=hint,
        place=rule.directive.place if rule else host.place,
    )
    return Row(checked="rule", found=rule.text if rule else "none", problems=(problem,))


def _upgrades(site: Site, rule: Rule) -> bool:
    """Tell whether what a rule passes on may become a websocket."""
    if rule.scheme in ("ws", "wss") or rule.parameters.get("upgrade", "").lower() in ("websocket", "any", "*"):
        return True
    return any(word.startswith(("ws://", "wss://", "upgrade=")) for member in _members(site, rule) for word in member)


def _members(site: Site, rule: Rule) -> list[list[str]]:
    """Return the words of each BalancerMember to which a rule passes requests on."""
    name = re.match(r"balancer://[^/]+", rule.url)
    sections = (*site.configuration.top.all("proxy"), *(
        section for host in site.configuration.top.all("virtualhost") for section in host.all("proxy")
    ))  # fmt: skip
    return [
        member.words for section in sections if name and section.value.startswith(name[0])
        for member in section.all("balancermember")
    ]  # fmt: skip


def _rule(site: Site, rule: Rule, better: Rule | None) -> Row:
    found, problems = rule.text, []
    if _upgrades(site, rule):
        if "upgrade" in rule.parameters and site.version and site.version < MIN_VERSION:
            number = ".".join(map(str, site.version))
            text = f"upgrade= is known since Apache 2.4.47, and this is {number}."
            hint = "Upgrade it; or a2enmod proxy_wstunnel, and ws:// in place of http:// for WEBSOCKET_URL."
            problems.append(Problem(id="wsredis.E451", text=text, hint=hint, place=rule.directive.place))
    elif better is not None:
        problems.append(
            Problem(
                id="wsredis.E456",
                text=f"{rule.text} takes {site.settings.websocket_url} before {better.directive.place} does: 426.",
                hint=f"Write {better.text} before it.",
                place=rule.directive.place,
            )
        )
    else:
        problems.append(
            Problem(
                id="wsredis.E455",
                text=f"{rule.text} has no upgrade=websocket: every websocket gets 426.",
                hint=_upgrading(site, rule),
                place=rule.directive.place,
            )
        )
    return Row(checked="rule", found=found, problems=tuple(problems))


def _upgrading(site: Site, rule: Rule) -> str:
    """Return the lines with which a rule, or one before it, passes websockets on."""
    if members := _members(site, rule):
        return "\n".join(shown(" ".join(["BalancerMember", *words, "upgrade=websocket"])) for words in members)
    if rule.directive.name != "rewriterule":
        return f"{rule.text} upgrade=websocket"
    target = re.sub(r"http(s?://[^/|]*)[^|]*$", r"ws\1", shown(rule.target))
    module = "" if "proxy_wstunnel_module" in site.configuration.modules else "sudo a2enmod proxy_wstunnel, and "
    return (
        f"{module}write above it, and above its RewriteCond:\n"
        "RewriteCond %{HTTP:Upgrade} =websocket [NC]\n"
        f"RewriteRule ^{site.settings.websocket_url} {target}%{{REQUEST_URI}} [P,L]"
    )


def _prefix(site: Site, rule: Rule) -> Row:
    url = site.settings.websocket_url
    if rule.path == f"{url}x":
        return Row(checked="prefix", found=f"{url} arrives as {url}")
    arrives = rule.path.removesuffix("x") or "nothing"
    path = rule.path or shown(rule.url)
    problem = Problem(
        id="wsredis.E457",
        text=f"{rule.text} lets {url}x arrive as {path}: it is not below WEBSOCKET_URL, and gets 404.",
        hint=_both_sides(rule, url),
        place=rule.directive.place,
    )
    return Row(checked="prefix", found=f"{url} arrives as {arrives}", problems=(problem,))


def _both_sides(rule: Rule, url: str) -> str:
    """Return the line that keeps the prefix; in a <Location>, or of a pattern, the line is not known here."""
    words = rule.directive.words
    if rule.directive.name == "proxypass" and len(words) > 1 and words[0].startswith("/"):
        address = re.sub(r"^((?:unix:[^|]*\|)?\w+://[^/]*).*", r"\1", words[1])
        return shown(" ".join([f'ProxyPass "{url}" "{address}{url}"', *words[2:]]))
    return f"Let both sides end alike: with {url} on both, or with / on both."


def _preserve_host(site: Site, host: Directive) -> Row:
    directive = site.value("proxypreservehost", host)
    value = directive.value if directive else "Off"
    if value.lower() == "on" or not need_the_host():
        return Row(checked="ProxyPreserveHost", found=value)
    problem = Problem(
        id="wsredis.E458",
        text=f"ProxyPreserveHost is {value}: browsers' Origins differ from the Host that arrives, and get 400 or 403.",
        hint="ProxyPreserveHost On",
        place=directive.place if directive else host.place,
    )
    return Row(checked="ProxyPreserveHost", found=value, problems=(problem,))


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)(ms|s|min|h)?", text)
    return int(match[1]) * UNITS[match[2] or ""] if match else DEFAULT_TIMEOUT_SECONDS


def _timeout(site: Site, host: Directive, rule: Rule) -> Row:
    """Compare how long Apache waits with how often we ping: it takes the longer time of both sides of the tunnel."""
    directive = site.value("timeout", host)
    client = _seconds(directive.value) if directive else DEFAULT_TIMEOUT_SECONDS
    proxy = site.value("proxytimeout", host)
    theirs = rule.parameters.get("timeout") or (proxy.value if proxy else "")
    seconds = max(client, _seconds(theirs)) if theirs else client
    ping = site.settings.ping_interval
    if seconds > ping:
        return Row(checked="timeout", found=f"{seconds:g} s; a ping each {ping:g} s")
    problem = Problem(
        id="wsredis.E459",
        text=f"Timeout is {seconds:g} s, not above PING_INTERVAL, {ping:g} s: what is silent between two pings is cut.",
        hint=f"Timeout {max(DEFAULT_TIMEOUT_SECONDS, int(3 * ping))}",
        place=directive.place if directive else rule.directive.place,
    )
    return Row(checked="timeout", found=f"{seconds:g} s; a ping each {ping:g} s", problems=(problem,))


def _retry(rule: Rule) -> Row:
    retry = rule.parameters.get("retry", str(DEFAULT_RETRY_SECONDS))
    if retry == "0" or not retry.isdecimal():
        return Row(checked="retry", found=retry)
    problem = Problem(
        id="wsredis.W463",
        text=f"retry is {retry}: if the site is away for a moment, Apache answers 503 for {retry} s.",
        hint=f"{rule.text} retry=0",
        place=rule.directive.place,
    )
    return Row(checked="retry", found=f"{retry} s", problems=(problem,))
