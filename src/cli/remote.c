// Implements remote.h: addresses, connections, and what goes over them.
#include "cli/remote.h"

#include "cli/cli.h"
#include "cli/text_input.h"

#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static const char DEFAULT_HOST[] = "127.0.0.1:8080";
static const size_t MAX_REPLY_BYTES = (size_t)64 << 20;

struct remote {
    char *name, *host, *port, *prefix; // prefix: of paths, "" or "/below"
    char *secret;                      // NULL: none
    bool is_unix;                      // host is the socket's path
    SSL_CTX *tls;                      // NULL: plain
};

typedef struct connection {
    int fd;
    SSL *tls; // NULL: plain
} connection;

// ---- the command line --------------------------------------------------------------------------------------------

enum { OPT_HOST = 256, OPT_KEY_FILE, OPT_CA_FILE };

static const struct argp_option OPTIONS[] = {
    {"host", OPT_HOST, "ADDRESS", 0,
     "a running server: HOST:PORT, an http or https URL, or unix:PATH (status, cancel: 127.0.0.1:8080)", 0},
    {"api-key-file", OPT_KEY_FILE, "FILE", 0,
     "its first line is the key, SECRET or NAME:SECRET (default: the environment's ROCMFORGE_API_KEY)", 0},
    {"ca-file", OPT_CA_FILE, "FILE", 0, "certificates (PEM) that vouch for the server (default: the system's)", 0},
    {0},
};

static error_t parse(int key, char *arg, struct argp_state *state) {
    remote_options *o = state->input;
    switch (key) {
    case ARGP_KEY_INIT:
        return o->key = getenv("ROCMFORGE_API_KEY"), 0;
    case OPT_HOST:
        return o->host = arg, 0;
    case OPT_KEY_FILE:
        return o->key_file = arg, 0;
    case OPT_CA_FILE:
        return o->ca_file = arg, 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp REMOTE_ARGP = {OPTIONS, parse, NULL, NULL, NULL, NULL, NULL};

// ---- addresses and keys ------------------------------------------------------------------------------------------

static bool read_address(remote *r, const char *address, bool *secure, err *e) {
    const char *at = address, *port = "8080";
    *secure = strncmp(at, "https://", 8) == 0;
    r->name = xstrdup(address);
    if (strncmp(at, "unix:", 5) == 0) {
        r->is_unix = true, r->host = xstrdup(at + 5), r->prefix = xstrdup("");
        return *r->host || fail(e, ERR_USAGE, "--host 'unix:' names no socket; unix:PATH was expected");
    }
    if (*secure || strncmp(at, "http://", 7) == 0) at += *secure ? 8 : 7, port = *secure ? "443" : "80";
    size_t n = strcspn(at, "/");
    r->prefix = xstrdup(at + n);
    size_t n_prefix = strlen(r->prefix);
    if (n_prefix && r->prefix[n_prefix - 1] == '/') r->prefix[n_prefix - 1] = 0;
    r->host = xstrdup(at);
    r->host[n] = 0;
    char *colon = strrchr(r->host, ':'), *bracket = strchr(r->host, ']');
    if (colon && (bracket ? colon > bracket : colon == strchr(r->host, ':'))) *colon = 0, port = colon + 1;
    r->port = xstrdup(port);
    if (bracket && *r->host == '[') *bracket = 0, memmove(r->host, r->host + 1, strlen(r->host));
    bool good = *r->host && *r->port && !strpbrk(address, " \t\r\n?#@");
    return good || fail(e, ERR_USAGE, "--host '%.100s' is not like HOST:PORT, http://HOST:PORT or unix:PATH", address);
}

// The first line; what follows a colon, as in the server's file of keys.
static bool read_key(remote *r, const remote_options *o, err *e) {
    text_input file = {.file = o->key_file};
    if (!o->key_file && !(o->key && *o->key)) return true;
    if (o->key_file && !text_input_read(&file, e)) return false;
    char *line = o->key_file ? file.bytes : xstrdup(o->key);
    line[strcspn(line, "\r\n")] = 0;
    const char *colon = o->key_file ? strchr(line, ':') : NULL, *secret = colon ? colon + 1 : line;
    r->secret = xstrdup(secret);
    bool good = *secret != 0;
    for (const char *s = secret; *s; s++) good &= *s > ' ' && *s < 0x7f;
    free(line);
    return good || fail(e, ERR_USAGE, "the API key %s%s is not a word of visible ASCII characters",
                        o->key_file ? "in " : "of ROCMFORGE_API_KEY", o->key_file ? o->key_file : "");
}

static bool open_tls(remote *r, const char *ca_file, err *e) {
    check((r->tls = SSL_CTX_new(TLS_client_method())));
    check(SSL_CTX_set_min_proto_version(r->tls, TLS1_2_VERSION) == 1);
    SSL_CTX_set_verify(r->tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_options(r->tls, SSL_OP_IGNORE_UNEXPECTED_EOF); // what is whole is told by what was read
    if (ca_file ? SSL_CTX_load_verify_file(r->tls, ca_file) : SSL_CTX_set_default_verify_paths(r->tls)) return true;
    return fail(e, ERR_IO, "cannot read certificates from '%s'", ca_file ? ca_file : "the system's store");
}

remote *remote_open(const remote_options *o, err *e) {
    signal(SIGPIPE, SIG_IGN);
    remote *r = xcalloc(1, sizeof *r);
    bool secure;
    if (read_address(r, o->host ? o->host : DEFAULT_HOST, &secure, e) && read_key(r, o, e) &&
        (!secure || open_tls(r, o->ca_file, e)))
        return r;
    remote_close(r);
    return NULL;
}

void remote_close(remote *r) {
    if (!r) return;
    SSL_CTX_free(r->tls);
    if (r->secret) OPENSSL_cleanse(r->secret, strlen(r->secret));
    free(r->name), free(r->host), free(r->port), free(r->prefix), free(r->secret), free(r);
}

const char *remote_name(const remote *r) { return r->name; }

// ---- connections -------------------------------------------------------------------------------------------------

static int connect_unix(const char *path) {
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof to.sun_path) return errno = ENAMETOOLONG, -1;
    strcpy(to.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || connect(fd, (const void *)&to, sizeof to) == 0) return fd;
    int error = errno;
    close(fd);
    return errno = error, -1;
}

static int connect_tcp(const remote *r, err *e) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found;
    int failed = getaddrinfo(r->host, r->port, &hints, &found), fd = -1, error = 0;
    if (failed) return fail(e, ERR_IO, "cannot find '%s': %s", r->name, gai_strerror(failed)), -1;
    for (const struct addrinfo *at = found; at && fd < 0; at = at->ai_next) {
        fd = socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
        if (fd >= 0 && connect(fd, at->ai_addr, at->ai_addrlen) == 0) break;
        error = errno;
        if (fd >= 0) close(fd);
        fd = -1;
    }
    freeaddrinfo(found);
    const int on = 1; // a server that vanished is noticed, after minutes
    if (fd >= 0) setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    return errno = error, fd;
}

// The server must be the one that its name says.
static bool shake_hands(const remote *r, connection *c, err *e) {
    check((c->tls = SSL_new(r->tls)) && SSL_set_fd(c->tls, c->fd) == 1);
    bool is_ip = X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(c->tls), r->host) == 1;
    if (!is_ip) check(SSL_set1_host(c->tls, r->host) == 1 && SSL_set_tlsext_host_name(c->tls, r->host) == 1);
    if (SSL_connect(c->tls) == 1) return true;
    long bad = SSL_get_verify_result(c->tls);
    const char *why = ERR_reason_error_string(ERR_peek_last_error());
    if (bad != X509_V_OK) why = X509_verify_cert_error_string(bad);
    return fail(e, ERR_IO, "no secure connection to %s: %s", r->name, why ? why : "it closed the connection");
}

