/* Many websocket clients on one thread; to measure a server's fan-out, and how it answers.
 *
 *     clients HOST PORT SOCKETS PATH [COOKIE]
 *
 * The same program measures the server and bare_loop. It opens SOCKETS websockets, PATH with its
 * query as given, COOKIE being the header's whole value, and then tells on stdout, in JSON lines,
 * what it gets told to watch for on stdin (a pipe). It answers pings, and ends at the end of stdin.
 *
 *   {"event":"open","sockets":…,"seconds":…,"handshake_p50_ms":…,"handshake_p99_ms":…}
 *   {"event":"refused","status":…}    instead, with exit status 1, if one was not opened
 *   {"event":"closed","code":…,"sockets":…}    when sockets were closed; 1006 is without a close frame
 *
 * `expect K`: once every socket has received K messages since the last report (a message that came
 * before the command counts):
 *   {"event":"received","frames":…,"seconds":…,"first":…,"last":…}
 * `first` and `last` are the times of the first and the last message in seconds of CLOCK_MONOTONIC,
 * `seconds` what lies between them.
 *
 * `latency K`: the same for messages that begin with the time they were sent, in nanoseconds of
 * CLOCK_MONOTONIC, and a space; `samples` is how many did:
 *   {"event":"latency","frames":…,…,"samples":…,"p50_ms":…,"p99_ms":…,"max_ms":…}
 *
 * `echo K`: every socket sends 64 bytes, and again when a message has come, for K milliseconds; told
 * when the last one was answered. `first` is the time of the first sending, `samples` are the
 * times from a sending to its answer:
 *   {"event":"echo","frames":…,…,"samples":…,"p50_ms":…,"p99_ms":…,"max_ms":…}
 *
 * A closed socket receives nothing more: what is expected of it is never reported.
 *
 * Compiled with -DWITH_TLS it speaks TLS, and checks no certificate.
 */
#include "common.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#ifdef WITH_TLS
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#endif

enum {
    IN_FLIGHT = 64,
    BATCH = 1024,
    BUFFER = 256 * 1024,
    PER_SOURCE = 25000, /* below the number of ports which the kernel gives out by default */
    CONTROL_MAX = 125,
    STAMP_MAX = 24,
    ECHO_BYTES = 64,
    CLOSE = 8,
    PING = 9,
};

struct client {
    int fd;
    enum { CONNECTING, SECURING, SHAKING, OPEN } state;
    int64_t began;
    char answer[64]; /* its beginning: the status line */
    uint8_t answer_size, blank; /* blank: how much of the blank line after the head has come */
    uint8_t head[10]; /* of the frame that is being read */
    uint8_t head_size, kept;
    uint8_t keep[CONTROL_MAX]; /* the beginning of its payload */
    uint64_t left; /* of its payload, once the head is complete */
    bool in_payload;
    int64_t stamp, asked; /* asked: when it sent what is to be echoed, 0 if nothing is */
    long frames;
#ifdef WITH_TLS
    SSL *tls;
#endif
};

static const char *host, *path, *cookie;
static long port, sockets;
static struct sockaddr_in server;
static struct client *clients;
static int epoll_fd;
static long begun, opened;
static int64_t *handshakes;

/* Of the current report. */
static long wanted, reached, frames, echoing;
static int64_t first, last, echo_until;
static bool want_latency;
static int64_t *samples;
static size_t sample_count, sample_room;

static long closed_count;
static int closed_code;

