/* A bare epoll echo server, the limit for the contenders: server SIZE [datagrams | PATH]
 *
 * Prints its port, or the path of its Unix socket, as JSON, and serves until its input ends. For each
 * line of input it prints its usage: CPU seconds, and page faults. Messages of up to 64 KiB are echoed
 * as they arrive, larger ones once they are complete, as the other contenders do.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

struct connection {
    int fd;
    char *data;
    size_t received, sent;
    int writing;
};

static size_t size;

static void
drop(struct connection *c)
{
    close(c->fd);
    free(c->data);
    free(c);
}

/* The next two functions return -1 once the connection is over, 1 if bytes remain to send, else 0. */
static int
flush_out(struct connection *c)
{
    while (c->sent < c->received) {
        ssize_t n = send(c->fd, c->data + c->sent, c->received - c->sent, MSG_NOSIGNAL);
        if (n < 0)
            return errno == EAGAIN ? 1 : -1;
        c->sent += (size_t)n;
    }
    c->received = c->sent = 0;
    return 0;
}

static int
take_in(struct connection *c)
{
    size_t capacity = size > 65536 ? size : 65536;
    ssize_t n = recv(c->fd, c->data + c->received, capacity - c->received, 0);

    if (n < 0)
        return errno == EAGAIN ? 0 : -1;
    if (n == 0)
        return -1;
    c->received += (size_t)n;
    return size > 65536 && c->received < size ? 0 : flush_out(c);
}

static void
say_usage(void)
{
    struct rusage used;

    getrusage(RUSAGE_SELF, &used);
    printf("{\"user\": %ld.%06ld, \"kernel\": %ld.%06ld, \"faults\": %ld}\n",
           (long)used.ru_utime.tv_sec, (long)used.ru_utime.tv_usec, (long)used.ru_stime.tv_sec,
           (long)used.ru_stime.tv_usec, used.ru_minflt);
    fflush(stdout);
}

/* Answers the waiting datagrams, at most 64, so that other descriptors get their turn. */
static void
echo_datagrams(int fd)
{
    static char data[65536];

    for (int i = 0; i < 64; i++) {
        struct sockaddr_in sender;
        socklen_t length = sizeof sender;
        ssize_t n = recvfrom(fd, data, sizeof data, 0, (struct sockaddr *)&sender, &length);
        if (n < 0)
            return;
        sendto(fd, data, (size_t)n, 0, (struct sockaddr *)&sender, length);
    }
}

int
main(int argc, char **argv)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct sockaddr *own = (struct sockaddr *)&address;
    socklen_t length = sizeof address;
    struct epoll_event events[512], event = {.events = EPOLLIN};
    int listener, epoll, on = 1, datagrams = argc == 3 && strcmp(argv[2], "datagrams") == 0;
    int is_path = argc == 3 && argv[2][0] == '/';

    if (argc != 2 && !datagrams && !is_path) {
        fprintf(stderr, "usage: %s SIZE [datagrams | PATH]\n", argv[0]);
        return 2;
    }
    size = (size_t)atol(argv[1]);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (is_path) {
        strncpy(path.sun_path, argv[2], sizeof path.sun_path - 1);
        own = (struct sockaddr *)&path;
        length = sizeof path;
    }
    listener = socket(own->sa_family, (datagrams ? SOCK_DGRAM : SOCK_STREAM) | SOCK_NONBLOCK, 0);
    if (bind(listener, own, length) < 0
        || (!datagrams && listen(listener, 1000) < 0))
        return 2;
    getsockname(listener, own, &length);
    if (is_path)
        printf("{\"port\": \"%s\"}\n", path.sun_path);
    else
        printf("{\"port\": %d}\n", ntohs(address.sin_port));
    fflush(stdout);
    epoll = epoll_create1(0);
    event.data.ptr = &listener;
    epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event);
    event.data.ptr = NULL;
    epoll_ctl(epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event);
    for (;;) {
        int ready = epoll_wait(epoll, events, 512, -1);
        for (int i = 0; i < ready; i++) {
            struct connection *c = events[i].data.ptr;
            if (c == NULL) {
                char line[64];
                if (read(STDIN_FILENO, line, sizeof line) <= 0)
                    return 0;
                say_usage();
                continue;
            }
            if ((int *)c == &listener && datagrams) {
                echo_datagrams(listener);
                continue;
            }
            if ((int *)c == &listener) {
                c = calloc(1, sizeof *c);
                c->fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
                if (c->fd < 0) {
                    free(c);
                    continue;
                }
                if (!is_path)
                    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
                c->data = malloc(size > 65536 ? size : 65536);
                event.data.ptr = c;
                epoll_ctl(epoll, EPOLL_CTL_ADD, c->fd, &event);
                continue;
            }
            int outcome = c->writing ? flush_out(c) : take_in(c);
            if (outcome < 0) {
                drop(c);
            }
            else if (outcome != c->writing) {
                struct epoll_event change = {.events = outcome ? EPOLLOUT : EPOLLIN};
                change.data.ptr = c;
                c->writing = outcome;
                epoll_ctl(epoll, EPOLL_CTL_MOD, c->fd, &change);
            }
        }
    }
}
