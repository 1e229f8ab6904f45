/* A fast fake inference server, for measuring what a proxy adds to it.
 *
 *   upstream PORT
 *
 * One thread, epoll, loopback only. A GET gets what a health or listing probe asks for; a POST gets a chat completion
 * of the model "m1", or embeddings. The request itself says what answer it wants, in fields that proxies pass on:
 *
 *   "stream": true     an SSE answer, else a JSON document
 *   "max_tokens": N    of N words (64 by default), in a stream one per event, then the usage and [DONE]
 *   "seed": N          N microseconds apart (0 by default: each with its own write, back to back)
 *   "input": [...]     one embedding of 3072 numbers in base64, 16 KiB, for each
 *
 * Answers are those of vLLM behind uvicorn: a Date that moves, Server, an id of their own, a head in a write of its own
 * before a stream; no two have the same text. The id of each event is the time at which it was sent (CLOCK_MONOTONIC,
 * ns): a client on the same machine can tell how long it was under way. Long answers are made as the client reads them.
 */
#define _GNU_SOURCE
#include "shared.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#define MAX_REQUEST_BYTES (64u << 20)
#define READ_BYTES 65536
#define MAX_OUT_BYTES (256u << 10)
#define DEFAULT_TOKENS 64
#define EMBEDDING_BYTES 16384
#define MARK_DONE "data: [DONE]\n\n"

typedef struct Connection {
    int fd;
    Buffer in; /* What was read and not answered yet; room for a closing NUL is always there. */
    size_t whole, body_at; /* Of the first request in it: its length (0: not known yet) and where its body begins. */
    Buffer out; /* What the socket did not take yet. */
    size_t inputs, inputs_left; /* Embeddings to be written. */
    int events, events_left;
    uint64_t gap_ns, due_ns;
    struct Connection *earlier, *later; /* Its neighbours among those that wait for their next event. */
    bool waits;
} Connection;

static int epoll_fd, streams_open;
/* Sorted by due_ns: a connection is put in from the end, where it nearly always belongs. */
static Connection *first_due, *last_due;

static void wait_until_due(Connection *c) {
    Connection *before = last_due;
    while (before != NULL && before->due_ns > c->due_ns) before = before->earlier;
    c->earlier = before;
    c->later = before != NULL ? before->later : first_due;
    if (c->later != NULL) c->later->earlier = c; else last_due = c;
    if (before != NULL) before->later = c; else first_due = c;
    c->waits = true;
}

static void wait_no_more(Connection *c) {
    if (!c->waits) return;
    if (c->earlier != NULL) c->earlier->later = c->later; else first_due = c->later;
    if (c->later != NULL) c->later->earlier = c->earlier; else last_due = c->earlier;
    c->waits = false;
}

/* Sending. A connection that fails is not freed here, but by the event that epoll reports of it. */

static void watch(Connection *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &e);
}

static void put_next_embeddings(Connection *c);

static void flush_out(Connection *c) {
    size_t from = 0;
    while (c->out.count > from) {
        ssize_t sent = send(c->fd, c->out.bytes + from, c->out.count - from, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) watch(c, EPOLLIN | EPOLLOUT);
            else from = c->out.count, c->inputs_left = 0;
            break;
        }
        from += (size_t)sent;
        if (from == c->out.count && c->inputs_left > 0) {
            c->out.count = from = 0;
            put_next_embeddings(c);
        }
    }
    memmove(c->out.bytes, c->out.bytes + from, c->out.count - from);
    c->out.count -= from;
}

static void put_chunk(Connection *c, const Buffer *text) {
    put_format(&c->out, "%zx\r\n", text->count);
    put(&c->out, text->bytes, text->count);
    put(&c->out, "\r\n", 2);
}

/* The head that uvicorn writes, up to what the answer adds. */
static void put_head(Connection *c, const char *type) {
    static char date[64];
    static time_t written_at;
    static uint64_t serial;
    time_t now = time(NULL);
    if (now != written_at) {
        struct tm parts;
        gmtime_r(&now, &parts);
        strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", &parts);
        written_at = now;
    }
    put_format(
        &c->out, "HTTP/1.1 200 OK\r\ndate: %s\r\nserver: uvicorn\r\ncontent-type: %s\r\nx-request-id: %016llx\r\n", date,
        type, (unsigned long long)(++serial * 0x9e3779b97f4a7c15u)
    );
}

