/* A client and a server over wolfSSL. Arguments are words key=value, see tests/interop/peers/own.py; and
 *     cookie=1      demand one in a HelloRetryRequest
 *     update=<n>    send a KeyUpdate, which asks for another, before turn n
 * suites are in wolfSSL's spelling, groups are code points. Without role= it prints what this build is.
 */
#define _GNU_SOURCE /* memmem */
#include <wolfssl/options.h>
#include <wolfssl/ssl.h>
#include <wolfssl/version.h>

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#define MAX_WORDS 64
#define MAX_GROUPS 16
#define TIMEOUT_SECONDS 20

static const char HELLO[] = "pellucid interop: hello\n";

static char *words[MAX_WORDS];
static int word_count;
static int psk_was_used;

typedef struct {
    char *data;
    size_t size, room;
} Buffer;

static void fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfprintf(stderr, format, arguments);
    va_end(arguments);
    fputc('\n', stderr);
    exit(1);
}

/* The value of a word, "" without one. */
static const char *word(const char *key) {
    size_t length = strlen(key);
    for (int at = 0; at < word_count; at++) {
        if (strncmp(words[at], key, length) == 0 && words[at][length] == '=') {
            return words[at] + length + 1;
        }
    }
    return "";
}

static int is_server(void) { return strcmp(word("role"), "server") == 0; }

/* Say on stderr what went wrong, in the library's words, with the alert if one came. */
static void complain(WOLFSSL *ssl, const char *what, int result) {
    WOLFSSL_ALERT_HISTORY alerts;
    int error = wolfSSL_get_error(ssl, result);
    fprintf(stderr, "%s: %s (%d)", what, wolfSSL_ERR_reason_error_string((unsigned long)error), error);
    if (wolfSSL_get_alert_history(ssl, &alerts) == WOLFSSL_SUCCESS && alerts.last_rx.code >= 0) {
        const char *name = wolfSSL_alert_desc_string_long(alerts.last_rx.code);
        if (alerts.last_rx.code == 116) { /* it has no name for it */
            name = "certificate_required";
        }
        fprintf(stderr, ", alert: %s (%d)", name ? name : "", alerts.last_rx.code);
    }
    fputc('\n', stderr);
}

/* ---- configuration ---- */

static unsigned int psk(unsigned char *key, unsigned int room, const char **suite) {
    const char *hex = word("psk");
    unsigned int size = (unsigned int)strlen(hex) / 2;
    if (size > room) {
        return 0;
    }
    for (unsigned int at = 0; at < size; at++) {
        unsigned int octet;
        if (sscanf(hex + 2 * at, "%2x", &octet) != 1) {
            return 0;
        }
        key[at] = (unsigned char)octet;
    }
    *suite = "TLS13-AES128-GCM-SHA256";
    psk_was_used = 1;
    return size;
}

static unsigned int client_psk(WOLFSSL *ssl, const char *hint, char *identity, unsigned int identity_room,
                               unsigned char *key, unsigned int room, const char **suite) {
    (void)ssl, (void)hint;
    snprintf(identity, identity_room, "%s", word("psk_identity"));
    return psk(key, room, suite);
}

static unsigned int server_psk(WOLFSSL *ssl, const char *identity, unsigned char *key, unsigned int room,
                               const char **suite) {
    (void)ssl;
    return strcmp(identity, word("psk_identity")) == 0 ? psk(key, room, suite) : 0;
}

static int group_list(int *groups) {
    int count = 0;
    for (const char *at = word("groups"); *at && count < MAX_GROUPS; at += strcspn(at, ","), at += *at == ',') {
        groups[count++] = atoi(at);
    }
    return count;
}

