/* Connections beside the measured ones, which give the server other work: slow readers, floods, and
 * bursts of connections that open and close.
 *
 * Each turn of the load generator does a few microseconds of this work, after it has served the
 * measured connections. All sockets are tried without waiting, so that no poll is needed. The bytes
 * that come back are compared, and at the end every one of them must have come. */
#ifndef BENCH_BACKGROUND_H
#define BENCH_BACKGROUND_H

#define BLOCK 65536
#define SLOW_PERIOD 0.1 /* seconds between two reads of a slow reader */
#define SLOW_READ 4096
#define SLOW_BUFFER 32768 /* so that many slow readers do not fill the memory of the kernel */
#define BURST_PERIOD 0.1  /* seconds between the beginnings of two bursts */

struct other {
    int fd;
    size_t sent, received;
};

static struct other *slow_ones, *floods;
static int slow_count, flood_count, burst;
static double others_begun;
static long slow_turns, opened_in_bursts;
/* The bytes of a connection repeat this block; it is stored twice, so that every part is contiguous. */
static char *block, *scratch;

static struct other *
open_others(int n, int buffer)
{
    struct other *opened = calloc((size_t)n, sizeof *opened);

    if (!opened)
        fail("starting");
    for (int i = 0; i < n; i++) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        if (buffer) {
            setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
            setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &buffer, sizeof buffer);
        }
        connect_from(fd, -1);
        if (fcntl(fd, F_SETFL, O_NONBLOCK) < 0)
            fail("fcntl");
        opened[i].fd = fd;
    }
    return opened;
}

static void
begin_others(void)
{
    block = malloc(2 * BLOCK);
    scratch = malloc(BLOCK);
    if (!block || !scratch)
        fail("starting");
    for (int i = 0; i < BLOCK; i++)
        block[i] = block[i + BLOCK] = (char)next_random();
    slow_ones = open_others(slow_count, SLOW_BUFFER);
    floods = open_others(flood_count, 0);
}

static void
send_other(struct other *o)
{
    ssize_t n = send(o->fd, block + o->sent % BLOCK, BLOCK, MSG_NOSIGNAL);

    if (n < 0 && errno != EAGAIN)
        wrong("a connection beside the measured ones was closed");
    if (n > 0)
        o->sent += (size_t)n;
}

/* Returns whether the server has closed its end. */
static int
receive_other(struct other *o, size_t most)
{
    ssize_t n = recv(o->fd, scratch, most, 0);

    if (n < 0 && errno != EAGAIN)
        wrong("a connection beside the measured ones was broken off");
    if (n > 0) {
        if ((size_t)n > o->sent - o->received
            || memcmp(scratch, block + o->received % BLOCK, (size_t)n) != 0)
            wrong("other bytes than were sent, beside the measured connections");
        o->received += (size_t)n;
    }
    return n == 0;
}

/* Does the work that is due at the time NOW, at most one connection of each kind. */
static void
serve_others(double time)
{
    double elapsed = time - others_begun;
    static int next_flood;

    if (slow_count && (double)slow_turns < elapsed / SLOW_PERIOD * slow_count) {
        struct other *o = &slow_ones[slow_turns++ % slow_count];
        send_other(o);
        if (receive_other(o, SLOW_READ))
            wrong("the connection of a slow reader was closed");
    }
    if (flood_count) {
        struct other *o = &floods[next_flood++ % flood_count];
        send_other(o);
        if (receive_other(o, BLOCK))
            wrong("a connection with a flood was closed");
    }
    if (burst && opened_in_bursts < ((long)(elapsed / BURST_PERIOD) + 1) * burst) {
        /* Without waiting: a full queue of the server must not hold up the measurement. */
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
        connect_from(fd, (int)(opened_in_bursts++));
        close(fd);
    }
}

/* Reads the rest of every connection, at full speed. */
static void
finish_others(struct other *all, int n)
{
    double patience = now() + PATIENCE;

    for (int i = 0; i < n; i++)
        shutdown(all[i].fd, SHUT_WR);
    for (int i = 0; i < n; i++) {
        while (!receive_other(&all[i], BLOCK))
            if (now() > patience)
                wrong("not all bytes within 10 seconds, beside the measured connections");
        if (all[i].received < all[i].sent)
            wrong("a connection beside the measured ones was closed");
        close(all[i].fd);
    }
}

#endif