static void put_document(Connection *c, const Buffer *body) {
    put_head(c, "application/json");
    put_format(&c->out, "content-length: %zu\r\n\r\n", body->count);
    put(&c->out, body->bytes, body->count);
    flush_out(c);
}

static const char *any_word(void) {
    return words[random_below(WORDS)];
}

static void put_event_start(Buffer *text) {
    put_format(
        text, "data: {\"id\":\"chatcmpl-%llu\",\"object\":\"chat.completion.chunk\",\"created\":%lld,\"model\":\"m1\",",
        (unsigned long long)now_ns(), (long long)time(NULL)
    );
}

static void send_event(Connection *c) {
    static Buffer text;
    text.count = 0;
    const char *role = c->events_left == c->events ? "\"role\":\"assistant\"," : "";
    c->events_left--;
    const char *finish = c->events_left > 0 ? "null" : "\"stop\"";
    put_event_start(&text);
    put_format(
        &text, "\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\" %s\"},\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
        role, any_word(), finish
    );
    put_chunk(c, &text);
    if (c->events_left == 0) {
        text.count = 0;
        put_event_start(&text);
        put_format(
            &text, "\"choices\":[],\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%d,\"completion_tokens\":%d}}\n\n",
            c->whole / 4, (int)(c->whole / 4) + c->events, c->events
        );
        put(&text, MARK_DONE, strlen(MARK_DONE));
        put_chunk(c, &text);
        put(&c->out, "0\r\n\r\n", 5);
        streams_open--;
    }
    flush_out(c);
}

static void send_due_events(void) {
    uint64_t now = now_ns();
    while (first_due != NULL && first_due->due_ns <= now) {
        Connection *c = first_due;
        wait_no_more(c);
        send_event(c);
        if (c->events_left > 0) {
            c->due_ns += c->gap_ns;
            wait_until_due(c);
        }
    }
}

/* Answering. */

static void answer_get(Connection *c, const char *path) {
    static Buffer body;
    body.count = 0;
    if (strncmp(path, "/v1/models", 10) == 0)
        put_format(
            &body, "{\"object\":\"list\",\"data\":[{\"id\":\"m1\",\"object\":\"model\",\"created\":%lld,"
                   "\"owned_by\":\"vllm\",\"max_model_len\":131072}]}", (long long)time(NULL)
        );
    else if (strncmp(path, "/metrics", 8) == 0)
        put_format(
            &body, "vllm:num_requests_running{model_name=\"m1\"} %d\nvllm:num_requests_waiting{model_name=\"m1\"} 0\n",
            streams_open
        );
    else if (strncmp(path, "/version", 8) == 0) put_format(&body, "{\"version\":\"0.11.0\"}");
    else put_format(&body, "{\"status\":\"ok\",\"model_path\":\"m1\"}");
    put_document(c, &body);
}

/* The number after "name": in a JSON document; proxies that write it anew may have put a space there. */
static long number_of(const char *body, const char *name, long otherwise) {
    const char *at = strstr(body, name);
    return at != NULL ? strtol(at + strlen(name), NULL, 10) : otherwise;
}

/* How many strings the array after "input": has. */
static size_t inputs_of(const char *body) {
    const char *at = strstr(body, "\"input\":");
    size_t count = 0;
    if (at == NULL) return 0;
    for (at += strlen("\"input\":"); *at != 0 && *at != ']'; at++) {
        if (*at != '"') continue;
        count++;
        for (at++; *at != 0 && *at != '"'; at++)
            if (*at == '\\' && at[1] != 0) at++;
        if (*at == 0) break;
    }
    return count;
}

#define EMBEDDINGS_START "{\"id\":\"embd-%llu\",\"object\":\"list\",\"model\":\"m1\",\"data\":["
#define EMBEDDING_START "%s{\"index\":%zu,\"object\":\"embedding\",\"embedding\":\""
#define EMBEDDING_END "\"}"
#define EMBEDDINGS_END "],\"usage\":{\"prompt_tokens\":%zu,\"total_tokens\":%zu}}"

