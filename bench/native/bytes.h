/* Sending and receiving on a connection of the load generator: plain, or encrypted with -DTLS. */
#ifndef BENCH_BYTES_H
#define BENCH_BYTES_H

#define ENDED (-1)
#define BROKEN (-2)

struct connection {
    int fd, idle, blocked, ending;
#ifdef TLS
    SSL *tls;
#endif
    size_t sent, received;
    const char *message;
    double started;
    long due; /* with a rate: the number of its next request among all requests */
};

/* -- Bytes: put() and get() return a number of bytes, 0 for none yet, ENDED, or BROKEN. ---------- */

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

/* Whether OpenSSL holds received bytes, which epoll does not report. */
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

/* Sends close_notify: without it, servers treat the end as a truncation, and may report it. */
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

#endif