static WOLFSSL_CTX *new_context(void) {
    WOLFSSL_CTX *context = wolfSSL_CTX_new(is_server() ? wolfTLSv1_3_server_method() : wolfTLSv1_3_client_method());
    const char *mode = word("client_authentication");
    int groups[MAX_GROUPS], count = group_list(groups);
    if (context == NULL) {
        fail("no context");
    }
    if (*word("certificate") &&
        (wolfSSL_CTX_use_certificate_chain_file(context, word("certificate")) != WOLFSSL_SUCCESS ||
         wolfSSL_CTX_use_PrivateKey_file(context, word("key"), WOLFSSL_FILETYPE_PEM) != WOLFSSL_SUCCESS)) {
        fail("the certificate or its key cannot be used");
    }
    if (wolfSSL_CTX_load_verify_locations(context, word("ca"), NULL) != WOLFSSL_SUCCESS) {
        fail("the CA cannot be used");
    }
    int verify = WOLFSSL_VERIFY_PEER; /* by default this build's client verifies nobody */
    if (is_server() && strcmp(mode, "required") == 0) {
        verify |= WOLFSSL_VERIFY_FAIL_IF_NO_PEER_CERT;
    } else if (is_server() && strcmp(mode, "none") == 0) {
        verify = WOLFSSL_VERIFY_NONE;
    }
    wolfSSL_CTX_set_verify(context, verify, NULL);
    if (*word("suites") && wolfSSL_CTX_set_cipher_list(context, word("suites")) != WOLFSSL_SUCCESS) {
        fail("the cipher suites cannot be used");
    }
    if (count && wolfSSL_CTX_set_groups(context, groups, count) != WOLFSSL_SUCCESS) {
        fail("the groups cannot be used");
    }
    if (*word("psk")) {
        if (is_server()) {
            wolfSSL_CTX_set_psk_server_tls13_callback(context, server_psk);
        } else {
            wolfSSL_CTX_set_psk_client_tls13_callback(context, client_psk);
        }
        if (strcmp(word("psk_mode"), "psk_ke") == 0) {
            wolfSSL_CTX_no_dhe_psk(context);
        }
    }
    return context;
}

static WOLFSSL *new_connection(WOLFSSL_CTX *context, int socket) {
    WOLFSSL *ssl = wolfSSL_new(context);
    struct timeval timeout = {TIMEOUT_SECONDS, 0};
    char alpn[256];
    if (ssl == NULL) {
        fail("no connection");
    }
    setsockopt(socket, SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout);
    wolfSSL_set_fd(ssl, socket);
    snprintf(alpn, sizeof alpn, "%s", word("alpn"));
    if (*alpn) {
        wolfSSL_UseALPN(ssl, alpn, (unsigned int)strlen(alpn), WOLFSSL_ALPN_FAILED_ON_MISMATCH);
    }
    return ssl;
}

static void print_facts(WOLFSSL *ssl) {
    char *alpn = NULL;
    unsigned short alpn_size = 0;
    WOLFSSL_X509 *certificate = wolfSSL_get_peer_certificate(ssl);
    const char *group = wolfSSL_get_curve_name(ssl);
    int by_psk = psk_was_used && (is_server() || certificate == NULL);
    printf("suite=%s\n", wolfSSL_get_cipher(ssl));
    printf("group=%s\n", group ? group : "");
    wolfSSL_ALPN_GetProtocol(ssl, &alpn, &alpn_size);
    printf("alpn=%.*s\n", (int)alpn_size, alpn ? alpn : "");
    printf("resumed=%d\n", wolfSSL_session_reused(ssl) && !by_psk);
    printf("psk=%d\n", by_psk);
    if (is_server()) {
        /* It does not give out Ed25519 certificates as such, but they are in the chain. */
        WOLFSSL_X509_CHAIN *chain = wolfSSL_get_peer_chain(ssl);
        printf("client_certificate=%d\n", certificate != NULL || (chain != NULL && wolfSSL_get_chain_count(chain) > 0));
    }
    fflush(stdout);
    wolfSSL_X509_free(certificate);
}

/* ---- a little HTTP ---- */

