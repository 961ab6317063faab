"""Whether Apache lets browsers through to what it proxies."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fnmatch import fnmatch

from ..findings import Problem, Row, skipped
from .reading import Directive
from .routing import Rule, concerns
from .site import Site

# mod_authz_core's, and what Apache 2.2 had
ASKING = ("require", "requireall", "requireany", "requirenone", "allow", "deny", "limit", "limitexcept")


def access(site: Site, host: Directive, rule: Rule) -> Row:
    """Look at who is let through: of the sections for a request the last one counts that says so."""
    url = site.settings.websocket_url
    sections = [each for each in _sections(site, host, rule) if each.all(*ASKING)]
    if not sections:
        return Row(checked="access", found="for everybody")
    section = sections[-1]
    asked = section.all(*ASKING)
    if section.get("authmerging"):
        return skipped("access", f"{section.place}: AuthMerging is not understood here")
    values = {" ".join(each.words[:2]).lower() if each.name == "require" else "" for each in asked}
    if "all granted" in values:
        return Row(checked="access", found=f"Require all granted, {asked[-1].place}")
    if values != {"all denied"}:
        words = ", ".join(dict.fromkeys(f"{each.name.capitalize()} {each.value}".strip() for each in asked))
        return skipped("access", f"{section.place}: {words}: it is not known here who meets that")
    problem = Problem(
        id="wsredis.E454",
        text=f"Require all denied keeps {url} from being proxied: websockets get 403.",
        hint=f'Write below it:\n<Location "{url}">\n    Require all granted\n</Location>',
        place=asked[-1].place,
    )
    return Row(checked="access", found="Require all denied", problems=(problem,))


def _sections(site: Site, host: Directive, rule: Rule) -> Iterator[Directive]:
    """Yield the sections for a request, in the order in which Apache merges them; a <Directory> is for files alone."""
    places = (site.configuration.top, host) if host is not site.configuration.top else (host,)
    for place in places:
        for section in place.all("proxy", "proxymatch"):
            if any(_is_for(section, url) for url in (rule.target, rule.url)):
                yield section
    for place in places:
        for section in place.all("location", "locationmatch"):
            if concerns(section, site.path):
                yield section


def _is_for(section: Directive, url: str) -> bool:
    wanted = section.words[-1] if section.words else ""
    if section.name == "proxymatch" or section.value == "~":
        try:
            return re.search(wanted, url) is not None
        except re.error:  # PCRE knows more than Python
            return False
    return url.startswith(wanted) or fnmatch(url, wanted)