static int by_size(const void *a, const void *b) {
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

/* Returns, of sorted nanoseconds, the quantile in milliseconds. */
static double quantile_ms(const int64_t *sorted, size_t count, double part) {
    return count ? sorted[(size_t)((count - 1) * part)] / 1e6 : 0;
}

/* Prints the refusal, with the first line of `status`, and ends the program. */
static _Noreturn void refused(const char *status) {
    printf("{\"event\":\"refused\",\"status\":\"");
    for (; *status >= ' ' && *status <= '~'; status++)
        putchar(*status == '"' || *status == '\\' ? '?' : *status);
    printf("\"}\n");
    exit(1);
}

static void watch(int operation, struct client *client, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    if (epoll_ctl(epoll_fd, operation, client ? client->fd : STDIN_FILENO, &event)) die("epoll_ctl");
}

/* The stream: plain or TLS. Both behave as send() and recv(). */

#ifdef WITH_TLS

#define SCHEME "https"

static SSL_CTX *context;

static void prepare_stream(void) {
    context = SSL_CTX_new(TLS_client_method());
    if (!context) quit("SSL_CTX_new");
    signal(SIGPIPE, SIG_IGN);
}

static ssize_t outcome(struct client *client, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(client->tls, result);
    ERR_clear_error(); /* it is the thread's, and would be taken for the next client's */
    if (error == SSL_ERROR_ZERO_RETURN) return 0;
    errno = error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

/* Goes on with the TLS handshake; returns whether it is done. */
static bool secure(struct client *client) {
    if (!client->tls) {
        client->tls = SSL_new(context);
        if (!client->tls || !SSL_set_fd(client->tls, client->fd)) quit("SSL_new");
        client->state = SECURING;
        watch(EPOLL_CTL_MOD, client, EPOLLIN); /* its own first bytes always fit */
    }
    if (outcome(client, SSL_connect(client->tls)) > 0) return true;
    if (errno != EAGAIN) refused("TLS failed");
    return false;
}

static ssize_t put(struct client *client, const void *data, size_t size) {
    return outcome(client, SSL_write(client->tls, data, size));
}

/* Takes at most one record, of which `data` always has room for all: the rest is left to epoll. */
static ssize_t get(struct client *client, void *data, size_t size) {
    return outcome(client, SSL_read(client->tls, data, size));
}

static void end_stream(struct client *client) {
    SSL_free(client->tls);
    close(client->fd);
}

#else

#define SCHEME "http"

static void prepare_stream(void) {}
static bool secure(struct client *client) { return client; }
static ssize_t put(struct client *client, const void *data, size_t size) {
    return send(client->fd, data, size, MSG_NOSIGNAL);
}
static ssize_t get(struct client *client, void *data, size_t size) {
    return recv(client->fd, data, size, 0);
}
static void end_stream(struct client *client) { close(client->fd); }

#endif

/* Opening */

static void resolve(void) {
    struct addrinfo hints = {.ai_family = AF_INET, .ai_socktype = SOCK_STREAM}, *found;
    int error = getaddrinfo(host, NULL, &hints, &found);
    if (error) quit(gai_strerror(error));
    server = *(struct sockaddr_in *)found->ai_addr;
    server.sin_port = htons(port);
    freeaddrinfo(found);
}

static void begin(struct client *client) {
    client->began = now_ns();
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (client->fd < 0) die("socket");
    long source = (client - clients) / PER_SOURCE;
    if (sockets > PER_SOURCE) {
        struct sockaddr_in from = {
            .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + source)};
        int one = 1;
        setsockopt(client->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &one, sizeof one);
        if (bind(client->fd, (struct sockaddr *)&from, sizeof from)) die("bind");
    }
    if (connect(client->fd, (struct sockaddr *)&server, sizeof server) && errno != EINPROGRESS)
        refused(strerror(errno));
    watch(EPOLL_CTL_ADD, client, EPOLLOUT);
}

/* Writes a random key of 16 bytes in base64: 24 characters and a zero. */
static void random_key(char *key) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    uint8_t raw[18] = {0};
    if (getrandom(raw, 16, 0) != 16) die("getrandom");
    for (int i = 0; i < 24; i++) {
        const uint8_t *three = raw + i / 4 * 3;
        uint32_t bits = three[0] << 16 | three[1] << 8 | three[2];
        key[i] = digits[bits >> (18 - i % 4 * 6) & 63];
    }
    strcpy(key + 22, "==");
}

static void ask(struct client *client) {
    int error = 0;
    socklen_t size = sizeof error;
    getsockopt(client->fd, SOL_SOCKET, SO_ERROR, &error, &size);
    if (error) refused(strerror(error));
    if (!secure(client)) return;
    char key[25], request[8192];
    random_key(key);
    int length = snprintf(
        request, sizeof request,
        "GET %s HTTP/1.1\r\nHost: %s:%ld\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: %s\r\nSec-WebSocket-Version: 13\r\nOrigin: %s://%s:%ld\r\n%s%s%s\r\n",
        path, host, port, key, SCHEME, host, port, cookie ? "Cookie: " : "", cookie ? cookie : "",
        cookie ? "\r\n" : "");
    if (length >= (int)sizeof request) quit("PATH and COOKIE are too long");
    if (put(client, request, length) != length) die("send of a request");
    client->state = SHAKING;
    watch(EPOLL_CTL_MOD, client, EPOLLIN);
}

static void report_open(void) {
    int64_t start = clients[0].began;
    double seconds = (now_ns() - start) / 1e9;
    qsort(handshakes, sockets, sizeof *handshakes, by_size);
    printf("{\"event\":\"open\",\"sockets\":%ld,\"seconds\":%.6f,\"handshake_p50_ms\":%.3f,"
           "\"handshake_p99_ms\":%.3f}\n",
           sockets, seconds, quantile_ms(handshakes, sockets, 0.5),
           quantile_ms(handshakes, sockets, 0.99));
}

