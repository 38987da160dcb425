/* A load generator: load PORT CONNECTIONS SIZE SECONDS [REQUESTS]
 *
 * Every connection sends a message of SIZE bytes, waits for all of it to come back, checks every
 * byte, and begins again, each time with other bytes. Once each connection has had one answer it
 * prints {"ready": CONNECTIONS}, and waits for a line of input. Then it measures for SECONDS, or
 * until REQUESTS were answered, lets what is under way come to its end, and prints
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
#include <time.h>
#include <unistd.h>

#define MAX_SAMPLES (1 << 22)
#define OFFSETS 4096
#define PATIENCE 10.0

struct connection {
    int fd, idle, blocked;
    size_t sent, received;
    const char *message;
    double started;
};

static struct connection *connections;
static char *pattern, *incoming;
static float *samples;
static size_t size;
static long answered, taken;
static int count, epoll;

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

/* Sends what the socket takes; EPOLLOUT is watched only while there is a rest. */
static void
send_more(struct connection *c)
{
    int blocked = 0;

    while (!c->idle && c->sent < size) {
        ssize_t n = send(c->fd, c->message + c->sent, size - c->sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EAGAIN) {
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

    c->message = pattern + completed++ % OFFSETS;
    c->sent = c->received = 0;
    c->idle = 0;
    c->started = now();
    send_more(c);
}

static void
receive(struct connection *c, int go_on)
{
    ssize_t n = recv(c->fd, incoming, size - c->received + 1, 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (c->idle)
        wrong("bytes that nobody asked for, or the connection was closed");
    if (n <= 0)
        wrong("the connection was closed");
    if ((size_t)n > c->sent - c->received)
        wrong("more bytes than were sent");
    if (memcmp(incoming, c->message + c->received, (size_t)n) != 0)
        wrong("other bytes than were sent");
    c->received += (size_t)n;
    if (c->received < size)
        return;
    answered++;
    if (taken < MAX_SAMPLES)
        samples[taken++] = (float)(now() - c->started);
    c->idle = 1;
    c->received = 0;
    if (go_on)
        begin(c);
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
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR))
                receive(c, go_on);
            send_more(c);
        }
    }
}

static void
open_all(int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};

    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    for (int i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        int on = 1;
        c->idle = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
            fail("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0
            || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
            fail("epoll_ctl");
    }
}

int
main(int argc, char **argv)
{
    uint32_t random = 2463534242u;
    long counted, enough;
    double begun, elapsed;
    int waiting = 0;

    if (argc != 5 && argc != 6) {
        fprintf(stderr, "usage: %s PORT CONNECTIONS SIZE SECONDS [REQUESTS]\n", argv[0]);
        return 2;
    }
    count = atoi(argv[2]);
    size = (size_t)atol(argv[3]);
    enough = argc == 6 ? atol(argv[5]) : LONG_MAX;
    pattern = malloc(size + OFFSETS);
    incoming = malloc(size + 1);
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    connections = calloc((size_t)count, sizeof *connections);
    epoll = epoll_create1(0);
    if (count < 1 || size < 1 || !pattern || !incoming || !samples || !connections || epoll < 0)
        fail("starting");
    for (size_t i = 0; i < size + OFFSETS; i++) { /* xorshift */
        random ^= random << 13;
        random ^= random >> 17;
        random ^= random << 5;
        pattern[i] = (char)random;
    }

    open_all(atoi(argv[1]));
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
    serve(enough, begun + atof(argv[4]), 1);
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
    return 0;
}
