/* A load generator: load [-s] [-u] [-l LENGTH] [-r RATE] PORT CONNECTIONS SIZE SECONDS [REQUESTS]
 *
 * Every connection sends a message of SIZE bytes, waits for all of it to come back, checks every
 * byte, and begins again, each time with other bytes. A PORT that begins with a slash is the path
 * of a Unix socket.
 *
 *   -l LENGTH   a message consists of lines of LENGTH bytes
 *   -s          connections are short: one is opened for each message, shut down for writing after
 *               it, and over once the server has closed its end
 *   -u          a message is a datagram
 *   -r RATE     RATE messages per second begin at regular times, whether or not the server keeps
 *               up. The connections take turns; a connection that still waits for an answer sends
 *               its next message after that answer. The latency of a request is counted from the
 *               time at which it should have begun, so that a server that stalls is charged with
 *               every request due meanwhile, and not with one only (coordinated omission)
 *
 * Compiled with -DTLS, every connection is encrypted.
 *
 * Once each connection has received one answer, it prints {"ready": CONNECTIONS} and waits for a line
 * of input. Then it measures for SECONDS, or until REQUESTS were answered, waits for the answers to
 * the requests in flight, and prints
 *
 *   requests   number of requests answered in that time
 *   seconds    length of that time; longer if it was too short for the first answers
 *   all        number of requests answered since the line of input, including those answered late
 *   p50, p75, p90, p99, p99.9, p99.99, max
 *              quantiles of the round-trip time of a request, in seconds
 *
 * Exits with 1 if an answer was wrong or missing, with 2 if the measurement could not begin.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/ssl.h>
#endif

#include "clients.h"
#include "bytes.h"

/* A message is a part of the pattern, and starts at another offset than the message before. There are
 * OFFSETS of them, or fewer if long lines would make the pattern longer than LONG_PATTERN. */
#define OFFSETS 4096
#define LONG_PATTERN (4 << 20)
#define SOURCES 250

static struct connection *connections;
static char *pattern, *incoming;
static const char *port;
static size_t size, line, step = 1, offsets = OFFSETS;
static long answered;
static int count, epoll, short_lived, datagrams;
/* With a rate: number of requests that should have begun by now, and the time of the first. */
static double rate, begun;
static long released;

static void
open_one(struct connection *c)
{
    static unsigned opened;
    struct sockaddr_in address = {.sin_family = AF_INET}, source = {.sin_family = AF_INET};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr *target = (struct sockaddr *)&address;
    socklen_t length = sizeof address;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1, is_path = port[0] == '/';

    c->blocked = 0;
    address.sin_port = htons((uint16_t)atoi(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (is_path) {
        strncpy(path.sun_path, port, sizeof path.sun_path - 1);
        target = (struct sockaddr *)&path;
        length = sizeof path;
    }
    c->fd = socket(is_path ? AF_UNIX : AF_INET, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (c->fd < 0)
        fail("socket");
    if (short_lived) {
        /* Each connection leaves its port in TIME_WAIT, so that one address would run out of ports. */
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + opened++ % SOURCES);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(c->fd, (struct sockaddr *)&source, sizeof source) < 0)
            fail("bind");
    }
    if (connect(c->fd, target, length) < 0)
        fail("connect");
    if (!datagrams && !is_path)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    encrypt(c);
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0
        || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll_ctl");
}

/* Sends as much as the socket accepts; EPOLLOUT is watched only while some bytes remain. */
static void
send_more(struct connection *c)
{
    int blocked = 0;

    while (!c->idle && c->sent < size) {
        ssize_t n = put(c, c->message + c->sent, size - c->sent);
        if (n == 0) {
            blocked = 1;
            break;
        }
        if (n < 0)
            wrong("the connection was closed");
        c->sent += (size_t)n;
    }
    if (blocked != c->blocked) {
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        if (blocked)
            event.events |= EPOLLOUT;
        c->blocked = blocked;
        if (epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &event) < 0)
            fail("epoll_ctl");
    }
}

static double
time_of(long request)
{
    return begun + (double)request / rate;
}

/* Each message starts at another offset, so that a stale answer, or the answer to another connection,
 * does not match. */
static void
begin(struct connection *c)
{
    static unsigned completed;

    c->message = pattern + completed++ % offsets * step;
    c->sent = c->received = 0;
    c->idle = c->ending = 0;
    c->started = now();
    if (begun > 0 && rate > 0) {
        c->started = time_of(c->due);
        c->due += count;
    }
    if (c->fd < 0)
        open_one(c);
    send_more(c);
}

static void
complete(struct connection *c, int go_on)
{
    answered++;
    sample(now() - c->started);
    c->idle = 1;
    c->received = 0;
    if (rate > 0 ? begun > 0 && c->due < released : go_on)
        begin(c);
}