/* Takes the answer's head from the data; returns how much of them that was. */
static size_t shake(struct client *client, const uint8_t *data, size_t size, int64_t now) {
    size_t used = 0;
    while (used < size && client->blank < 4) {
        char byte = data[used++];
        if (byte == "\r\n\r\n"[client->blank]) client->blank++;
        else client->blank = byte == '\r';
        if (client->answer_size < sizeof client->answer - 1)
            client->answer[client->answer_size++] = byte;
    }
    if (client->blank < 4) return used;
    if (strncmp(client->answer, "HTTP/1.1 101", 12)) refused(client->answer);
    client->state = OPEN;
    handshakes[opened++] = now - client->began;
    if (begun < sockets) begin(&clients[begun++]);
    if (opened == sockets) report_open();
    return used;
}

/* Reporting */

static void expect(long count, bool latency) {
    wanted = count;
    want_latency = latency;
    reached = 0;
    for (long i = 0; i < sockets; i++) reached += clients[i].frames >= wanted;
}

static void report(const char *event, bool with_samples) {
    printf("{\"event\":\"%s\",\"frames\":%ld,\"seconds\":%.6f,\"first\":%.6f,\"last\":%.6f", event,
           frames, (last - first) / 1e9, first / 1e9, last / 1e9);
    if (with_samples) {
        qsort(samples, sample_count, sizeof *samples, by_size);
        printf(",\"samples\":%zu,\"p50_ms\":%.3f,\"p99_ms\":%.3f,\"max_ms\":%.3f", sample_count,
               quantile_ms(samples, sample_count, 0.5), quantile_ms(samples, sample_count, 0.99),
               quantile_ms(samples, sample_count, 1));
    }
    printf("}\n");
    wanted = frames = sample_count = 0;
    for (long i = 0; i < sockets; i++) clients[i].frames = 0;
}

static void report_if_reached(void) {
    if (wanted && reached == sockets) report(want_latency ? "latency" : "received", want_latency);
}

static void add_sample(int64_t sample) {
    if (sample_count == sample_room) {
        sample_room = sample_room ? sample_room * 2 : 65536;
        samples = realloc(samples, sample_room * sizeof *samples);
        if (!samples) die("realloc");
    }
    samples[sample_count++] = sample;
}

/* Sends what the server is to echo. It always fits: nothing else is under way. */
static void ask_echo(struct client *client, int64_t now) {
    static uint8_t frame[6 + ECHO_BYTES] = {0x81, 0x80 | ECHO_BYTES, 1, 2, 3, 4};
    for (int i = 0; i < ECHO_BYTES; i++) frame[6 + i] = 'x' ^ frame[2 + i % 4];
    client->asked = now;
    if (put(client, frame, sizeof frame) != sizeof frame) die("send of a message");
}

static void begin_echo(long milliseconds) {
    first = now_ns();
    echo_until = first + milliseconds * 1000000;
    echoing = sockets;
    for (long i = 0; i < sockets; i++) ask_echo(&clients[i], now_ns());
}

/* A message has come to a client that had sent one. */
static void take_echo(struct client *client, int64_t now) {
    add_sample(now - client->asked);
    client->asked = 0;
    if (now < echo_until) ask_echo(client, now);
    else if (!--echoing) report("echo", true);
}

static void report_closed(void) {
    if (closed_count)
        printf("{\"event\":\"closed\",\"code\":%d,\"sockets\":%ld}\n", closed_code, closed_count);
    closed_count = 0;
}

static void closed(struct client *client, int code) {
    if (client->state != OPEN) refused(client->answer_size ? client->answer : "closed without an answer");
    end_stream(client);
    client->fd = -1;
    /* one line for many: nobody may be reading when ten thousand close */
    if (code != closed_code) report_closed();
    closed_code = code;
    closed_count++;
}

/* Reading */

/* Sends a control frame with the kept payload, if the kernel takes it at once. */
static void reply(struct client *client, int opcode) {
    uint8_t frame[6 + CONTROL_MAX] = {0x80 | opcode, 0x80 | client->kept};
    if (getrandom(frame + 2, 4, 0) != 4) die("getrandom");
    for (int i = 0; i < client->kept; i++) frame[6 + i] = client->keep[i] ^ frame[2 + i % 4];
    (void)!put(client, frame, 6 + client->kept);
}

/* Returns the time in the kept payload, or 0. */
static int64_t kept_stamp(const struct client *client) {
    int64_t stamp = 0;
    for (int i = 0; i < client->kept; i++) {
        uint8_t byte = client->keep[i];
        if (byte == ' ') return stamp;
        if (byte < '0' || byte > '9' || i > 18) break;
        stamp = stamp * 10 + byte - '0';
    }
    return 0;
}

