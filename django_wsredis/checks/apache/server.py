"""What Apache has for all its sites: modules, and threads."""

from __future__ import annotations

from ..findings import Problem, Row, skipped
from .reading import Directive
from .routing import rules
from .site import Site

DEFAULT_WORKERS = {"mpm_prefork_module": 256}  # else 400, 16 processes of 25 threads
FEW = 1000
# what is used → the module that has it
MODULES = {
    "proxypass": "proxy_module",
    "proxypassmatch": "proxy_module",
    "requestheader": "headers_module",
    "header": "headers_module",
    "rewriterule": "rewrite_module",
    "sslengine": "ssl_module",
}


def modules_row(site: Site, hosts: list[Directive]) -> Row:
    """Compare the modules that are built in, or loaded, with those that the virtual hosts use."""
    there = site.configuration.modules
    needs: dict[str, str] = {}  # module → where it is used
    for host in hosts:
        for directive in host.inside:
            if directive.name in MODULES:
                needs.setdefault(MODULES[directive.name], directive.place)
        for rule in rules(site.configuration.top, host, site.path):
            wanted = "proxy_wstunnel_module" if rule.scheme in ("ws", "wss") else "proxy_http_module"
            if rule.target and not rule.is_redirect:
                needs.setdefault(wanted, rule.directive.place)
    missing = [module for module in needs if module not in there]
    if missing and not site.main.loads:
        return skipped("modules", "the server's own file, which loads them, is not here; see apache2ctl -M")
    names = " ".join(module.removesuffix("_module") for module in missing)
    problem = Problem(
        id="wsredis.E453",
        text=f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'} used here, and neither built in nor loaded.",
        hint=f"sudo a2enmod {names} && sudo systemctl restart apache2",
        place=needs[missing[0]] if missing else "",
    )
    problems = (problem,) if missing else ()
    return Row(checked="modules", found=", ".join(sorted(needs)) or "none is used", problems=problems)


def workers_row(site: Site) -> Row:
    """Look at how many threads there are: an open websocket occupies one."""
    modules = site.configuration.modules
    directive = site.value("maxrequestworkers", site.configuration.top)
    mpm = next((name for name in modules if name.startswith("mpm_")), "mpm_event_module")
    count = int(directive.value) if directive and directive.value.isdecimal() else DEFAULT_WORKERS.get(mpm, 400)
    place, wanted = directive.place if directive else "", site.settings.max_sockets
    found = f"{count}, for {count} websockets and requests; {mpm.removesuffix('_module')}"
    hint = "./manage.py wscheck --emit apache --sockets {} prints the limits for so many."
    problems = []
    if mpm == "mpm_prefork_module":
        text = "mpm_prefork has a process for each open websocket."
        hint_event = "sudo a2dismod mpm_prefork && sudo a2enmod mpm_event && sudo systemctl restart apache2"
        problems.append(Problem(id="wsredis.W462", text=text, hint=hint_event))
    if wanted is not None and count < wanted:
        text = f"MaxRequestWorkers is {count}: an open websocket occupies one, and MAX_SOCKETS is {wanted}."
        problems.append(Problem(id="wsredis.W460", text=text, hint=hint.format(wanted), place=place))
    elif wanted is None and count < FEW:
        text = f"MaxRequestWorkers is {count}: so many websockets and requests at once."
        problems.append(Problem(id="wsredis.I461", text=text, hint=hint.format(2000), place=place))
    return Row(checked="MaxRequestWorkers", found=found, problems=tuple(problems))