static void hang_up(connection *c) {
    SSL_free(c->tls);
    if (c->fd >= 0) close(c->fd);
}

static bool connect_to(const remote *r, connection *c, err *e) {
    *c = (connection){.fd = r->is_unix ? connect_unix(r->host) : connect_tcp(r, e)};
    if (c->fd < 0) return fail(e, ERR_IO, "cannot connect to %s: %s", r->name, strerror(errno));
    if (!r->tls || shake_hands(r, c, e)) return true;
    hang_up(c);
    return false;
}

// A server that refuses may close before it has read all; its reply says why, so a failure to send is not the end.
static void send_all(const connection *c, const buf *b) {
    for (size_t at = 0; at < b->n_bytes;) {
        size_t left = b->n_bytes - at, most = left < 1 << 20 ? left : 1 << 20;
        ssize_t n = c->tls ? SSL_write(c->tls, b->data + at, (int)most) : write(c->fd, b->data + at, most);
        if (n <= 0 && (c->tls || errno != EINTR)) return;
        at += n > 0 ? (size_t)n : 0;
    }
}

static void send_request(const remote *r, const connection *c, const char *path, const char *body) {
    buf b = {0};
    buf_printf(&b, "%s %s%s HTTP/1.0\r\n", body ? "POST" : "GET", r->prefix, path);
    bool bracketed = !r->is_unix && strchr(r->host, ':');
    if (r->is_unix)
        buf_append_str(&b, "Host: localhost\r\n");
    else
        buf_printf(&b, bracketed ? "Host: [%s]:%s\r\n" : "Host: %s:%s\r\n", r->host, r->port);
    if (r->secret) buf_printf(&b, "Authorization: Bearer %s\r\n", r->secret);
    if (body) buf_printf(&b, "Content-Type: application/json\r\nContent-Length: %zu\r\n", strlen(body));
    buf_append_str(&b, "Accept: */*\r\n\r\n");
    if (body) buf_append_str(&b, body);
    send_all(c, &b);
    if (r->secret) OPENSSL_cleanse(b.data, b.n_bytes);
    buf_free(&b);
}