static void put_next_embeddings(Connection *c) {
    while (c->inputs_left > 0 && c->out.count < MAX_OUT_BYTES) {
        size_t index = c->inputs - c->inputs_left--;
        put_format(&c->out, EMBEDDING_START, index > 0 ? "," : "", index);
        put_base64(&c->out, EMBEDDING_BYTES);
        put_format(&c->out, EMBEDDING_END);
        if (c->inputs_left == 0) put_format(&c->out, EMBEDDINGS_END, c->inputs * 25, c->inputs * 25);
    }
}

static void answer_embeddings(Connection *c, const char *body) {
    unsigned long long id = now_ns();
    c->inputs = c->inputs_left = inputs_of(body);
    size_t length = (size_t)snprintf(NULL, 0, EMBEDDINGS_START, id);
    length += (size_t)snprintf(NULL, 0, EMBEDDINGS_END, c->inputs * 25, c->inputs * 25);
    for (size_t index = 0; index < c->inputs; index++)
        length += (size_t)snprintf(NULL, 0, EMBEDDING_START EMBEDDING_END, index > 0 ? "," : "", index) + EMBEDDING_BYTES;
    put_head(c, "application/json");
    put_format(&c->out, "content-length: %zu\r\n\r\n", length);
    put_format(&c->out, EMBEDDINGS_START, id);
    if (c->inputs == 0) put_format(&c->out, EMBEDDINGS_END, c->inputs, c->inputs);
    put_next_embeddings(c);
    flush_out(c);
}

static void answer_with_document(Connection *c, long tokens) {
    static Buffer body;
    body.count = 0;
    put_format(
        &body, "{\"id\":\"chatcmpl-%llu\",\"object\":\"chat.completion\",\"created\":%lld,\"model\":\"m1\",\"choices\":["
               "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"",
        (unsigned long long)now_ns(), (long long)time(NULL)
    );
    put_text(&body, (size_t)tokens * 5);
    put_format(
        &body, "\",\"refusal\":null,\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":{"
               "\"prompt_tokens\":%zu,\"total_tokens\":%ld,\"completion_tokens\":%ld}}",
        c->whole / 4, (long)(c->whole / 4) + tokens, tokens
    );
    put_document(c, &body);
}

static void answer_with_stream(Connection *c, const char *body, long tokens) {
    put_head(c, "text/event-stream; charset=utf-8");
    put_format(&c->out, "transfer-encoding: chunked\r\n\r\n");
    flush_out(c);
    streams_open++;
    c->events = c->events_left = tokens > 0 ? (int)tokens : 1;
    c->gap_ns = (uint64_t)number_of(body, "\"seed\":", 0) * 1000u;
    send_event(c);
    if (c->gap_ns == 0) {
        while (c->events_left > 0) send_event(c);
    } else if (c->events_left > 0) {
        c->due_ns = now_ns() + c->gap_ns;
        wait_until_due(c);
    }
}

static void answer_post(Connection *c, const char *path, const char *body) {
    if (strncmp(path, "/v1/embeddings", 14) == 0) {
        answer_embeddings(c, body);
        return;
    }
    long tokens = number_of(body, "\"max_tokens\":", DEFAULT_TOKENS);
    bool is_stream = strstr(body, "\"stream\":true") != NULL || strstr(body, "\"stream\": true") != NULL;
    if (is_stream) answer_with_stream(c, body, tokens);
    else answer_with_document(c, tokens);
}

/* Whether the first request that was read is whole; sets its length and where its body begins. */
static bool is_whole(Connection *c) {
    if (c->whole > 0) return c->whole <= c->in.count;
    const char *in = c->in.bytes, *end = memmem(in, c->in.count, "\r\n\r\n", 4);
    if (end == NULL) return false;
    c->body_at = (size_t)(end - in) + 4;
    char *after_head = c->in.bytes + c->body_at, first = *after_head;
    *after_head = 0; /* So that the body is not searched for what stands in heads. */
    const char *length = strcasestr(in, "\r\ncontent-length:"), *chunked = strcasestr(in, "\r\ntransfer-encoding: chunked");
    *after_head = first;
    if (chunked != NULL) {
        /* The line before may be the head's end, when there is no body. */
        const char *last = memmem(after_head - 2, c->in.count - c->body_at + 2, "\r\n0\r\n\r\n", 7);
        if (last == NULL) return false;
        c->whole = (size_t)(last - in) + 7;
    } else {
        c->whole = c->body_at + (length != NULL ? strtoul(length + 17, NULL, 10) : 0);
    }
    return c->whole <= c->in.count;
}

static void answer_requests(Connection *c) {
    while (c->in.count > 0 && is_whole(c)) {
        char *in = c->in.bytes, after = in[c->whole];
        in[c->whole] = 0;
        const char *path = in + strcspn(in, " ") + 1;
        if (strncmp(in, "POST ", 5) == 0) answer_post(c, path, in + c->body_at);
        else answer_get(c, path);
        in[c->whole] = after;
        memmove(in, in + c->whole, c->in.count - c->whole + 1);
        c->in.count -= c->whole;
        c->whole = 0;
    }
}

/* Connections. */

static void accept_all(int listener) {
    int fd, on = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Connection *c = calloc(1, sizeof *c);
        if (c == NULL) die("calloc");
        c->fd = fd;
        struct epoll_event e = {.events = EPOLLIN, .data.ptr = c};
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &e);
    }
}

