/* A closed-loop load of chat requests: each connection sends one, reads the whole answer, and sends the next.
 *
 *   load PORT CONNECTIONS SECONDS EVENTS GAP_US PROMPT_BYTES SPREAD_MS
 *
 * Each request has a number of its own in its prompt. EVENTS 0 asks for whole JSON answers, any other number for streams of so many events, GAP_US apart; upstream.c
 * answers. The first requests of the connections are spread evenly over SPREAD_MS, so that paced streams are not all
 * due at the same moment. It ends after SECONDS, MOST_REQUESTS or MOST_FAILURES, whichever comes first, and at the
 * latest GRACE_S later, whether or not the last answers have come.
 *
 * Prints one line of JSON. A request has failed when its answer is no 200, breaks off, never comes, or is a stream
 * without [DONE]. Times are in milliseconds: "total" of a whole exchange, "first_event" from sending a request to the
 * first event of its answer, "event_delay" from the moment at which upstream.c sent an event to its arrival here.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MOST_REQUESTS 5000000u
#define MOST_FAILURES 1000u
#define GRACE_S 10u
#define ANSWER_ROOM (1 << 20)
#define SERIAL_DIGITS 8

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

/* Times are counted in buckets that are 1/128 of their power of two wide: fixed memory, and less than 1 % of error. */

typedef struct { uint64_t count, in_bucket[58 * 128]; } Times;

static Times total, first_event, event_delay;

static void note(Times *times, uint64_t ns) {
    int shift = ns < 128 ? 0 : 63 - __builtin_clzll(ns) - 7;
    times->in_bucket[(size_t)shift * 128 + (ns >> shift)]++;
    times->count++;
}

static double quantile_ms(const Times *times, double q) {
    uint64_t wanted = (uint64_t)(q * (double)(times->count - 1)), seen = 0;
    for (size_t bucket = 0; bucket < sizeof times->in_bucket / sizeof *times->in_bucket; bucket++) {
        seen += times->in_bucket[bucket];
        if (seen > wanted) {
            size_t shift = bucket < 256 ? 0 : bucket / 128 - 1;
            return (double)((uint64_t)(bucket - shift * 128) << shift) / 1e6;
        }
    }
    return 0;
}

static void print_times(const char *name, const Times *times) {
    if (times->count == 0) printf(",\"%s\":null", name);
    else printf(",\"%s\":{\"p50\":%.4f,\"p99\":%.4f}", name, quantile_ms(times, 0.5), quantile_ms(times, 0.99));
}

/* One connection and the answer that it is reading. */

typedef struct {
    int fd;
    char *answer; /* With room for a closing NUL. */
    size_t bytes, scanned, head_bytes;
    uint64_t sent_ns;
    bool has_event, is_done;
} Connection;

static int port, events;
static char *request, *serial;
static size_t request_length;
static int epoll_fd, live;
static uint64_t began_ns, end_ns;
static uint64_t requests_done, requests_failed, events_seen;

static void open_connection(Connection *c) {
    int on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
    };
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0) die("socket");
    if (connect(c->fd, (struct sockaddr *)&address, sizeof address) != 0) die("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, c->fd, &e);
}

static void retire(Connection *c) {
    c->is_done = true;
    live--;
}

/* No two requests are the same, so that no answer and no decision can be one that is kept. */
static void number_request(void) {
    static uint64_t count;
    char digits[SERIAL_DIGITS + 1];
    snprintf(digits, sizeof digits, "%0*u", SERIAL_DIGITS, (unsigned)(count++ % 100000000u));
    memcpy(serial, digits, SERIAL_DIGITS);
}

static void send_request(Connection *c) {
    c->bytes = c->scanned = c->head_bytes = 0;
    c->has_event = false;
    number_request();
    c->sent_ns = now_ns();
    /* A write that fails is seen by the next read: it finds the connection closed. */
    for (size_t sent = 0; sent < request_length;) {
        ssize_t count = send(c->fd, request + sent, request_length - sent, MSG_NOSIGNAL);
        if (count <= 0) break;
        sent += (size_t)count;
    }
}

static bool may_go_on(uint64_t now) {
    return now < end_ns && requests_done < MOST_REQUESTS && requests_failed < MOST_FAILURES;
}

static void fail(Connection *c, uint64_t now) {
    requests_failed++;
    close(c->fd);
    if (!may_go_on(now)) {
        retire(c);
        return;
    }
    open_connection(c);
    send_request(c);
}

static void finish(Connection *c, uint64_t now) {
    bool is_ok = strncmp(c->answer, "HTTP/1.1 200", 12) == 0;
    if (events > 0) is_ok = is_ok && memmem(c->answer, c->bytes, "data: [DONE]", 12) != NULL;
    if (is_ok) requests_done++; else requests_failed++;
    note(&total, now - c->sent_ns);
    if (may_go_on(now)) send_request(c); else retire(c);
}