static void end_frame(struct client *client, int64_t now) {
    int opcode = client->head[0] & 15;
    client->in_payload = false;
    client->head_size = 0;
    if (opcode == PING) reply(client, 10);
    if (opcode == CLOSE) {
        reply(client, CLOSE);
        closed(client, client->kept < 2 ? 1005 : client->keep[0] << 8 | client->keep[1]);
    }
    if (opcode > 2) return;
    if (opcode) client->stamp = kept_stamp(client);
    if (!(client->head[0] & 0x80)) return;
    if (client->stamp) add_sample(now - client->stamp);
    if (!frames++ && !echoing) first = now;
    last = now;
    if (++client->frames == wanted) reached++;
    if (client->asked) take_echo(client, now);
}

/* Takes the data as a frame's head; returns how much of them that was. */
static size_t take_head(struct client *client, const uint8_t *data, size_t size) {
    size_t used = 0;
    while (used < size) {
        client->head[client->head_size++] = data[used++];
        if (client->head_size < 2) continue;
        int length = client->head[1], wide = length == 127 ? 8 : length == 126 ? 2 : 0;
        if (client->head[0] & 0x70) quit("a frame with a reserved bit");
        if (length & 0x80) quit("a masked frame");
        if (client->head[0] & 8 && length > CONTROL_MAX) quit("a control frame that is too long");
        if (client->head_size < 2 + wide) continue;
        client->left = wide ? 0 : length;
        for (int i = 0; i < wide; i++) client->left = client->left << 8 | client->head[2 + i];
        client->in_payload = true;
        client->kept = 0;
        break;
    }
    return used;
}

static void take_frames(struct client *client, const uint8_t *data, size_t size, int64_t now) {
    while (size) {
        if (!client->in_payload) {
            size_t used = take_head(client, data, size);
            data += used;
            size -= used;
            if (!client->in_payload) return;
        }
        size_t part = client->left < size ? client->left : size;
        size_t room = (client->head[0] & 8 ? CONTROL_MAX : STAMP_MAX) - client->kept;
        size_t kept = part < room ? part : room;
        memcpy(client->keep + client->kept, data, kept);
        client->kept += kept;
        client->left -= part;
        data += part;
        size -= part;
        if (client->left) return;
        end_frame(client, now);
        if (client->fd < 0) return;
    }
}

static void receive(struct client *client) {
    static uint8_t buffer[BUFFER];
    ssize_t got = get(client, buffer, sizeof buffer);
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        closed(client, 1006);
        return;
    }
    int64_t now = now_ns();
    size_t used = client->state == SHAKING ? shake(client, buffer, got, now) : 0;
    if (client->state == OPEN) take_frames(client, buffer + used, got - used, now);
}

/* Obeys what stdin has; returns false at its end. */
static bool obey(void) {
    static char line[256];
    static size_t size;
    ssize_t got = read(STDIN_FILENO, line + size, sizeof line - 1 - size);
    if (got <= 0) return false;
    size += got;
    char *end;
    while ((end = memchr(line, '\n', size))) {
        *end = 0;
        if (!strncmp(line, "expect ", 7)) expect(number(line + 7, 1, 1000000000), false);
        else if (!strncmp(line, "latency ", 8)) expect(number(line + 8, 1, 1000000000), true);
        else if (!strncmp(line, "echo ", 5)) begin_echo(number(line + 5, 1, 1000000));
        else quit("not a command");
        size -= end + 1 - line;
        memmove(line, end + 1, size);
        report_if_reached();
    }
    if (size == sizeof line - 1) quit("not a command");
    return true;
}

int main(int argc, char **argv) {
    if (argc < 5 || argc > 6) quit("clients HOST PORT SOCKETS PATH [COOKIE]");
    host = argv[1];
    port = number(argv[2], 1, 65535);
    sockets = number(argv[3], 1, 1000000);
    path = argv[4];
    cookie = argv[5];
    setvbuf(stdout, NULL, _IOLBF, 0);
    need_files(sockets + 16);
    resolve();
    prepare_stream();
    clients = allocate(sockets, sizeof *clients);
    handshakes = allocate(sockets, sizeof *handshakes);
    epoll_fd = epoll_create1(0);
    if (epoll_fd < 0) die("epoll_create1");
    watch(EPOLL_CTL_ADD, NULL, EPOLLIN);
    while (begun < sockets && begun < IN_FLIGHT) begin(&clients[begun++]);
    struct epoll_event events[BATCH];
    for (;;) {
        int count = epoll_wait(epoll_fd, events, BATCH, -1);
        if (count < 0) die("epoll_wait");
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                if (!obey()) return 0;
            } else if (client->state < SHAKING) ask(client);
            else receive(client);
        }
        report_closed();
        report_if_reached();
    }
}
