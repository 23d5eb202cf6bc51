// Implements the TLS of connection.h: a certificate chain and its key become the settings of new connections.
//
// TLS 1.2 and later, with OpenSSL's own choice of ciphers. No renegotiation: it costs the server more than the client.
// SSL_MODE_ENABLE_PARTIAL_WRITE stays off: libevent 2.1 would send the bytes after a partial write out of order.
#include "server/connection.h"

#include <openssl/err.h>

static int no_passphrase(char *text, int n_bytes, int writing, void *arg) { // OpenSSL would ask at the terminal
    (void)text;
    (void)n_bytes;
    (void)writing;
    (void)arg;
    return -1;
}

static SSL_CTX *refuse(SSL_CTX *tls, const char *what, const char *file, err *e) {
    char why[200];
    ERR_error_string_n(ERR_peek_last_error(), why, sizeof why);
    ERR_clear_error();
    SSL_CTX_free(tls);
    return fail_null(e, ERR_IO, "tls: %s '%s' cannot be used: %s", what, file, why);
}

SSL_CTX *tls_open(const char *cert, const char *key, err *e) {
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    check(tls != NULL);
    check(SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION) == 1);
    // an end without close_notify is an end: HTTP's messages tell their length themselves
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS); // 34 KiB of each idle connection
    SSL_CTX_set_default_passwd_cb(tls, no_passphrase);
    if (SSL_CTX_use_certificate_chain_file(tls, cert) != 1) return refuse(tls, "the certificate", cert, e);
    if (SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1) return refuse(tls, "the key", key, e);
    return tls;
}