static void note_events(Connection *c, uint64_t now) {
    static const char mark[] = "\"id\":\"chatcmpl-";
    char *at = c->answer + c->scanned, *end = c->answer + c->bytes;
    while ((at = memmem(at, (size_t)(end - at), mark, sizeof mark - 1)) != NULL) {
        char *digits = at + sizeof mark - 1, *after = memchr(digits, '"', (size_t)(end - digits));
        if (after == NULL) break; /* The rest of the time has not come yet. */
        uint64_t sent_ns = strtoull(digits, NULL, 10);
        if (now > sent_ns) note(&event_delay, now - sent_ns);
        if (!c->has_event) note(&first_event, now - c->sent_ns);
        c->has_event = true;
        events_seen++;
        at = after;
        c->scanned = (size_t)(at - c->answer);
    }
}

static bool is_whole(Connection *c) {
    if (c->head_bytes == 0) {
        char *end = strstr(c->answer, "\r\n\r\n");
        if (end == NULL) return false;
        c->head_bytes = (size_t)(end - c->answer) + 4;
    }
    char *length = strcasestr(c->answer, "\r\ncontent-length:");
    if (length != NULL && length < c->answer + c->head_bytes)
        return c->bytes >= c->head_bytes + strtoul(length + 17, NULL, 10);
    return c->bytes >= c->head_bytes + 5 && memcmp(c->answer + c->bytes - 6, "\n0\r\n\r\n", 6) == 0;
}

static void read_answer(Connection *c) {
    ssize_t count = c->bytes < ANSWER_ROOM ? read(c->fd, c->answer + c->bytes, ANSWER_ROOM - c->bytes) : 0;
    uint64_t now = now_ns();
    if (count <= 0) {
        fail(c, now);
        return;
    }
    c->bytes += (size_t)count;
    c->answer[c->bytes] = 0;
    if (events > 0) note_events(c, now);
    if (is_whole(c)) finish(c, now);
}

/* The load as a whole. */

static void write_request(int gap_us, size_t prompt_bytes) {
    static const char text[] = "Summarise the following text. ";
    char *prompt = malloc(prompt_bytes + 1), *body = malloc(prompt_bytes + 1024), wish[128] = "";
    request = malloc(prompt_bytes + 2048);
    if (prompt == NULL || body == NULL || request == NULL) die("malloc");
    for (size_t i = 0; i < prompt_bytes; i++) prompt[i] = text[i % (sizeof text - 1)];
    prompt[prompt_bytes] = 0;
    if (prompt_bytes < SERIAL_DIGITS) {
        fprintf(stderr, "load: a prompt has at least %d bytes\n", SERIAL_DIGITS);
        exit(2);
    }
    if (events > 0)
        snprintf(
            wish, sizeof wish,
            ",\"stream\":true,\"stream_options\":{\"include_usage\":true},\"max_tokens\":%d,\"seed\":%d", events, gap_us
        );
    int body_length = sprintf(
        body,
        "{\"model\":\"m1\",\"messages\":[{\"role\":\"system\",\"content\":\"You are a helpful assistant.\"},"
        "{\"role\":\"user\",\"content\":\"%s\"}],\"temperature\":0.7%s}",
        prompt, wish
    );
    request_length = (size_t)sprintf(
        request,
        "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nContent-Type: application/json\r\n"
        "Authorization: Bearer sk-1234\r\nAccept: */*\r\nUser-Agent: load\r\nContent-Length: %d\r\n\r\n%s",
        port, body_length, body
    );
    serial = strstr(request, prompt);
}

static void run(Connection *all, int number, double seconds, int spread_ms) {
    int started = 0;
    struct epoll_event ready[256];
    live = number;
    began_ns = now_ns();
    end_ns = began_ns + (uint64_t)(seconds * 1e9);
    uint64_t gap_ns = (uint64_t)spread_ms * 1000000u / (uint64_t)number, give_up_ns = end_ns + GRACE_S * 1000000000u;
    while (live > 0 && now_ns() < give_up_ns) {
        while (started < number && now_ns() >= began_ns + (uint64_t)started * gap_ns) send_request(&all[started++]);
        int count = epoll_wait(epoll_fd, ready, 256, started < number ? 1 : 100);
        for (int i = 0; i < count; i++) {
            Connection *c = ready[i].data.ptr;
            if (!c->is_done) read_answer(c);
        }
    }
    requests_failed += (uint64_t)live;
}

static void allow_many_files(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
}

int main(int count, char **arguments) {
    if (count != 8) {
        fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS EVENTS GAP_US PROMPT_BYTES SPREAD_MS\n");
        return 2;
    }
    allow_many_files();
    port = atoi(arguments[1]);
    int number = atoi(arguments[2]);
    events = atoi(arguments[4]);
    write_request(atoi(arguments[5]), strtoul(arguments[6], NULL, 10));
    epoll_fd = epoll_create1(0);
    Connection *all = calloc((size_t)number, sizeof *all);
    if (all == NULL) die("calloc");
    for (int i = 0; i < number; i++) {
        all[i].answer = malloc(ANSWER_ROOM + 1);
        if (all[i].answer == NULL) die("malloc");
        open_connection(&all[i]);
    }
    run(all, number, atof(arguments[3]), atoi(arguments[7]));
    printf("{\"requests\":%llu,\"failed\":%llu,\"events\":%llu,\"seconds\":%.3f", (unsigned long long)requests_done,
           (unsigned long long)requests_failed, (unsigned long long)events_seen, (double)(now_ns() - began_ns) / 1e9);
    print_times("total", &total);
    print_times("first_event", &first_event);
    print_times("event_delay", &event_delay);
    printf("}\n");
    return 0;
}