// ---- replies -----------------------------------------------------------------------------------------------------

// Bytes read, 0 at the end, -1 and errno; -2: the bell rang instead.
static ssize_t read_some(const connection *c, int bell, char *bytes, size_t n) {
    struct pollfd both[2] = {{.fd = c->fd, .events = POLLIN}, {.fd = bell, .events = POLLIN}};
    for (;;) {
        bool pending = c->tls && SSL_pending(c->tls) > 0;
        if (poll(both, 2, pending ? 0 : -1) < 0 && errno != EINTR) return -1;
        if (both[1].revents) return -2;
        if (!pending && !both[0].revents) continue;
        ssize_t got = c->tls ? SSL_read(c->tls, bytes, (int)n) : read(c->fd, bytes, n);
        if (got >= 0 || (!c->tls && errno != EINTR)) return got;
        if (c->tls) return SSL_get_error(c->tls, (int)got) == SSL_ERROR_ZERO_RETURN ? 0 : (errno = EPROTO, -1);
    }
}

// The status line and headers go from the front of the body; false and *e if they are none. Nothing while not whole.
static bool take_head(const remote *r, remote_reply *reply, err *e) {
    const char *end = reply->body.n_bytes ? strstr(reply->body.data, "\r\n\r\n") : NULL;
    if (!end) return reply->body.n_bytes < 65536 || fail(e, ERR_FORMAT, "%s does not speak HTTP", r->name);
    int minor;
    if (sscanf(reply->body.data, "HTTP/1.%d %3d", &minor, &reply->status) != 2 || reply->status < 200)
        return fail(e, ERR_FORMAT, "%s does not speak HTTP", r->name);
    const char *coding = strcasestr(reply->body.data, "\r\nTransfer-Encoding:");
    if (coding && coding < end) return fail(e, ERR_FORMAT, "%s answers HTTP/1.0 in chunks", r->name);
    buf_drop_front(&reply->body, (size_t)(end + 4 - reply->body.data));
    return true;
}

// False: the reader has hung up.
static bool take_lines(const remote_reader *reader, buf *body) {
    char *line = body->data, *end;
    bool goes_on = true;
    for (; goes_on && body->n_bytes && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        if (end > line && end[-1] == '\r') end[-1] = 0;
        goes_on = reader->line(reader->self, line);
    }
    if (body->n_bytes) buf_drop_front(body, (size_t)(line - body->data));
    return goes_on;
}

static bool read_reply(const remote *r, const connection *c, const remote_reader *reader, remote_reply *reply, err *e) {
    char bytes[16384];
    for (;;) {
        ssize_t n = read_some(c, reader ? reader->bell : -1, bytes, sizeof bytes);
        if (n == -2 && reader->rung(reader->self)) continue;
        if (n == -2) return true;
        if (n < 0) return fail(e, ERR_IO, "the connection to %s broke: %s", r->name, strerror(errno));
        if (n == 0) return reply->status || fail(e, ERR_IO, "%s closed the connection without a reply", r->name);
        buf_append(&reply->body, bytes, (size_t)n);
        if (!reply->status && !take_head(r, reply, e)) return false;
        if (reader && reply->status == 200 && !take_lines(reader, &reply->body)) return true;
        if (reply->body.n_bytes > MAX_REPLY_BYTES) return fail(e, ERR_TOO_LONG, "the reply of %s is too long", r->name);
    }
}

bool remote_stream(const remote *r, const char *path, const char *body, const remote_reader *reader,
                   remote_reply *reply, err *e) {
    connection c;
    *reply = (remote_reply){0};
    if (!connect_to(r, &c, e)) return false;
    if (reader) reader->begins(reader->self);
    send_request(r, &c, path, body);
    bool good = read_reply(r, &c, reader, reply, e);
    hang_up(&c);
    return good;
}

bool remote_ask(const remote *r, const char *path, const char *body, remote_reply *reply, err *e) {
    return remote_stream(r, path, body, NULL, reply, e);
}

void remote_reply_free(remote_reply *reply) { buf_free(&reply->body); }

bool remote_refused(const remote *r, const remote_reply *reply, err *e) {
    json_t *root = json_loadb(reply->body.n_bytes ? reply->body.data : "", reply->body.n_bytes, 0, NULL);
    const json_t *error = json_object_get(root, "error");
    const char *message = json_string_value(json_object_get(error, "message"));
    const char *code = json_string_value(json_object_get(error, "code"));
    bool is_usage = code && (strcmp(code, "invalid_value") == 0 || strcmp(code, "invalid_type") == 0);
    if (message)
        fail(e, is_usage ? ERR_USAGE : ERR_STOPPED, "%s", message);
    else
        fail(e, ERR_STOPPED, "%s answers with status %d", r->name, reply->status);
    json_decref(root);
    return false;
}
