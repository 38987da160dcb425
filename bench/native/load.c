/* A load generator: load PORT CONNECTIONS SIZE SECONDS
 *
 * Every connection sends a message of SIZE bytes, waits for all of it to come back, checks every
 * byte, and begins again. Prints one line of JSON; exits with 1 when a byte was wrong.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_SAMPLES (1 << 22)

struct connection {
    int fd;
    size_t sent, received;
    double started;
};

static char *message, *incoming;
static size_t size;

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
send_more(struct connection *c)
{
    while (c->sent < size) {
        ssize_t n = send(c->fd, message + c->sent, size - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN)
                return;
            fail("send");
        }
        c->sent += (size_t)n;
    }
}

static int
by_value(const void *a, const void *b)
{
    float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

int
main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct epoll_event events[512];
    struct connection *connections;
    float *samples;
    long requests = 0, taken = 0;
    double begun, elapsed, seconds;
    int count, epoll, i;

    if (argc != 5) {
        fprintf(stderr, "usage: %s PORT CONNECTIONS SIZE SECONDS\n", argv[0]);
        return 2;
    }
    address.sin_port = htons((uint16_t)atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    count = atoi(argv[2]);
    size = (size_t)atol(argv[3]);
    seconds = atof(argv[4]);
    message = malloc(size);
    incoming = malloc(1 << 20);
    samples = malloc(MAX_SAMPLES * sizeof(float));
    connections = calloc((size_t)count, sizeof(struct connection));
    if (!message || !incoming || !samples || !connections)
        fail("malloc");
    for (size_t k = 0; k < size; k++)
        message[k] = (char)(k * 31 + k / 251);
    epoll = epoll_create1(0);
    for (i = 0; i < count; i++) {
        struct connection *c = &connections[i];
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = c};
        int on = 1;
        c->fd = socket(AF_INET, SOCK_STREAM, 0);
        if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof address) < 0)
            fail("connect");
        setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        fcntl(c->fd, F_SETFL, O_NONBLOCK);
        if (size > 65536)
            event.events |= EPOLLOUT;
        if (epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event) < 0)
            fail("epoll_ctl");
    }
    begun = now();
    for (i = 0; i < count; i++) {
        connections[i].started = now();
        send_more(&connections[i]);
    }
    while ((elapsed = now() - begun) < seconds) {
        int ready = epoll_wait(epoll, events, 512, 100);
        for (i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) {
                size_t want = size - c->received;
                ssize_t n = recv(c->fd, incoming, want < (1 << 20) ? want : (1 << 20), 0);
                if (n < 0 && errno != EAGAIN)
                    fail("recv");
                if (n == 0) {
                    fprintf(stderr, "the server closed the connection\n");
                    return 1;
                }
                if (n > 0) {
                    if (memcmp(incoming, message + c->received, (size_t)n) != 0) {
                        fprintf(stderr, "the bytes that came back are not those that were sent\n");
                        return 1;
                    }
                    c->received += (size_t)n;
                }
                if (c->received == size) {
                    double t = now();
                    requests++;
                    if (taken < MAX_SAMPLES)
                        samples[taken++] = (float)(t - c->started);
                    c->sent = c->received = 0;
                    c->started = t;
                }
            }
            send_more(c);
        }
    }
    qsort(samples, (size_t)taken, sizeof(float), by_value);
    printf("{\"requests\": %ld, \"seconds\": %.6f, \"p50\": %.9f, \"p99\": %.9f}\n", requests, elapsed,
           taken ? samples[taken / 2] : 0.0, taken ? samples[taken * 99 / 100] : 0.0);
    return 0;
}
