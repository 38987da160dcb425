/* A load generator for HTTP: http PORT CONNECTIONS SECONDS
 *
 * Every connection stays open. It asks for a path that no other request has, waits for the answer,
 * checks that its status is 200 and that its body is "hello " and that path, and begins again. It
 * communicates with its caller as load.c does, and prints the same figures.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "clients.h"

#define ROOM 4096
#define PATH "/%08ld"
#define BODY_LENGTH 15 /* "hello " and a path */

struct connection {
    int fd, idle;
    size_t received;
    long number;
    double started;
    char data[ROOM];
};

static struct connection *connections;
static long answered;
static int epoll;

static void
begin(struct connection *c)
{
    static long requests;
    char request[128];
    int length;

    c->number = requests++ % 100000000;
    c->idle = 0;
    c->received = 0;
    c->started = now();
    length = snprintf(request, sizeof request,
                      "GET " PATH " HTTP/1.1\r\nHost: bench\r\nAccept: */*\r\n\r\n", c->number);
    if (send(c->fd, request, (size_t)length, MSG_NOSIGNAL) != length)
        wrong("the connection was closed");
}

/* Returns whether the answer is complete; a wrong answer ends the program. */
static int
is_whole(struct connection *c)
{
    char *end, *found, body[32];
    size_t head;

    c->data[c->received] = 0;
    end = strstr(c->data, "\r\n\r\n");
    if (!end)
        return 0;
    if (strncmp(c->data, "HTTP/1.1 200 ", 13) != 0)
        wrong("another status than 200");
    found = strcasestr(c->data, "\r\ncontent-length:");
    if (!found || found > end || atol(found + 17) != BODY_LENGTH)
        wrong("another length than asked for");
    head = (size_t)(end + 4 - c->data);
    if (c->received < head + BODY_LENGTH)
        return 0;
    snprintf(body, sizeof body, "hello " PATH, c->number);
    if (c->received > head + BODY_LENGTH || memcmp(end + 4, body, BODY_LENGTH) != 0)
        wrong("another body than asked for");
    return 1;
}

static void
receive(struct connection *c, int go_on)
{
    ssize_t n = recv(c->fd, c->data + c->received, ROOM - 1 - c->received, 0);

    if (n < 0 && errno == EAGAIN)
        return;
    if (n <= 0)
        wrong("the connection was closed, or the answer is too long");
    if (c->idle)
        wrong("bytes that nobody asked for");
    c->received += (size_t)n;
    if (!is_whole(c))
        return;
    answered++;
    sample(now() - c->started);
    c->idle = 1;
    if (go_on)
        begin(c);
}

static void
serve(long enough, double until, int go_on)
{
    struct epoll_event events[512];

    while (answered < enough && now() < until) {
        int ready = epoll_wait(epoll, events, 512, 100);
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++)
            receive(events[i].data.ptr, go_on);
    }
}

static void
open_one(struct connection *c, int port)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
    int on = 1;

    address.sin_port = htons((uint16_t)port);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (fcntl(c->fd, F_SETFL, O_NONBLOCK) < 0
        || epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
        fail("epoll_ctl");
}

int
main(int argc, char **argv)
{
    int count = argc == 4 ? atoi(argv[2]) : 0, waiting = 0;
    double begun, elapsed;
    long counted;

    if (count < 1) {
        fprintf(stderr, "usage: %s PORT CONNECTIONS SECONDS\n", argv[0]);
        return 2;
    }
    samples = malloc(MAX_SAMPLES * sizeof *samples);
    connections = calloc((size_t)count, sizeof *connections);
    epoll = epoll_create1(0);
    if (!samples || !connections || epoll < 0)
        fail("starting");
    for (int i = 0; i < count; i++) {
        open_one(&connections[i], atoi(argv[1]));
        begin(&connections[i]);
    }
    serve(count, now() + PATIENCE, 0);
    if (answered < count)
        wrong("none within 10 seconds");
    wait_for_begin(count);

    answered = taken = 0;
    begun = now();
    for (int i = 0; i < count; i++)
        begin(&connections[i]);
    serve(1L << 60, begun + atof(argv[3]), 1);
    elapsed = now() - begun;
    counted = answered;
    for (int i = 0; i < count; i++)
        waiting += !connections[i].idle;
    serve(counted + waiting, now() + PATIENCE, 0);
    if (answered < counted + waiting)
        wrong("not all within 10 seconds");
    if (counted == 0) {
        counted = answered;
        elapsed = now() - begun;
    }
    sum_up(counted, elapsed, answered, 0);
    return 0;
}
