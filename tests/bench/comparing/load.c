/* A load of requests to a model server: closed loop, or requests that arrive at random at a given rate.
 *
 *   load PORT CONNECTIONS SECONDS [NAME=VALUE ...]
 *
 *   kind=chat        a prompt of about 800 bytes (default), "agent": 100 kB with 30 tools, "image": 1 MB of base64,
 *                    "embeddings": 64 texts, answered with 1 MB
 *   events=N         streams of about N events; 0 (default): JSON answers
 *   gap_us=N         between the events of a stream; 0 (default): each is written at once, by itself
 *   spread_ms=N      over which the connections send their first requests, so that paced streams are not all due at once
 *   rate=N           requests per second, arriving at random (Poisson), on whichever connection is free; a request that
 *                    finds none waits, which counts. The first fifth of the time does not. 0 (default): each connection
 *                    sends its next request after the answer
 *   headers=TEXT     further header lines, each with its CRLF
 *
 * Requests have the head that openai-python sends, with the body in a write of its own, as httpx does it; a connection
 * belongs to one of several users. No two have the same text or length. upstream.c answers. It ends after SECONDS, MAX_REQUESTS or MAX_FAILURES,
 * whichever comes first, and at the latest GRACE_NS later, whether or not the last answers have come.
 *
 * Prints one line of JSON. A request has failed when its answer is no 200, breaks off, never comes, or is a stream
 * without [DONE]. Times are in milliseconds: "total" of a whole exchange, from the moment at which it was due;
 * "first_event" to the first event of its answer, "event_delay" from the moment at which upstream.c sent an event to its
 * arrival here.
 */
#define _GNU_SOURCE
#include "shared.h"
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MAX_REQUESTS 5000000u
#define MAX_FAILURES 1000u
#define MAX_WAITING 65536u
#define GRACE_NS 10000000000u
#define READ_BYTES 65536u
#define USERS 64

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

/* What is asked for. */

static int port, events, gap_us, spread_ms;
static double rate;
static const char *kind = "chat", *headers = "";