/* Read once; returns how much came, 0 at the end, less after an error. */
static int receive(WOLFSSL *ssl, Buffer *buffer) {
    int count;
    if (buffer->room - buffer->size < 16384) {
        buffer->room = 2 * buffer->room + 65536;
        buffer->data = realloc(buffer->data, buffer->room);
        if (buffer->data == NULL) {
            fail("no memory");
        }
    }
    count = wolfSSL_read(ssl, buffer->data + buffer->size, 16384);
    if (count > 0) {
        buffer->size += (size_t)count;
    } else if (wolfSSL_get_error(ssl, count) == WOLFSSL_ERROR_ZERO_RETURN) {
        return 0;
    } else {
        complain(ssl, "reading", count);
        return -1;
    }
    return count;
}

static void take(Buffer *buffer, size_t size) {
    buffer->size -= size;
    memmove(buffer->data, buffer->data + size, buffer->size);
}

/* Whether the buffer begins with a whole message: then where its body is. */
static int message(const Buffer *buffer, size_t *body, size_t *length) {
    const char *end = buffer->size ? memmem(buffer->data, buffer->size, "\r\n\r\n", 4) : NULL;
    if (end == NULL) {
        return 0;
    }
    *body = (size_t)(end - buffer->data) + 4;
    *length = 0;
    for (const char *line = buffer->data; line < end; line = memchr(line, '\n', (size_t)(end + 4 - line)), line++) {
        if (strncasecmp(line, "content-length:", 15) == 0) {
            *length = strtoul(line + 15, NULL, 10);
        }
    }
    return buffer->size >= *body + *length;
}

static int write_all(WOLFSSL *ssl, const char *data, size_t size) {
    while (size) {
        int count = wolfSSL_write(ssl, data, size > 16384 ? 16384 : (int)size);
        if (count <= 0) {
            complain(ssl, "writing", count);
            return 0;
        }
        data += count;
        size -= (size_t)count;
    }
    return 1;
}

static void update_before(WOLFSSL *ssl, int turn) {
    if (*word("update") && atoi(word("update")) == turn && wolfSSL_update_keys(ssl) != WOLFSSL_SUCCESS) {
        fprintf(stderr, "no KeyUpdate could be sent\n");
    }
}

/* ---- the two roles ---- */

static void serve_one(WOLFSSL *ssl) {
    Buffer buffer = {NULL, 0, 0};
    int result = wolfSSL_accept(ssl), last = 0;
    if (result != WOLFSSL_SUCCESS) {
        complain(ssl, "accepting", result);
        return;
    }
    print_facts(ssl);
    for (int turn = 0; !last; turn++) {
        size_t body, length;
        char head[128];
        int count = 1, posted;
        while (!message(&buffer, &body, &length) && (count = receive(ssl, &buffer)) > 0) {
        }
        if (count <= 0) {
            break;
        }
        posted = strncmp(buffer.data, "POST", 4) == 0;
        last = memmem(buffer.data, body, "Connection: close", 17) != NULL;
        update_before(ssl, turn);
        snprintf(head, sizeof head, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", posted ? length : strlen(HELLO));
        if (!write_all(ssl, head, strlen(head)) ||
            !write_all(ssl, posted ? buffer.data + body : HELLO, posted ? length : strlen(HELLO))) {
            break;
        }
        take(&buffer, body + length);
    }
    wolfSSL_shutdown(ssl);
    free(buffer.data);
}

static void serve(WOLFSSL_CTX *context) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&address, size) || listen(listener, 16) ||
        getsockname(listener, (struct sockaddr *)&address, &size)) {
        fail("no port to listen at");
    }
    printf("port=%d\n", ntohs(address.sin_port));
    fflush(stdout);
    for (;;) {
        int socket = accept(listener, NULL, NULL);
        WOLFSSL *ssl = new_connection(context, socket);
        char rest[4096];
        if (*word("cookie")) {
            wolfSSL_send_hrr_cookie(ssl, NULL, 0);
        }
        psk_was_used = 0;
        serve_one(ssl);
        wolfSSL_free(ssl);
        /* A socket that is closed with something unread in it resets the connection, and the alert may be lost. */
        shutdown(socket, SHUT_WR);
        while (read(socket, rest, sizeof rest) > 0) {
        }
        close(socket);
    }
}

