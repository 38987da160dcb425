/* A load generator: load [-s] [-u] [-l LENGTH] PORT CONNECTIONS SIZE SECONDS [REQUESTS]
 *
 * Every connection sends a message of SIZE bytes, waits for all of it to come back, checks every
 * byte, and begins again, each time with other bytes.
 *
 *   -l LENGTH   a message is made of lines of so many bytes
 *   -s          a connection is short: made for each message, and over when the server, told that
 *               there is no more to come, has closed its end
 *   -u          a message is a datagram
 *
 * Compiled with -DTLS, every connection is encrypted.
 *
 * Once each connection has had one answer it prints {"ready": CONNECTIONS}, and waits for a line of
 * input. Then it measures for SECONDS, or until REQUESTS were answered, lets what is under way come
 * to its end, and prints
 *
 *   requests   answered in that time
 *   seconds    that time; longer if it was too short for the first answers
 *   all        answered since the line of input, those that came to their end later included
 *   p50, p99   seconds for a request there and back
 *
 * Exits with 1 when an answer was wrong or did not come, with 2 when it could not begin.
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
#include <time.h>
#include <unistd.h>
#ifdef TLS
#include <openssl/ssl.h>
#endif

#define MAX_SAMPLES (1 << 22)
#define OFFSETS 4096
#define SOURCES 250
#define ENDED (-1)
#define BROKEN (-2)
#define PATIENCE 10.0

struct connection {
    int fd, idle, blocked, ending;
#ifdef TLS
    SSL *tls;
#endif
    size_t sent, received;
    const char *message;
    double started;
};

static struct connection *connections;
static char *pattern, *incoming;
static float *samples;
static size_t size, line;
static long answered, taken;
static int count, epoll, port, short_lived, datagrams;

static double
now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static void
fail(const char *what)
{
    perror(what);
    exit(2);
}

static void
wrong(const char *what)
{
    fprintf(stderr, "wrong answer: %s\n", what);
    exit(1);
}

static int
by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* -- Bytes: put() and get() return how many, 0 when there are none yet, ENDED, or BROKEN. -------- */

#ifdef TLS
static SSL_CTX *context;

static ssize_t
outcome(struct connection *c, int done)
{
    if (done > 0)
        return done;
    switch (SSL_get_error(c->tls, done)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_WANT_WRITE:
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return ENDED;
    default:
        return BROKEN;
    }
}

static ssize_t
put(struct connection *c, const char *data, size_t n)
{
    return outcome(c, SSL_write(c->tls, data, (int)n));
}

static ssize_t
get(struct connection *c, char *data, size_t n)
{
    return outcome(c, SSL_read(c->tls, data, (int)n));
}

/* Whether there are bytes of which epoll knows nothing. */
static int
has_more(struct connection *c)
{
    return SSL_pending(c->tls) > 0;
}

static void
encrypt(struct connection *c)
{
    struct timeval patience = {.tv_sec = (time_t)PATIENCE};

    if (!context) {
        context = SSL_CTX_new(TLS_client_method());
        if (!context)
            fail("SSL_CTX_new");
        SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE);
    }
    setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    c->tls = SSL_new(context);
    if (!c->tls || !SSL_set_fd(c->tls, c->fd) || SSL_connect(c->tls) != 1) {
        fprintf(stderr, "the TLS handshake failed\n");
        exit(2);
    }
}

/* Without it, servers take the end for a truncation, and may say so. */
static void
say_goodbye(struct connection *c)
{
    if (c->fd >= 0)
        SSL_shutdown(c->tls);
}
#else
static ssize_t
put(struct connection *c, const char *data, size_t n)
{
    ssize_t done = send(c->fd, data, n, MSG_NOSIGNAL);
    return done >= 0 ? done : errno == EAGAIN ? 0 : BROKEN;
}

static ssize_t
get(struct connection *c, char *data, size_t n)
{
    ssize_t done = recv(c->fd, data, n, 0);
    return done > 0 ? done : done == 0 ? ENDED : errno == EAGAIN ? 0 : BROKEN;
}

static int
has_more(struct connection *c)
{
    (void)c;
    return 0;
}

static void
encrypt(struct connection *c)
{
    (void)c;
}

