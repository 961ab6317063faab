"""Redis as it is deployed, in real processes on loopback: one server in several forms, sentinels, and a cluster."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

import redis
from redis.crc import key_slot

from .servers import Process, find_redis, free_port, wait_until

PASSWORD = "a/b?c@d:e"  # must be quoted in a URL
SENTINELS_PASSWORD = "guards' own"
SENTINELS_USER = "watcher"
SERVICE = "my service"

Certificate = tuple[Path, Path]

# The rights that docs/protocol.rst lists; and what a cluster needs in place of some.
RIGHTS = (
    "resetkeys resetchannels -@all ~wsredis:* ~{wsredis:* &wsredis:* "
    "+subscribe +unsubscribe +publish +eval +ping +client|setname "
    "+xadd +xtrim +xlen +xinfo|stream +xrange +xrevrange +exists +expire +set +time "
    "+zadd +zrange +zremrangebyscore +zrem +rpush +blpop"
)
NOT_IN_CLUSTER = "+subscribe +publish"
ONLY_IN_CLUSTER = "+ssubscribe +sunsubscribe +spublish +cluster|slots +asking"
CLUSTER_RIGHTS = " ".join(
    [right for right in RIGHTS.split() if right not in NOT_IN_CLUSTER.split()] + [ONLY_IN_CLUSTER]
)
INSPECT_RIGHTS = "+info +scan +pttl"
SENTINELS_RIGHTS = "resetkeys resetchannels -@all +sentinel|get-master-addr-by-name"


class Server:
    """One Redis or Valkey on a port of 127.0.0.1, which can be killed and started again."""

    def __init__(
        self,
        folder: Path,
        program: str,
        *arguments: str,
        password: str = "",
        certificate: Certificate | None = None,
    ) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = password
        self.certificate = certificate
        listen = ["--port", str(self.port)]
        if certificate is not None:
            cert, key = map(str, certificate)
            listen = ["--port", "0", "--tls-port", str(self.port), "--tls-cert-file", cert, "--tls-key-file", key]
            listen += ["--tls-ca-cert-file", cert, "--tls-auth-clients", "no", "--tls-replication", "yes"]
        self.command = [program, *listen, "--bind", "127.0.0.1", "--save", "", "--dir", "."]
        self.command += ["--client-output-buffer-limit", "pubsub 0 0 0", "--repl-diskless-sync-delay", "0"]
        if password:
            self.command += ["--requirepass", password, "--masterauth", password]
        self.command += arguments
        self.start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = Process(self.command, cwd=self.folder)
        self.process.wait_for("eady to accept connections")

    def kill(self) -> None:
        self.process.stop(signal.SIGKILL)

    def stop(self) -> None:
        if self.process.popen.poll() is None:
            self.process.popen.send_signal(signal.SIGCONT)  # it may be paused
        self.process.stop()

    def pause(self) -> None:
        """Let it hang: its connections stay open, and nothing is answered."""
        self.process.popen.send_signal(signal.SIGSTOP)

    @contextmanager
    def client(self, **options: Any) -> Any:
        if self.certificate is not None:
            options |= {"ssl": True, "ssl_ca_certs": str(self.certificate[0])}
        with redis.Redis("127.0.0.1", self.port, **{"password": self.password or None, **options}) as client:
            yield client

    def call(self, *command: Any) -> Any:
        with self.client() as client:
            return client.execute_command(*command)

    def set_rights(self, rights: str, user: str = "wsredis") -> None:
        """Give a user these rights and no others."""
        self.call("ACL", "SETUSER", user, "reset", "on", f">{PASSWORD}", *rights.split())

    def add_users(self, more: str = "") -> None:
        """Make known who publishes and subscribes, and the inspector; `more` are rights of both."""
        self.set_rights(f"{RIGHTS} {more}")
        self.set_rights(f"{RIGHTS} {INSPECT_RIGHTS} {more}", "inspector")

    def info(self, section: str) -> dict[str, Any]:
        with self.client() as client:
            return client.info(section)


class Single:
    """One server, in one of the forms of FORMS."""

    def __init__(self, folder: Path, form: str, program: str = "", certificate: Certificate | None = None) -> None:
        program = program or find_redis()
        self.form = form
        arguments = []
        login = ""
        if form == "unix":
            self.socket = folder / "r.sock"
            arguments = ["--unixsocket", str(self.socket)]
        self.server = Server(
            folder,
            program,
            *arguments,
            password=PASSWORD if form == "password" else "",
            certificate=certificate if form == "tls" else None,
        )
        if form == "password":
            login = f":{quote(PASSWORD, safe='')}@"
        if form == "acl":
            self.server.add_users("+select")
            login = f"wsredis:{quote(PASSWORD, safe='')}@"
        self.url = f"redis://{login}{self.server.address}/1"
        if form == "unix":
            self.url = f"unix://{self.socket}?db=1"
        if form == "tls":
            assert certificate is not None
            self.url = f"rediss://{self.server.address}/0?ssl_ca_certs={certificate[0]}"

    def set_rights(self, rights: str) -> None:
        """Give the user of the form "acl" other rights; SELECT is for the database of the URL."""
        self.server.set_rights(f"{rights} +select")

    def stop(self) -> None:
        self.server.stop()


class Sentinels:
    """A master with two replicas, and three sentinels that watch over them; all with passwords.

    With a certificate all speak TLS, and the URL names users: one of the servers, and one of the sentinels.
    """

    def __init__(self, folder: Path, program: str = "", certificate: Certificate | None = None) -> None:
        self.program = program or find_redis()
        self.certificate = certificate
        self.sentinel_password = "the default user's" if certificate else SENTINELS_PASSWORD
        self.servers: list[Server] = []
        for number in range(3):
            home = folder / f"server{number}"
            home.mkdir()
            arguments = ["--replicaof", "127.0.0.1", str(self.servers[0].port)] if self.servers else []
            self.servers.append(Server(home, self.program, *arguments, password=PASSWORD, certificate=certificate))
        self.ports = [free_port() for _ in range(3)]
        self.sentinels = [self._start_sentinel(folder / f"sentinel{port}", port) for port in self.ports]
        for port in self.ports:
            wait_until(lambda port=port: self._knows_all(port), 20, "the sentinels' knowing each other")
        hosts = ",".join(f"127.0.0.1:{port}" for port in self.ports)
        password, options = quote(PASSWORD, safe=""), f"sentinel_password={quote(SENTINELS_PASSWORD, safe='')}"
        self.url = f"redis+sentinel://:{password}@{hosts}/{quote(SERVICE)}/1?{options}"
        if certificate:
            for server in self.servers:
                server.add_users()
            options += f"&sentinel_username={SENTINELS_USER}&ssl_ca_certs={certificate[0]}"
            self.url = f"rediss+sentinel://wsredis:{password}@{hosts}/{quote(SERVICE)}?{options}"

    def _start_sentinel(self, folder: Path, port: int) -> Process:
        folder.mkdir()
        lines = ["bind 127.0.0.1", "dir .", f'sentinel monitor "{SERVICE}" 127.0.0.1 {self.servers[0].port} 2']
        lines += [f'sentinel down-after-milliseconds "{SERVICE}" 500', f'sentinel failover-timeout "{SERVICE}" 3000']
        lines += [f'sentinel auth-pass "{SERVICE}" "{PASSWORD}"', f'requirepass "{self.sentinel_password}"']
        if self.certificate is None:
            lines += [f"port {port}"]
        else:
            cert, key = self.certificate
            lines += [f'user {SENTINELS_USER} on ">{SENTINELS_PASSWORD}" {SENTINELS_RIGHTS}']
            lines += ["port 0", f"tls-port {port}", f"tls-cert-file {cert}", f"tls-key-file {key}"]
            lines += [f"tls-ca-cert-file {cert}", "tls-auth-clients no", "tls-replication yes"]
        (folder / "sentinel.conf").write_text("\n".join([*lines, ""]))
        process = Process([self.program, "sentinel.conf", "--sentinel"], cwd=folder)
        process.wait_for(r"\+monitor master")
        return process

    def _ask(self, port: int) -> dict[bytes, bytes]:
        options: dict[str, Any] = {"password": self.sentinel_password, "protocol": 2}
        if self.certificate is not None:
            options |= {"ssl": True, "ssl_ca_certs": str(self.certificate[0])}
        with redis.Redis("127.0.0.1", port, **options) as client:
            reply = client.execute_command("SENTINEL", "MASTER", SERVICE)
        return dict(zip(reply[::2], reply[1::2], strict=True))

    def _knows_all(self, port: int) -> bool:
        found = self._ask(port)
        return found[b"num-other-sentinels"] == b"2" and found[b"num-slaves"] == b"2"

    @property
    def master(self) -> Server:
        port = int(self._ask(self.ports[-1])[b"port"])
        return next(server for server in self.servers if server.port == port)

    def kill_master(self) -> Server:
        """Kill the master; returns it. The sentinels will choose another one."""
        master = self.master
        master.kill()
        return master

    def stop(self) -> None:
        for process in self.sentinels:
            process.stop()
        for server in self.servers:
            server.stop()


class Cluster:
    """Three masters and a replica of each."""

    def __init__(
        self, folder: Path, program: str = "", certificate: Certificate | None = None, replicas: int = 1
    ) -> None:
        self.folder = folder
        self.program = program or find_redis()
        self.certificate = certificate
        self.password = PASSWORD
        self.nodes: list[Server] = []
        for _ in range(3 * (1 + replicas)):
            self.add_node()
        masters = self.nodes[:3]
        for number, node in enumerate(masters):
            node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            node.call("CLUSTER", "ADDSLOTSRANGE", number * 5462, min(number * 5462 + 5461, 16383))
        self.meet(*self.nodes[1:])
        for number, node in enumerate(self.nodes[3:]):
            master = masters[number % 3]
            wait_until(lambda node=node, master=master: self._knows(node, master), 20, "the nodes' meeting")
            node.call("CLUSTER", "REPLICATE", self.id(master))
        wait_until(self.is_whole, 30, "the cluster's being whole")
        login = f":{quote(PASSWORD, safe='')}@"
        hosts = ",".join(node.address for node in self.nodes)
        self.url = f"redis+cluster://{login}{hosts}"
        if certificate is not None:
            self.url = f"rediss+cluster://{login}{hosts}?ssl_ca_certs={certificate[0]}"

    def add_node(self) -> Server:
        """Start a node, which belongs to the cluster only after `meet()`."""
        home = self.folder / f"node{len(self.nodes)}"
        home.mkdir()
        arguments = ["--cluster-enabled", "yes", "--cluster-node-timeout", "1000"]
        arguments += ["--cluster-allow-replica-migration", "no"]  # or a master without slots becomes a replica
        # a replica that is behind may take over too: what tests publish is little
        arguments += ["--cluster-replica-validity-factor", "0", "--cluster-port", str(free_port())]
        if self.certificate is not None:
            arguments += ["--tls-cluster", "yes"]
        node = Server(home, self.program, *arguments, password=self.password, certificate=self.certificate)
        self.nodes.append(node)
        return node

    def meet(self, *nodes: Server) -> None:
        """Make nodes known to the first one, and so to all."""
        for node in nodes:
            bus = int(node.command[node.command.index("--cluster-port") + 1])
            self.nodes[0].call("CLUSTER", "MEET", "127.0.0.1", node.port, bus)

    def id(self, node: Server) -> str:
        return node.call("CLUSTER", "MYID").decode()

    def _knows(self, node: Server, other: Server) -> bool:
        known = node.call("CLUSTER", "NODES")
        return self.id(other).encode() in known and b"handshake" not in known

    def is_whole(self) -> bool:
        """Tell whether all nodes that run see all slots served, and each replica has its master's data."""
        for node in self.running():
            with node.client() as client:
                if b"cluster_state:ok" not in client.execute_command("CLUSTER", "INFO"):
                    return False
                if b"handshake" in client.execute_command("CLUSTER", "NODES"):
                    return False
                replication = client.info("replication")
                if replication["role"] == "slave" and replication["master_link_status"] != "up":
                    return False
        return True

    def running(self) -> list[Server]:
        return [node for node in self.nodes if node.process.popen.poll() is None]

    def masters(self) -> list[Server]:
        """Return the masters that run and serve slots, as the first node that runs sees them."""
        ports = {port for _, _, (_, port, *_), *_ in self.slots()}
        return [node for node in self.running() if node.port in ports]

    def slots(self) -> Any:
        return self.running()[0].call("CLUSTER", "SLOTS")

    def master_of(self, name: str) -> Server:
        """Return the master that serves a channel."""
        return self.master_of_slot(key_slot(name.encode()))

    def replica_of(self, master: Server) -> Server:
        for node in self.running():
            replication = node.info("replication")
            if replication["role"] == "slave" and replication["master_port"] == master.port:
                return node
        raise AssertionError("the master has no replica")

    def names(self, form: str = "wsredis:broadcast:news%d", per_master: int = 1) -> dict[int, list[str]]:
        """Return names of channels that each master serves, by its port."""
        found: dict[int, list[str]] = {node.port: [] for node in self.masters()}
        number = 0
        while any(len(names) < per_master for names in found.values()):
            number += 1
            names = found[self.master_of(form % number).port]
            if len(names) < per_master:
                names.append(form % number)
        return found

    def begin_move(self, slot: int, source: Server, target: Server) -> None:
        """Let a slot be between two masters: from here on the source answers ASK for keys that it does not have."""
        target.call("CLUSTER", "SETSLOT", slot, "IMPORTING", self.id(source))
        source.call("CLUSTER", "SETSLOT", slot, "MIGRATING", self.id(target))

    def move_keys(self, slot: int, source: Server, target: Server) -> None:
        while keys := source.call("CLUSTER", "GETKEYSINSLOT", slot, 100):
            source.call(
                "MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "REPLACE", "AUTH", self.password, "KEYS", *keys
            )

    def end_move(self, slot: int, source: Server, target: Server) -> None:
        others = [node for node in self.masters() if node not in (source, target)]
        for node in (target, source, *others):
            node.call("CLUSTER", "SETSLOT", slot, "NODE", self.id(target))

    def move_slot(self, slot: int, target: Server, between: Callable[[], None] = lambda: None) -> None:
        """Move a slot with its keys, as resharding does; `between` is called in the midst of it."""
        source = self.master_of_slot(slot)
        self.begin_move(slot, source, target)
        between()
        self.move_keys(slot, source, target)
        between()
        while True:  # a key may have come meanwhile; Redis refuses to give a slot away that has one
            try:
                self.end_move(slot, source, target)
                return
            except redis.ResponseError as error:
                if "still hold keys" not in str(error):
                    raise
                self.move_keys(slot, source, target)

    def master_of_slot(self, slot: int) -> Server:
        port = next(port for first, last, (_, port, *_), *_ in self.slots() if first <= slot <= last)
        return next(node for node in self.nodes if node.port == port)

    def fail_over(self, master: Server) -> Server:
        """Let a replica take a master's place, as an operator does before an update; returns it."""
        replica = self.replica_of(master)
        replica.call("CLUSTER", "FAILOVER")
        wait_until(lambda: replica.info("replication")["role"] == "master", 20, "the failover")
        return replica

    def kill_master(self, name: str) -> Server:
        """Kill the master that serves a channel; returns it."""
        master = self.master_of(name)
        master.kill()
        return master

    def stop(self) -> None:
        for node in self.nodes:
            node.stop()