static void take_turn(WOLFSSL *ssl, const char *turn, Buffer *buffer) {
    char path[4096];
    const char *size = strrchr(turn, ':') + 1;
    Buffer send = {NULL, 0, 0};
    size_t body = 0, length = strtoul(size, NULL, 10);
    FILE *file;
    snprintf(path, sizeof path, "%.*s", (int)(size - 1 - turn), turn);
    file = fopen(path, "rb");
    if (file == NULL) {
        fail("%s cannot be read", path);
    }
    fseek(file, 0, SEEK_END);
    send.size = (size_t)ftell(file);
    send.data = malloc(send.size + 1);
    rewind(file);
    if (send.data == NULL || fread(send.data, 1, send.size, file) != send.size) {
        fail("%s cannot be read", path);
    }
    fclose(file);
    if (!write_all(ssl, send.data, send.size)) {
        exit(1);
    }
    free(send.data);
    while (strcmp(size, "http") == 0 ? !message(buffer, &body, &length) : buffer->size < length) {
        if (receive(ssl, buffer) <= 0) {
            fail("the stream ended in the middle of an answer");
        }
    }
    strncat(path, ".answer", sizeof path - strlen(path) - 1);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(buffer->data + body, 1, length, file) != length || fclose(file)) {
        fail("%s cannot be written", path);
    }
    take(buffer, body + length);
}

static WOLFSSL_SESSION *connect_once(WOLFSSL_CTX *context, WOLFSSL_SESSION *session) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    int connection = socket(AF_INET, SOCK_STREAM, 0), groups[MAX_GROUPS], result, turn = 0;
    const char *name = word("name");
    Buffer buffer = {NULL, 0, 0};
    WOLFSSL *ssl;
    address.sin_port = htons((unsigned short)atoi(word("port")));
    if (connect(connection, (struct sockaddr *)&address, sizeof address)) {
        fail("nobody listens");
    }
    ssl = new_connection(context, connection);
    wolfSSL_UseSNI(ssl, WOLFSSL_SNI_HOST_NAME, name, (unsigned short)strlen(name));
    wolfSSL_check_domain_name(ssl, name);
    if (group_list(groups)) {
        wolfSSL_UseKeyShare(ssl, (unsigned short)groups[0]);
    }
    if (session != NULL) {
        wolfSSL_set_session(ssl, session);
        wolfSSL_SESSION_free(session);
    }
    result = wolfSSL_connect(ssl);
    if (result != WOLFSSL_SUCCESS) {
        complain(ssl, "connecting", result);
        exit(1);
    }
    for (int at = 0; at < word_count; at++) {
        if (strncmp(words[at], "turn=", 5) == 0) {
            update_before(ssl, turn++);
            take_turn(ssl, words[at] + 5, &buffer);
        }
    }
    print_facts(ssl);
    session = wolfSSL_get1_session(ssl);
    wolfSSL_shutdown(ssl);
    wolfSSL_free(ssl);
    close(connection);
    free(buffer.data);
    return session;
}

int main(int count, char **arguments) {
    WOLFSSL_CTX *context;
    word_count = count - 1 < MAX_WORDS ? count - 1 : MAX_WORDS;
    for (int at = 0; at < word_count; at++) {
        words[at] = arguments[at + 1];
    }
    if (!*word("role")) {
        printf("wolfSSL %s\n", LIBWOLFSSL_VERSION_STRING);
#ifdef WOLFSSL_EARLY_DATA
        printf("early data\n");
#endif
        return 0;
    }
    wolfSSL_Init();
    context = new_context();
    if (is_server()) {
        serve(context);
    } else {
        WOLFSSL_SESSION *session = NULL;
        for (int left = atoi(word("connections")); left; left--) {
            session = connect_once(context, session);
        }
        wolfSSL_SESSION_free(session);
    }
    wolfSSL_CTX_free(context);
    return 0;
}
