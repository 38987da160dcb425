/* A load generator: load [OPTION]... PORT CONNECTIONS SIZE SECONDS [REQUESTS]
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
 * With a rate, and only then, the server can be given other work on further connections, which are
 * not measured, during the measurement (see background.h):
 *
 *   -w COUNT    slow readers: they send as much as the server takes, and read 4 KiB ten times a
 *               second
 *   -f COUNT    floods: connections that send and read as fast as they can
 *   -b COUNT    bursts: ten times a second, COUNT connections are opened and closed
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
 *   late       with a rate, the 99.9th percentile of the delay with which this program itself began
 *              requests, in seconds; it is part of their round-trip times. Without a rate, 0
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

static const char *port;
static uint32_t random_state = 2463534242u;

/* Pseudo-random numbers, by xorshift. */
static uint32_t
next_random(void)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 17;
    random_state ^= random_state << 5;
    return random_state;
}

/* Connects a socket to the port. A SOURCE that is not negative chooses the own address: each connection
 * that this program closes first leaves its port in TIME_WAIT, so that one address would run out of
 * ports. */
#define SOURCES 250
static void
connect_from(int fd, int source)
{
    struct sockaddr_in address = {.sin_family = AF_INET}, own = {.sin_family = AF_INET};
    int on = 1;

    if (source >= 0) {
        own.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + (unsigned)source % SOURCES);
        setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (struct sockaddr *)&own, sizeof own) < 0)
            fail("bind");
    }
    address.sin_port = htons((uint16_t)atoi(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) < 0 && errno != EINPROGRESS)
        fail("connect");
}

#include "background.h"

/* A message is a part of the pattern, and starts at another offset than the message before. There are
 * OFFSETS of them, or fewer if long lines would make the pattern longer than LONG_PATTERN. */
#define OFFSETS 4096
#define LONG_PATTERN (4 << 20)

static struct connection *connections;
static char *pattern, *incoming;
static size_t size, line, step = 1, offsets = OFFSETS;
static long answered;
static int count, epoll, short_lived, datagrams, has_others;
/* With a rate: number of requests that should have begun by now, and the time of the first. */
static double rate, begun;
static long released;
/* With a rate: the delays of the requests that this program itself began late. */
static float *delays;
static long delays_taken;

static void
open_one(struct connection *c)
{
    static int opened;
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1, is_path = port[0] == '/';

    c->blocked = 0;
    c->fd = socket(is_path ? AF_UNIX : AF_INET, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (c->fd < 0)
        fail("socket");
    if (is_path) {
        strncpy(path.sun_path, port, sizeof path.sun_path - 1);
        if (connect(c->fd, (struct sockaddr *)&path, sizeof path) < 0)
            fail("connect");
    }
    else
        connect_from(c->fd, short_lived ? opened++ : -1);
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
 * millisecond is spent polling: a wait ends late, and the delay would be charged to the server. */
static int
release(double until)
{
    double left;

    while ((left = time_of(released) - now()) <= 0 && time_of(released) < until) {
        struct connection *c = &connections[released++ % count];
        if (c->idle) {
            if (delays_taken < MAX_SAMPLES)
                delays[delays_taken++] = (float)-left;
            begin(c);
        }
    }
    if (has_others)
        return 0;
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
        if (has_others && go_on)
            serve_others(now());
    }
}

/* Fills the pattern with random bytes; each line contains one newline, at its end. */
static void
fill_pattern(void)
{
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
    for (size_t i = 0; i < length; i++) {
        pattern[i] = (char)next_random();
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

    while ((option = getopt(argc, argv, "b:f:l:r:suw:")) != -1) {
        if (option == 'l')
            line = (size_t)atol(optarg);
        else if (option == 'r' && (rate = atof(optarg)) > 0)
            continue;
        else if (option == 's')
            short_lived = 1;
        else if (option == 'u')
            datagrams = 1;
        else if (option == 'b' && (burst = atoi(optarg)) > 0)
            continue;
        else if (option == 'f' && (flood_count = atoi(optarg)) > 0)
            continue;
        else if (option == 'w' && (slow_count = atoi(optarg)) > 0)
            continue;
        else
            return 0;
    }
    has_others = burst || flood_count || slow_count;
    if (has_others && (rate <= 0 || datagrams)) /* only a rate leaves time for them */
        return 0;
#ifdef TLS
    /* shutdown() of the socket does not end a TLS connection. */
    if (short_lived || datagrams || has_others)
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
                "usage: %s [-s] [-u] [-l LENGTH] [-r RATE] [-w COUNT] [-f COUNT] [-b COUNT] PORT "
                "CONNECTIONS SIZE SECONDS [REQUESTS]\n",
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
    delays = malloc(MAX_SAMPLES * sizeof *delays);
    connections = calloc((size_t)count, sizeof *connections);
    epoll = epoll_create1(0);
    if (count < 1 || size < 1 || size > INT_MAX / 2 || (line && size % line)
        || !incoming || !samples || !delays || !connections || epoll < 0)
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
    if (has_others)
        begin_others();
    wait_for_begin(count);

    answered = taken = 0;
    begun = others_begun = now();
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
    finish_others(slow_ones, slow_count);
    finish_others(floods, flood_count);
    if (counted == 0) { /* the time was too short for one request: use the time that it took */
        counted = answered;
        elapsed = now() - begun;
    }

    sort(delays, delays_taken);
    sum_up(counted, elapsed, answered, quantile(delays, delays_taken, .999));
    for (int i = 0; i < count; i++)
        say_goodbye(&connections[i]);
    return 0;
}
