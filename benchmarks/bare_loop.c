/* The least a fan-out on one thread can cost: the same frame, to the same sockets, by send() alone.
 *
 *     bare_loop PORT SOCKETS MESSAGES FRAME_BYTES
 *
 * A yardstick for the server, which does the same and more. It listens on 127.0.0.1:PORT (0: any
 * free port) and prints {"event":"listening","port":…}. It answers SOCKETS upgrade requests with a
 * 101 which it does not compute. Then, for each byte 'g' on stdin, it sends MESSAGES times one text
 * frame with FRAME_BYTES of payload to every socket in turn, loses none, and prints
 * {"event":"sent","deliveries":…,"seconds":…}: from before the first send() until the kernel has
 * taken the last byte. It ends at the end of stdin.
 */
#include "common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { BATCH = 1024, TILE = 64 * 1024, OWED_LIMIT = 1024 * 1024 };

static const char HEAD[] =
    "HTTP/1.1 101 Switching Protocols\r\n"
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: unchecked\r\n\r\n";

struct peer {
    int fd;
    int matched; /* how much of the blank line after a request's head has come */
    bool waiting; /* for EPOLLOUT */
    size_t owed; /* bytes not yet taken by the kernel */
    size_t offset; /* of the next byte, within a frame */
};

static struct peer *peers;
static long sockets, waiting;
static int epoll_fd;
static size_t frame_size, tile_size;
static char *tile; /* the frame over and over: a backlog takes one send(), not one for each frame */

static void watch(int operation, int fd, uint32_t events, struct peer *peer) {
    struct epoll_event event = {.events = events, .data.ptr = peer};
    if (epoll_ctl(epoll_fd, operation, fd, &event)) die("epoll_ctl");
}

static void build_tile(size_t payload) {
    unsigned char head[10] = {0x81};
    size_t head_size;
    if (payload < 126) {
        head[1] = payload;
        head_size = 2;
    } else if (payload < 65536) {
        head[1] = 126;
        head[2] = payload >> 8;
        head[3] = payload;
        head_size = 4;
    } else {
        head[1] = 127;
        for (int i = 0; i < 8; i++) head[2 + i] = (uint64_t)payload >> (56 - 8 * i);
        head_size = 10;
    }
    frame_size = head_size + payload;
    size_t frames = TILE / frame_size + 1;
    tile_size = frames * frame_size;
    tile = allocate(tile_size, 1);
    for (size_t i = 0; i < frames; i++) {
        memcpy(tile + i * frame_size, head, head_size);
        memset(tile + i * frame_size + head_size, 'x', payload);
    }
}

static int listen_on(long port) {
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t size = sizeof address;
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (fd < 0) die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, size) || listen(fd, 4096)) die("listen");
    if (getsockname(fd, (struct sockaddr *)&address, &size)) die("getsockname");
    printf("{\"event\":\"listening\",\"port\":%d}\n", ntohs(address.sin_port));
    return fd;
}

static void accept_one(int listener, struct peer *peer) {
    int one = 1;
    peer->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
    if (peer->fd < 0) die("accept");
    setsockopt(peer->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(EPOLL_CTL_ADD, peer->fd, EPOLLIN, peer);
}

/* Reads of a request; returns whether it was all there and has been answered. */
static bool answer(struct peer *peer) {
    char buffer[4096];
    ssize_t got = recv(peer->fd, buffer, sizeof buffer, 0);
    if (got < 0) die("recv");
    if (got == 0) quit("a client left during its handshake");
    for (ssize_t i = 0; i < got && peer->matched < 4; i++) {
        if (buffer[i] == "\r\n\r\n"[peer->matched]) peer->matched++;
        else peer->matched = buffer[i] == '\r';
    }
    if (peer->matched < 4) return false;
    if (send(peer->fd, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL) != sizeof HEAD - 1) die("send of a head");
    watch(EPOLL_CTL_DEL, peer->fd, 0, NULL);
    return true;
}

static void open_all(int listener) {
    struct epoll_event events[BATCH];
    long accepted = 0, answered = 0;
    watch(EPOLL_CTL_ADD, listener, EPOLLIN, NULL);
    while (answered < sockets) {
        int count = epoll_wait(epoll_fd, events, BATCH, -1);
        if (count < 0) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct peer *peer = events[i].data.ptr;
            if (peer) answered += answer(peer);
            else if (accepted < sockets) accept_one(listener, &peers[accepted++]);
            else quit("one client too many");
        }
    }
    close(listener);
}

/* Sends what is owed, as far as the kernel takes it, and sees to it that the rest is sent later. */
static void flush(struct peer *peer) {
    while (peer->owed) {
        size_t size = tile_size - peer->offset;
        if (size > peer->owed) size = peer->owed;
        ssize_t sent = send(peer->fd, tile + peer->offset, size, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) die("send");
            if (!peer->waiting) {
                watch(EPOLL_CTL_ADD, peer->fd, EPOLLOUT, peer);
                peer->waiting = true;
                waiting++;
            }
            return;
        }
        peer->owed -= sent;
        peer->offset = (peer->offset + sent) % frame_size;
    }
    if (peer->waiting) {
        watch(EPOLL_CTL_DEL, peer->fd, 0, NULL);
        peer->waiting = false;
        waiting--;
    }
}

static void flush_writable(int timeout) {
    struct epoll_event events[BATCH];
    int count = epoll_wait(epoll_fd, events, BATCH, timeout);
    if (count < 0) die("epoll_wait");
    for (int i = 0; i < count; i++) flush(events[i].data.ptr);
}

static void fan_out(long messages) {
    int64_t start = now_ns();
    for (long message = 0; message < messages; message++) {
        for (struct peer *peer = peers; peer < peers + sockets; peer++) {
            peer->owed += frame_size;
            if (!peer->waiting) flush(peer);
            while (peer->waiting && peer->owed > OWED_LIMIT) flush_writable(-1);
        }
        if (waiting) flush_writable(0);
    }
    while (waiting) flush_writable(-1);
    printf("{\"event\":\"sent\",\"deliveries\":%ld,\"seconds\":%.6f}\n", sockets * messages,
           (now_ns() - start) / 1e9);
}

int main(int argc, char **argv) {
    if (argc != 5) quit("bare_loop PORT SOCKETS MESSAGES FRAME_BYTES");
    long port = number(argv[1], 0, 65535);
    sockets = number(argv[2], 1, 1000000);
    long messages = number(argv[3], 1, 1000000000);
    build_tile(number(argv[4], 0, 64 * 1024 * 1024));
    setvbuf(stdout, NULL, _IOLBF, 0);
    need_files(sockets + 16);
    peers = allocate(sockets, sizeof *peers);
    epoll_fd = epoll_create1(0);
    if (epoll_fd < 0) die("epoll_create1");
    open_all(listen_on(port));
    char byte;
    while (read(STDIN_FILENO, &byte, 1) == 1)
        if (byte == 'g') fan_out(messages);
    return 0;
}