static void drop(Connection *c) {
    if (c->events_left > 0) streams_open--;
    wait_no_more(c);
    close(c->fd);
    free(c->in.bytes);
    free(c->out.bytes);
    free(c);
}

static void read_and_answer(Connection *c) {
    for (;;) {
        reserve(&c->in, READ_BYTES + 1);
        ssize_t count = read(c->fd, c->in.bytes + c->in.count, READ_BYTES);
        bool is_over = count == 0 || (count < 0 && errno != EAGAIN);
        if (is_over || c->in.count > MAX_REQUEST_BYTES) {
            drop(c);
            return;
        }
        if (count > 0) c->in.count += (size_t)count;
        if (count < READ_BYTES) break;
    }
    c->in.bytes[c->in.count] = 0;
    answer_requests(c);
}

static int listen_on(int port) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)
    };
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) != 0) die("bind");
    if (listen(fd, 4096) != 0) die("listen");
    return fd;
}

/* Wait for something to do. Not by epoll_wait's own timeout, which counts in milliseconds: with many paced streams one
 * is due every few microseconds, and waiting for it by asking again and again would leave the load no core to run on. */
static void wait_for_work(void) {
    struct pollfd p = {.fd = epoll_fd, .events = POLLIN};
    struct timespec left = {0};
    if (first_due != NULL) {
        uint64_t now = now_ns(), left_ns = first_due->due_ns > now ? first_due->due_ns - now : 0;
        left.tv_sec = (time_t)(left_ns / 1000000000u);
        left.tv_nsec = (long)(left_ns % 1000000000u);
    }
    ppoll(&p, 1, first_due != NULL ? &left : NULL, NULL);
}

int main(int count, char **arguments) {
    if (count != 2) {
        fprintf(stderr, "usage: upstream PORT\n");
        return 2;
    }
    allow_many_files();
    make_pools();
    int listener = listen_on(atoi(arguments[1]));
    epoll_fd = epoll_create1(0);
    struct epoll_event ready[512], e = {.events = EPOLLIN, .data.ptr = NULL};
    epoll_ctl(epoll_fd, EPOLL_CTL_ADD, listener, &e);
    for (;;) {
        wait_for_work();
        int number = epoll_wait(epoll_fd, ready, 512, 0);
        send_due_events();
        for (int i = 0; i < number; i++) {
            Connection *c = ready[i].data.ptr;
            if (c == NULL) {
                accept_all(listener);
                continue;
            }
            if (ready[i].events & EPOLLOUT) {
                flush_out(c);
                if (c->out.count == 0) watch(c, EPOLLIN);
            }
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_and_answer(c);
        }
    }
}
