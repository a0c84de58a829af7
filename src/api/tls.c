/* tls.c: the certificate and the key that handshakes get, read again while the server runs.
 *
 * libmicrohttpd keeps what it is given at its start, so it is given nothing but a callback, which hands out the newest pair. A handshake that began
 * with an older pair may still use it, and nobody says when it ends: pairs are freed with the server. There are as many as reloads: some kilobytes
 * each, once a month. The callback gets no argument of ours, hence the one static pointer: a process has one server.
 *
 * THREADS  tls_load() on one thread; choose() on the network threads. */
#include <gnutls/abstract.h>
#include <gnutls/gnutls.h>
#include <openssl/crypto.h>

#include "api/api_int.h"

#define PEM_BYTES_MAX (1u << 20)
#define CHAIN_MAX 16

struct tls_pair {
    struct tls_pair *older;
    gnutls_pcert_st chain[CHAIN_MAX];
    unsigned chain_count;
    gnutls_privkey_t key;
};
static _Atomic(struct tls_pair *) newest; /* release in tls_load(), acquire in choose() */

static int choose(gnutls_session_t session, const gnutls_datum_t *authorities, int authorities_count,
                  const gnutls_pk_algorithm_t *algorithms, int algorithms_count, gnutls_pcert_st **chain,
                  unsigned *chain_count, gnutls_privkey_t *key)
{
    struct tls_pair *p = atomic_load_explicit(&newest, memory_order_acquire);
    (void)session, (void)authorities, (void)authorities_count, (void)algorithms, (void)algorithms_count;

    *chain = p->chain;
    *chain_count = p->chain_count;
    *key = p->key;
    return 0;
}

tls_choose_fn *tls_choose(void)
{
    return choose;
}

static void pair_free(struct tls_pair *p)
{
    for (unsigned i = 0; i < p->chain_count; i++)
        gnutls_pcert_deinit(&p->chain[i]);
    if (p->key)
        gnutls_privkey_deinit(p->key);
    free(p);
}

/* Whether they belong together only a set of credentials says. */
static int check(const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
    gnutls_certificate_credentials_t both;
    int rc = gnutls_certificate_allocate_credentials(&both);

    if (rc < 0)
        return rc;
    rc = gnutls_certificate_set_x509_key_mem(both, cert, key, GNUTLS_X509_FMT_PEM);
    gnutls_certificate_free_credentials(both);
    return rc;
}

static int pair_fill(struct tls_pair *p, const gnutls_datum_t *cert, const gnutls_datum_t *key)
{
    unsigned count = CHAIN_MAX;
    int rc = check(cert, key);

    if (rc >= 0)
        rc = gnutls_pcert_list_import_x509_raw(p->chain, &count, cert, GNUTLS_X509_FMT_PEM, 0);
    if (rc >= 0) {
        p->chain_count = count;
        rc = gnutls_privkey_init(&p->key);
    }
    return rc < 0 ? rc : gnutls_privkey_import_x509_raw(p->key, key, GNUTLS_X509_FMT_PEM, NULL, 0);
}

static enum err_code read_pem(const char *path, gnutls_datum_t *out, struct err *err)
{
    size_t len;

    TRY(os_read_file(os_real(), path, PEM_BYTES_MAX, &out->data, &len, err));
    out->size = (unsigned)len;
    return ERR_OK;
}

enum err_code tls_load(const char *cert_path, const char *key_path, struct err *err)
{
    gnutls_datum_t cert = {NULL, 0}, key = {NULL, 0};
    enum err_code rc = read_pem(cert_path, &cert, err);

    if (rc == ERR_OK)
        rc = read_pem(key_path, &key, err);
    if (rc == ERR_OK) {
        struct tls_pair *p = mem_zalloc(sizeof(*p));
        int tls_rc = pair_fill(p, &cert, &key);
        if (tls_rc < 0) {
            pair_free(p);
            rc = err_set(err, ERR_INVALID,
                         "TLS: certificate %s and key %s are no PEM files or do not belong together: %s", cert_path,
                         key_path, gnutls_strerror(tls_rc));
        } else {
            p->older = atomic_load(&newest);
            atomic_store_explicit(&newest, p, memory_order_release);
        }
    }
    if (key.data)
        OPENSSL_cleanse(key.data, key.size);
    free(cert.data);
    free(key.data);
    return rc;
}

void tls_done(void)
{
    struct tls_pair *p = atomic_exchange(&newest, NULL);

    while (p) {
        struct tls_pair *older = p->older;
        pair_free(p);
        p = older;
    }
}