static void put_wishes(Buffer *body) {
    if (events > 0) put_format(body, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
    put_format(body, ",\"max_tokens\":%zu", random_around(events > 0 ? (size_t)events : 40));
    if (gap_us > 0) put_format(body, ",\"seed\":%d", gap_us);
}

static void put_message(Buffer *body, const char *role, size_t bytes) {
    put_format(body, "{\"role\":\"%s\",\"content\":\"", role);
    put_text(body, random_around(bytes));
    put_format(body, "\"}");
}

static void put_chat(Buffer *body) {
    put_format(body, "{\"messages\":[");
    put_message(body, "system", 120);
    put_format(body, ",");
    put_message(body, "user", 500);
    put_format(body, "],\"model\":\"m1\",\"temperature\":0.7");
    put_wishes(body);
    put_format(body, "}");
}

static void put_tool(Buffer *body, unsigned number) {
    put_format(body, "{\"type\":\"function\",\"function\":{\"name\":\"tool_%u\",\"description\":\"", number);
    put_text(body, random_around(300));
    put_format(body, "\",\"parameters\":{\"type\":\"object\",\"properties\":{");
    for (int i = 0; i < 5; i++) {
        put_format(body, "%s\"argument_%d\":{\"type\":\"string\",\"description\":\"", i > 0 ? "," : "", i);
        put_text(body, random_around(100));
        put_format(body, "\"}");
    }
    put_format(body, "},\"required\":[\"argument_0\"],\"additionalProperties\":false}}}");
}

/* A conversation of an agent: instructions, then twenty times a question, a call of a tool, its result, an answer. */
static void put_agent(Buffer *body) {
    put_format(body, "{\"messages\":[");
    put_message(body, "system", 8000);
    for (int turn = 0; turn < 20; turn++) {
        unsigned tool = (unsigned)random_below(30), call = (unsigned)random_bits();
        put_format(body, ",");
        put_message(body, "user", 300);
        put_format(
            body, ",{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"call_%08x\",\"type\":\"function\","
                  "\"function\":{\"name\":\"tool_%u\",\"arguments\":\"{\\\"argument_0\\\": \\\"", call, tool
        );
        put_format(body, "%u\\\"}\"}}]},{\"role\":\"tool\",\"tool_call_id\":\"call_%08x\",\"content\":\"", tool, call);
        put_text(body, random_around(1300));
        put_format(body, "\"},");
        put_message(body, "assistant", 400);
    }
    put_format(body, "],\"model\":\"m1\"");
    put_wishes(body);
    put_format(body, ",\"tool_choice\":\"auto\",\"tools\":[");
    for (unsigned number = 0; number < 30; number++) {
        if (number > 0) put_format(body, ",");
        put_tool(body, number);
    }
    put_format(body, "]}");
}

static void put_image(Buffer *body) {
    put_format(body, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"");
    put_text(body, random_around(100));
    put_format(body, "\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:image/png;base64,iVBORw0KGgo");
    put_base64(body, 900000 + 4 * random_below(50000));
    put_format(body, "\"}}]}],\"model\":\"m1\"");
    put_wishes(body);
    put_format(body, "}");
}

static void put_embeddings(Buffer *body) {
    size_t texts = 60 + random_below(9);
    put_format(body, "{\"input\":[");
    for (size_t i = 0; i < texts; i++) {
        put_format(body, i > 0 ? ",\"" : "\"");
        put_text(body, random_around(100));
        put_format(body, "\"");
    }
    put_format(body, "],\"model\":\"m1\",\"encoding_format\":\"base64\"}");
}

static const struct { const char *kind, *path; void (*put)(Buffer *); } kinds[] = {
    {"chat", "/v1/chat/completions", put_chat},
    {"agent", "/v1/chat/completions", put_agent},
    {"image", "/v1/chat/completions", put_image},
    {"embeddings", "/v1/embeddings", put_embeddings},
};
static size_t which_kind;

static void put_head(Buffer *head, unsigned user, size_t body_bytes) {
    put_format(
        head,
        "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%d\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\n"
        "authorization: Bearer sk-%08x\r\naccept: application/json\r\ncontent-type: application/json\r\n"
        "user-agent: OpenAI/Python 3.57.0\r\nx-stainless-lang: python\r\nx-stainless-package-version: 3.57.0\r\n"
        "x-stainless-os: Linux\r\nx-stainless-arch: x64\r\nx-stainless-runtime: CPython\r\n"
        "x-stainless-runtime-version: 3.%u.%u\r\nx-stainless-async: false\r\nx-stainless-retry-count: 0\r\n"
        "x-stainless-read-timeout: 600\r\n%sContent-Length: %zu\r\n\r\n",
        kinds[which_kind].path, port, user * 0x9e3779b9u, 10 + user % 4, user % 10, headers, body_bytes
    );
}

/* One connection and the answer that it is reading. */

typedef struct Connection {
    int fd;
    unsigned user;
    Buffer in; /* The answer, with a closing NUL and without chunked coding; of a JSON document only the head. */
    size_t head_bytes, body_bytes, scanned; /* body_bytes: of a document, those that are still to come. */
    size_t chunk_bytes, line_bytes; /* Of a chunk, those that are still to come; of the line with its size. */
    char line[32];
    uint64_t due_ns;
    bool is_stream, is_last, is_whole, has_event, is_done;
} Connection;

static int epoll_fd, live;
static uint64_t began_ns, end_ns, steady_ns; /* From steady_ns on, times count. */
static uint64_t requests_done, requests_failed, events_seen;

/* With a rate: the connections that are free, and the moments at which the requests that wait were due. */
static Connection **idle;
static size_t idle_count, waiting_first, waiting_count;
static uint64_t waiting[MAX_WAITING], next_arrival_ns;

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

/* A write that fails is seen by the next read: it finds the connection closed. */
static void send_all(const Connection *c, const Buffer *buffer) {
    for (size_t sent = 0; sent < buffer->count;) {
        ssize_t count = send(c->fd, buffer->bytes + sent, buffer->count - sent, MSG_NOSIGNAL);
        if (count <= 0) break;
        sent += (size_t)count;
    }
}

static void send_request(Connection *c, uint64_t due_ns) {
    static Buffer head, body;
    head.count = body.count = 0;
    kinds[which_kind].put(&body);
    put_head(&head, c->user, body.count);
    c->in.count = c->scanned = c->head_bytes = c->body_bytes = c->chunk_bytes = c->line_bytes = 0;
    c->is_stream = c->is_last = c->is_whole = c->has_event = false;
    c->due_ns = due_ns > 0 ? due_ns : now_ns();
    send_all(c, &head);
    send_all(c, &body);
}

static bool may_go_on(uint64_t now) {
    return now < end_ns && requests_done + requests_failed < MAX_REQUESTS && requests_failed < MAX_FAILURES;
}

static void retire(Connection *c) {
    c->is_done = true;
    live--;
}

/* Let a connection whose answer has come, or will not, do what is next. */
static void go_on(Connection *c, uint64_t now) {
    if (!may_go_on(now)) {
        retire(c);
    } else if (rate == 0) {
        send_request(c, 0);
    } else if (waiting_count > 0) {
        uint64_t due_ns = waiting[waiting_first];
        waiting_first = (waiting_first + 1) % MAX_WAITING;
        waiting_count--;
        send_request(c, due_ns);
    } else {
        idle[idle_count++] = c;
    }
}

static void fail(Connection *c, uint64_t now) {
    requests_failed++;
    close(c->fd);
    if (may_go_on(now)) open_connection(c);
    go_on(c, now);
}

static void finish(Connection *c, uint64_t now) {
    bool is_ok = strncmp(c->in.bytes, "HTTP/1.1 200", 12) == 0;
    if (events > 0) is_ok = is_ok && memmem(c->in.bytes, c->in.count, "data: [DONE]", 12) != NULL;
    if (is_ok) requests_done++; else requests_failed++;
    if (c->due_ns >= steady_ns) note(&total, now - c->due_ns);
    go_on(c, now);
}

static void note_events(Connection *c, uint64_t now) {
    static const char mark[] = "\"id\":\"chatcmpl-", spaced[] = "\"id\": \"chatcmpl-";
    char *at = c->in.bytes + c->scanned, *end = c->in.bytes + c->in.count;
    for (;;) {
        size_t mark_bytes = sizeof mark - 1;
        char *found = memmem(at, (size_t)(end - at), mark, mark_bytes);
        if (found == NULL) found = memmem(at, (size_t)(end - at), spaced, mark_bytes = sizeof spaced - 1);
        if (found == NULL) break;
        char *digits = found + mark_bytes, *after = memchr(digits, '"', (size_t)(end - digits));
        if (after == NULL) break; /* The rest of the time has not come yet. */
        uint64_t sent_ns = strtoull(digits, NULL, 10);
        if (now > sent_ns) note(&event_delay, now - sent_ns);
        if (!c->has_event) note(&first_event, now - c->due_ns);
        c->has_event = true;
        events_seen++;
        at = after;
        c->scanned = (size_t)(at - c->in.bytes);
    }
}

static void put_answer(Connection *c, const char *bytes, size_t count) {
    put(&c->in, bytes, count);
    reserve(&c->in, 1);
    c->in.bytes[c->in.count] = 0;
}

/* Take the chunked coding off: an event, and the time in it, may be split among chunks in any way. */
static void decode(Connection *c, const char *bytes, size_t count) {
    for (size_t at = 0; at < count && !c->is_whole;) {
        if (c->chunk_bytes > 0) {
            size_t some = count - at < c->chunk_bytes ? count - at : c->chunk_bytes;
            put_answer(c, bytes + at, some);
            c->chunk_bytes -= some;
            at += some;
        } else if (bytes[at++] != '\n') {
            if (bytes[at - 1] != '\r' && c->line_bytes < sizeof c->line - 1) c->line[c->line_bytes++] = bytes[at - 1];
        } else if (c->line_bytes > 0) {
            c->line[c->line_bytes] = 0;
            c->chunk_bytes = strtoul(c->line, NULL, 16);
            c->is_last = c->chunk_bytes == 0;
            c->line_bytes = 0;
        } else {
            /* The line after a chunk is empty, and so is the one after the last. */
            c->is_whole = c->is_last;
        }
    }
}

static void take(Connection *c, const char *bytes, size_t count) {
    if (c->is_stream) decode(c, bytes, count);
    else put_answer(c, bytes, count);
}

static bool read_head(Connection *c) {
    char *end = strstr(c->in.bytes, "\r\n\r\n");
    if (end == NULL) return false;
    c->head_bytes = (size_t)(end - c->in.bytes) + 4;
    char first = c->in.bytes[c->head_bytes];
    c->in.bytes[c->head_bytes] = 0;
    char *length = strcasestr(c->in.bytes, "\r\ncontent-length:");
    c->in.bytes[c->head_bytes] = first;
    c->is_stream = length == NULL;
    c->body_bytes = length != NULL ? strtoul(length + 17, NULL, 10) : 0;
    if (c->is_stream) {
        static Buffer rest;
        rest.count = 0;
        put(&rest, c->in.bytes + c->head_bytes, c->in.count - c->head_bytes);
        c->in.count = c->head_bytes;
        decode(c, rest.bytes, rest.count);
    }
    return true;
}

static void read_answer(Connection *c) {
    static char bytes[READ_BYTES];
    ssize_t count = read(c->fd, bytes, sizeof bytes);
    uint64_t now = now_ns();
    if (count <= 0) {
        fail(c, now);
        return;
    }
    take(c, bytes, (size_t)count);
    if (c->head_bytes == 0 && !read_head(c)) return;
    if (!c->is_stream) {
        size_t of_body = c->in.count - c->head_bytes;
        c->body_bytes -= of_body < c->body_bytes ? of_body : c->body_bytes;
        c->in.count = c->head_bytes;
        c->is_whole = c->body_bytes == 0;
    } else {
        note_events(c, now);
    }
    if (c->is_whole) finish(c, now);
}

/* The load as a whole. */

static void let_requests_arrive(uint64_t now) {
    while (next_arrival_ns <= now && may_go_on(now)) {
        if (idle_count > 0) {
            send_request(idle[--idle_count], next_arrival_ns);
        } else if (waiting_count < MAX_WAITING) {
            waiting[(waiting_first + waiting_count++) % MAX_WAITING] = next_arrival_ns;
        } else {
            requests_failed++;
        }
        double chance_of_none = ((double)(random_bits() >> 11) + 1) / 9007199254740993.0;
        next_arrival_ns += (uint64_t)(-log(chance_of_none) / rate * 1e9);
    }
}

/* After the end: those that are free go, and those that still wait have waited for so long at least. */
static void let_no_more_arrive(void) {
    while (idle_count > 0) retire(idle[--idle_count]);
    for (; waiting_count > 0; waiting_count--) {
        note(&total, now_ns() - waiting[waiting_first]);
        waiting_first = (waiting_first + 1) % MAX_WAITING;
    }
}

static void wait_until(uint64_t then_ns) {
    struct pollfd p = {.fd = epoll_fd, .events = POLLIN};
    uint64_t now = now_ns(), left_ns = then_ns > now ? then_ns - now : 0;
    struct timespec left = {.tv_sec = (time_t)(left_ns / 1000000000u), .tv_nsec = (long)(left_ns % 1000000000u)};
    ppoll(&p, 1, &left, NULL);
}

static void run(Connection *all, int number, double seconds) {
    int started = 0;
    struct epoll_event ready[256];
    live = number;
    began_ns = next_arrival_ns = now_ns();
    end_ns = began_ns + (uint64_t)(seconds * 1e9);
    uint64_t gap_ns = (uint64_t)spread_ms * 1000000u / (uint64_t)number, give_up_ns = end_ns + GRACE_NS;
    /* What a proxy does once for each new connection is no answer's time. */
    steady_ns = rate > 0 ? began_ns + (end_ns - began_ns) / 5 : began_ns;
    if (rate > 0)
        for (; started < number; started++) idle[idle_count++] = &all[started];
    for (uint64_t now = began_ns; live > 0 && now < give_up_ns; now = now_ns()) {
        while (started < number && now >= began_ns + (uint64_t)started * gap_ns) send_request(&all[started++], 0);
        if (rate > 0 && may_go_on(now)) let_requests_arrive(now);
        else if (rate > 0) let_no_more_arrive();
        uint64_t then_ns = now + 100000000u, first_ns = began_ns + (uint64_t)started * gap_ns;
        if (started < number && first_ns < then_ns) then_ns = first_ns;
        if (rate > 0 && now < end_ns && next_arrival_ns < then_ns) then_ns = next_arrival_ns;
        wait_until(then_ns);
        int count = epoll_wait(epoll_fd, ready, 256, 0);
        for (int i = 0; i < count; i++) {
            Connection *c = ready[i].data.ptr;
            if (!c->is_done) read_answer(c);
        }
    }
    requests_failed += (uint64_t)live;
}

static bool read_option(const char *option) {
    const char *value = strchr(option, '=');
    if (value == NULL) return false;
    size_t name_bytes = (size_t)(value++ - option);
    if (strncmp(option, "kind", name_bytes) == 0) kind = value;
    else if (strncmp(option, "events", name_bytes) == 0) events = atoi(value);
    else if (strncmp(option, "gap_us", name_bytes) == 0) gap_us = atoi(value);
    else if (strncmp(option, "spread_ms", name_bytes) == 0) spread_ms = atoi(value);
    else if (strncmp(option, "rate", name_bytes) == 0) rate = atof(value);
    else if (strncmp(option, "headers", name_bytes) == 0) headers = value;
    else return false;
    return true;
}

static bool find_kind(void) {
    for (which_kind = 0; which_kind < sizeof kinds / sizeof *kinds; which_kind++)
        if (strcmp(kinds[which_kind].kind, kind) == 0) return true;
    return false;
}

int main(int count, char **arguments) {
    bool is_ok = count >= 4;
    for (int i = 4; i < count; i++) is_ok = is_ok && read_option(arguments[i]);
    if (!is_ok || !find_kind()) {
        fprintf(stderr, "usage: load PORT CONNECTIONS SECONDS [NAME=VALUE ...]\n");
        return 2;
    }
    allow_many_files();
    make_pools();
    port = atoi(arguments[1]);
    int number = atoi(arguments[2]);
    epoll_fd = epoll_create1(0);
    Connection *all = calloc((size_t)number, sizeof *all);
    idle = calloc((size_t)number, sizeof *idle);
    if (all == NULL || idle == NULL) die("calloc");
    for (int i = 0; i < number; i++) {
        all[i].user = (unsigned)random_below(USERS);
        open_connection(&all[i]);
    }
    run(all, number, atof(arguments[3]));
    printf("{\"requests\":%llu,\"failed\":%llu,\"events\":%llu,\"seconds\":%.3f", (unsigned long long)requests_done,
           (unsigned long long)requests_failed, (unsigned long long)events_seen, (double)(now_ns() - began_ns) / 1e9);
    print_times("total", &total);
    print_times("first_event", &first_event);
    print_times("event_delay", &event_delay);
    printf("}\n");
    return 0;
}