static void
receive(struct connection *c, int go_on)
{
    ssize_t n = get(c, incoming, size - c->received + 1);

    if (n == 0)
        return;
    if (c->ending) {
        if (n > 0)
            wrong("more bytes than were sent");
        if (n == BROKEN)
            wrong("the connection was broken off");
        close(c->fd);
        c->fd = -1;
        complete(c, go_on);
        return;
    }
    if (c->idle)
        wrong("bytes that nobody asked for, or the connection was closed");
    if (n < 0)
        wrong("the connection was closed");
    if ((size_t)n > c->sent - c->received)
        wrong("more bytes than were sent");
    if (memcmp(incoming, c->message + c->received, (size_t)n) != 0)
        wrong("other bytes than were sent");
    c->received += (size_t)n;
    if (c->received < size) {
        if (datagrams)
            wrong("a shorter datagram than was sent");
        return;
    }
    if (!short_lived) {
        complete(c, go_on);
        return;
    }
    c->ending = 1;
    if (shutdown(c->fd, SHUT_WR) < 0)
        fail("shutdown");
}

/* Begins the requests that are due; returns the milliseconds that epoll may wait for. The last
 * millisecond is spent polling: a wait ends late, and the delay would be charged to the server.
 */
static int
release(double until)
{
    double left;

    while ((left = time_of(released) - now()) <= 0 && time_of(released) < until) {
        struct connection *c = &connections[released++ % count];
        if (c->idle)
            begin(c);
    }
    return left > 0.002 ? (int)(left * 1e3) - 1 : 0;
}

/* Serves events until ENOUGH requests were answered, or until the time UNTIL. */
static void
serve(long enough, double until, int go_on)
{
    struct epoll_event events[512];

    while (answered < enough && now() < until) {
        int patience = rate > 0 && go_on ? release(until) : 100;
        int ready = epoll_wait(epoll, events, 512, patience);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                do
                    receive(c, go_on);
                while (has_more(c));
            }
            send_more(c);
        }
    }
}

/* Fills the pattern with random bytes; each line contains one newline, at its end. */
static void
fill_pattern(void)
{
    uint32_t random = 2463534242u;
    size_t length;

    if (line) {
        step = line;
        if (line > LONG_PATTERN / OFFSETS)
            offsets = LONG_PATTERN / line + 1;
    }
    length = size + offsets * step;
    pattern = malloc(length);
    if (!pattern)
        fail("starting");
    for (size_t i = 0; i < length; i++) { /* xorshift */
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        pattern[i] = (char)random;
        if (line && (i + 1) % line == 0)
            pattern[i] = '\n';
        else if (line && pattern[i] == '\n')
            pattern[i] = ' ';
    }
}

static int
take_options(int argc, char **argv)
{
    int option;

    while ((option = getopt(argc, argv, "l:r:su")) != -1) {
        if (option == 'l')
            line = (size_t)atol(optarg);
        else if (option == 'r' && (rate = atof(optarg)) > 0)
            continue;
        else if (option == 's')
            short_lived = 1;
        else if (option == 'u')
            datagrams = 1;
        else
            return 0;
    }
#ifdef TLS
    if (short_lived || datagrams) /* shutdown() of the socket does not end a TLS connection */
        return 0;
#endif
    return (argc - optind == 4 || argc - optind == 5) && !(short_lived && datagrams);
}

int
main(int argc, char **argv)
{
    long counted, enough;
    double elapsed;
    int waiting = 0;

    if (!take_options(argc, argv)) {
        fprintf(stderr,
                "usage: %s [-s] [-u] [-l LENGTH] [-r RATE] PORT CONNECTIONS SIZE SECONDS "
                "[REQUESTS]\n",
                argv[0]);
        return 2;
    }
    argc -= optind;
    argv += optind;
    port = argv[0];
    count = atoi(argv[1]);
    size = (size_t)atol(argv[2]);
    enough = argc == 5 ? atol(argv[4]) : LONG_MAX;
    incoming = malloc(size + 1);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    connections = calloc((size_t)count, sizeof *connections);
    epoll = epoll_create1(0);
    if (count < 1 || size < 1 || size > INT_MAX / 2 || (line && size % line)
        || !incoming || !samples || !connections || epoll < 0)
        fail("starting");
    fill_pattern();
    for (int i = 0; i < count; i++) {
        connections[i].fd = -1;
        connections[i].idle = 1;
        connections[i].due = i;
    }

    for (int i = 0; i < count; i++)
        begin(&connections[i]);
    serve(count, now() + PATIENCE, 0);
    if (answered < count)
        wrong("none within 10 seconds");
    wait_for_begin(count);

    answered = taken = 0;
    begun = now();
    for (int i = 0; i < count && rate <= 0; i++)
        begin(&connections[i]);
    serve(enough, begun + atof(argv[3]), 1);
    elapsed = now() - begun;
    counted = answered;
    for (int i = 0; i < count; i++)
        waiting += !connections[i].idle;
    if (rate > 0) /* also requests that are due and still wait for an earlier answer */
        waiting = (int)(released - counted);
    serve(counted + waiting, now() + PATIENCE, 0);
    if (answered < counted + waiting)
        wrong("not all within 10 seconds");
    if (counted == 0) { /* the time was too short for one request: use the time that it took */
        counted = answered;
        elapsed = now() - begun;
    }

    sum_up(counted, elapsed, answered);
    for (int i = 0; i < count; i++)
        say_goodbye(&connections[i]);
    return 0;
}
