// Implements the listeners of connection.h: from an address as text to a socket that accepts.
//
// What a connection's socket is like is set on the listening one, from which Linux copies it. A unix socket's file is
// ours from bind to close: a stale one is removed first, one on which somebody listens is not, nor one that has
// replaced ours meanwhile.
#include "server/connection.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/listener.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

enum { BACKLOG = 1024, RETRY_MS = 100, KEEPALIVE_S = 30, KEEPALIVE_PROBE_S = 10, KERNEL_UNSENT_BYTES = 64 << 10 };

struct listener {
    http *h;
    listener *next;
    struct evconnlistener *accepting;
    struct event *retry;
    char *path; // of a unix socket, else NULL
    dev_t device;
    ino_t inode;
};

// ---- accepting -----------------------------------------------------------------------------------------------------

static void on_accept(struct evconnlistener *accepting, evutil_socket_t fd, struct sockaddr *from, int n, void *arg) {
    listener *l = arg;
    char host[INET6_ADDRSTRLEN] = "", peer[64] = "unix";
    (void)accepting;
    (void)n;
    if (from->sa_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)(const void *)from;
        inet_ntop(AF_INET, &in->sin_addr, host, sizeof host);
        snprintf(peer, sizeof peer, "%s:%d", host, ntohs(in->sin_port));
    } else if (from->sa_family == AF_INET6) {
        const struct sockaddr_in6 *in = (const struct sockaddr_in6 *)(const void *)from;
        inet_ntop(AF_INET6, &in->sin6_addr, host, sizeof host);
        snprintf(peer, sizeof peer, "[%s]:%d", host, ntohs(in->sin6_port));
    }
    connection_open(l->h, fd, peer);
}

// Out of descriptors or memory, most likely. The connection stays in the backlog, so the socket stays readable: rest.
static void on_accept_error(struct evconnlistener *accepting, void *arg) {
    listener *l = arg;
    struct timeval rest = {0, RETRY_MS * 1000};
    evconnlistener_disable(accepting);
    evtimer_add(l->retry, &rest);
}

static void on_retry(evutil_socket_t fd, short what, void *arg) {
    listener *l = arg;
    (void)fd;
    (void)what;
    evconnlistener_enable(l->accepting);
}

static listener *add(http *h, int fd) {
    listener *l = xcalloc(1, sizeof *l);
    l->h = h;
    l->accepting =
        evconnlistener_new(h->base, on_accept, l, LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, BACKLOG, fd);
    l->retry = evtimer_new(h->base, on_retry, l);
    check(l->accepting && l->retry); // listen() on a bound socket
    evconnlistener_set_error_cb(l->accepting, on_accept_error);
    l->next = h->listeners;
    h->listeners = l;
    return l;
}

void listener_close_all(http *h) {
    while (h->listeners) {
        listener *l = h->listeners;
        struct stat now;
        h->listeners = l->next;
        if (l->path && lstat(l->path, &now) == 0 && now.st_dev == l->device && now.st_ino == l->inode) unlink(l->path);
        evconnlistener_free(l->accepting);
        event_free(l->retry);
        free(l->path);
        free(l);
    }
}

// ---- unix sockets --------------------------------------------------------------------------------------------------

// Clears the way for a socket file, unless something is there that is not a dead socket.
static bool remove_stale(const char *path, const struct sockaddr_un *address, err *e) {
    struct stat there;
    if (lstat(path, &there) != 0) return true; // whatever else is wrong, bind will say
    if (!S_ISSOCK(there.st_mode)) return fail(e, ERR_IO, "http: '%s' is there already, and is no socket", path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool stale = fd >= 0 && connect(fd, (const void *)address, sizeof *address) != 0 && errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    if (!stale) return fail(e, ERR_IO, "http: another process listens on '%s'", path);
    unlink(path);
    return true;
}

static bool open_unix(http *h, const char *path, err *e) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof address.sun_path)
        return fail(e, ERR_USAGE, "http: a unix socket's path has 1 to %zu bytes", sizeof address.sun_path - 1);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    if (!remove_stale(path, &address, e)) return false;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct stat made;
    // The file is born with the socket's mode: nobody can come in between.
    if (fd < 0 || fchmod(fd, 0600) != 0 || bind(fd, (const void *)&address, sizeof address) != 0 ||
        (h->options.unix_any_user && chmod(path, 0666) != 0) || lstat(path, &made) != 0) {
        int error = errno;
        if (fd >= 0) close(fd);
        return fail(e, ERR_IO, "http: cannot listen on '%s': %s", path, strerror(error));
    }
    listener *l = add(h, fd);
    l->path = xstrdup(path);
    l->device = made.st_dev;
    l->inode = made.st_ino;
    return true;
}