static void
say_goodbye(struct connection *c)
{
    (void)c;
}
#endif

static void
open_one(struct connection *c)
{
    static unsigned opened;
    struct sockaddr_in address = {.sin_family = AF_INET}, source = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;

    c->blocked = 0;
    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, datagrams ? SOCK_DGRAM : SOCK_STREAM, 0);
    if (c->fd < 0)
        fail("socket");
    if (short_lived) {
        /* Each leaves its port in TIME_WAIT: one address alone would run out of them. */
        source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 256 + opened++ % SOURCES);
        setsockopt(c->fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(c->fd, (struct sockaddr *)&source, sizeof source) < 0)
            fail("bind");
    }
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    if (!datagrams)
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    encrypt(c);
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0
        || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll_ctl");
}

/* Sends what the socket takes; EPOLLOUT is watched only while there is a rest. */
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

/* An old answer, or that of another connection, does not pass: each message begins elsewhere. */
static void
begin(struct connection *c)
{
    static unsigned completed;

    c->message = pattern + completed++ % OFFSETS * (line ? line : 1);
    c->sent = c->received = 0;
    c->idle = c->ending = 0;
    c->started = now();
    if (c->fd < 0)
        open_one(c);
    send_more(c);
}

static void
complete(struct connection *c, int go_on)
{
    answered++;
    if (taken < MAX_SAMPLES)
        samples[taken++] = (float)(now() - c->started);
    c->idle = 1;
    c->received = 0;
    if (go_on)
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

/* Serves events until so many were answered, or the time has come. */
static void
serve(long enough, double until, int go_on)
{
    struct epoll_event events[512];

    while (answered < enough && now() < until) {
        int ready = epoll_wait(epoll, events, 512, 100);
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

/* Any bytes; but in lines, each ends with the only newline that it holds. */
static void
fill_pattern(void)
{
    size_t length = size + OFFSETS * (line ? line : 1);
    uint32_t random = 2463534242u;

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

    while ((option = getopt(argc, argv, "l:su")) != -1) {
        if (option == 'l')
            line = (size_t)atol(optarg);
        else if (option == 's')
            short_lived = 1;
        else if (option == 'u')
            datagrams = 1;
        else
            return 0;
    }
#ifdef TLS
    if (short_lived || datagrams) /* a TLS connection does not end with its socket's end */
        return 0;
#endif
    return (argc - optind == 4 || argc - optind == 5) && !(short_lived && datagrams);
}

int
main(int argc, char **argv)
{
    long counted, enough;
    double begun, elapsed;
    int waiting = 0;

    if (!take_options(argc, argv)) {
        fprintf(stderr,
                "usage: %s [-s] [-u] [-l LENGTH] PORT CONNECTIONS SIZE SECONDS [REQUESTS]\n",
                argv[0]);
        return 2;
    }
    argc -= optind;
    argv += optind;
    port = atoi(argv[0]);
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
    }

    for (int i = 0; i < count; i++)
        begin(&connections[i]);
    serve(count, now() + PATIENCE, 0);
    if (answered < count)
        wrong("none within 10 seconds");
    printf("{\"ready\": %d}\n", count);
    fflush(stdout);
    for (int c = 0; c != '\n' && c != EOF;)
        c = getchar();

    answered = taken = 0;
    begun = now();
    for (int i = 0; i < count; i++)
        begin(&connections[i]);
    serve(enough, begun + atof(argv[3]), 1);
    elapsed = now() - begun;
    counted = answered;
    for (int i = 0; i < count; i++)
        waiting += !connections[i].idle;
    serve(counted + waiting, now() + PATIENCE, 0);
    if (answered < counted + waiting)
        wrong("not all within 10 seconds");
    if (counted == 0) { /* the time was too short for one: take what it took */
        counted = answered;
        elapsed = now() - begun;
    }

    qsort(samples, (size_t)taken, sizeof *samples, by_value);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"all\": %ld, \"p50\": %.9f, \"p99\": %.9f}\n",
           counted, elapsed, answered, samples[taken / 2], samples[taken * 99 / 100]);
    for (int i = 0; i < count; i++)
        say_goodbye(&connections[i]);
    return 0;
}