// ---- TCP -----------------------------------------------------------------------------------------------------------

static int set(int fd, int level, int option, int value) { return setsockopt(fd, level, option, &value, sizeof value); }

static bool set_options(const http *h, int fd, int family) {
    // A machine that vanished says nothing: it is asked after half a minute of silence, and what is sent to it and not
    // acknowledged ends the connection as soon as our own write timeout would.
    return set(fd, SOL_SOCKET, SO_REUSEADDR, 1) == 0 && set(fd, IPPROTO_TCP, TCP_NODELAY, 1) == 0 &&
           set(fd, SOL_SOCKET, SO_KEEPALIVE, 1) == 0 && set(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEPALIVE_S) == 0 &&
           set(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEPALIVE_PROBE_S) == 0 && set(fd, IPPROTO_TCP, TCP_KEEPCNT, 3) == 0 &&
           set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, (int)h->options.write_timeout_ms) == 0 &&
           set(fd, IPPROTO_TCP, TCP_NOTSENT_LOWAT, KERNEL_UNSENT_BYTES) == 0 &&
           (family != AF_INET6 || set(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1) == 0);
}

static void note_port(http *h, int fd) {
    struct sockaddr_storage bound;
    socklen_t n = sizeof bound;
    check(getsockname(fd, (void *)&bound, &n) == 0);
    if (h->port == 0)
        h->port = ntohs(bound.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&bound)->sin6_port
                                                    : ((struct sockaddr_in *)&bound)->sin_port);
}

static bool open_one(http *h, const struct addrinfo *at) { // false: errno
    int fd = socket(at->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return false;
    if (!set_options(h, fd, at->ai_family) || bind(fd, at->ai_addr, at->ai_addrlen) != 0 || listen(fd, BACKLOG) != 0) {
        int error = errno;
        close(fd);
        errno = error;
        return false;
    }
    note_port(h, fd);
    add(h, fd);
    return true;
}

// "host:port" or "[host]:port" to its parts. host has room for all of address.
static const char *split(const char *address, char *host) {
    const char *colon = strrchr(address, ':'), *from = address, *to = colon;
    if (!colon || colon == address || !colon[1] || strlen(colon + 1) > 5) return NULL;
    if (colon[1 + strspn(colon + 1, "0123456789")] || atoi(colon + 1) > 65535) return NULL;
    bool bracketed = *from == '[' && to[-1] == ']';
    if (bracketed) from++, to--;
    if (!bracketed && memchr(from, ':', (size_t)(to - from))) return NULL;
    memcpy(host, from, (size_t)(to - from));
    host[to - from] = '\0';
    return colon + 1;
}

static bool open_tcp(http *h, const char *address, err *e) {
    char host[256];
    const char *port = strlen(address) < sizeof host ? split(address, host) : NULL;
    if (!port) return fail(e, ERR_USAGE, "http: '%.80s' is not like 127.0.0.1:8080, [::1]:8080 or unix:/path", address);
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *found;
    int failed = getaddrinfo(host, port, &hints, &found);
    if (failed) return fail(e, ERR_IO, "http: the address '%s' is not known: %s", address, gai_strerror(failed));
    bool opened = false;
    int error = 0;
    for (const struct addrinfo *at = found; at; at = at->ai_next) { // a name may be an IPv4 and an IPv6 address
        if (open_one(h, at))
            opened = true;
        else
            error = errno;
    }
    freeaddrinfo(found);
    return opened || fail(e, ERR_IO, "http: cannot listen on '%s': %s", address, strerror(error));
}

bool listener_open(http *h, const char *address, err *e) {
    return strncmp(address, "unix:", 5) == 0 ? open_unix(h, address + 5, e) : open_tcp(h, address, e);
}
