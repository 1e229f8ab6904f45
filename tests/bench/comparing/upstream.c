/* A fast fake inference server, for measuring what a proxy adds to it.
 *
 *   upstream PORT
 *
 * One thread, epoll, loopback only. A GET gets whatever a health or listing probe asks for; a POST gets a chat
 * completion of the model "m1". The request itself says what answer it wants, in fields that proxies pass on:
 *
 *   "stream": true     an SSE answer, else a JSON document
 *   "max_tokens": N    of N events (64 by default), the last with the usage, then [DONE]
 *   "seed": N          N microseconds apart (0 by default: each with its own write, back to back)
 *
 * The id of each event is the time at which it was sent (CLOCK_MONOTONIC, ns): a client on the same machine can tell
 * how long it was under way. The first event goes out with the head.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
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

#define MOST_REQUEST_BYTES (1 << 20)
#define READ_BYTES 65536
#define DEFAULT_EVENTS 64

typedef struct Connection {
    int fd;
    char *in; /* What was read and not answered yet; room for a closing NUL is always there. */
    size_t in_bytes, in_room;
    char *out; /* What the socket did not take yet. */
    size_t out_bytes, out_room;
    int events, events_left;
    uint64_t gap_ns, due_ns;
    struct Connection *earlier, *later; /* Its neighbours among those that wait for their next event. */
    bool waits;
} Connection;

static int epoll_fd;
/* Sorted by due_ns: a connection is put in from the end, where it nearly always belongs. */
static Connection *first_due, *last_due;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what) {
    perror(what);
    exit(1);
}

static char *grown(char *buffer, size_t *room, size_t needed) {
    if (needed > *room) {
        *room = needed * 2;
        buffer = realloc(buffer, *room);
        if (buffer == NULL) die("realloc");
    }
    return buffer;
}

/* Who waits for the time of the next event. */

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

static void flush_out(Connection *c) {
    while (c->out_bytes > 0) {
        ssize_t sent = send(c->fd, c->out, c->out_bytes, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno == EAGAIN) watch(c, EPOLLIN | EPOLLOUT);
            else c->out_bytes = 0;
            return;
        }
        memmove(c->out, c->out + sent, c->out_bytes - (size_t)sent);
        c->out_bytes -= (size_t)sent;
    }
}

static void put(Connection *c, const char *bytes, size_t count) {
    c->out = grown(c->out, &c->out_room, c->out_bytes + count);
    memcpy(c->out + c->out_bytes, bytes, count);
    c->out_bytes += count;
}

__attribute__((format(printf, 2, 3))) static void put_chunk(Connection *c, const char *format, ...) {
    char text[1024], head[16];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    put(c, head, (size_t)snprintf(head, sizeof head, "%x\r\n", (unsigned)length));
    put(c, text, (size_t)length);
    put(c, "\r\n", 2);
}

#define EVENT_START \
    "data: {\"id\":\"chatcmpl-%llu\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"m1\","

static void send_event(Connection *c) {
    static const char *words[] = {" the", " quick", " brown", " fox", " jumps", " over", " a", " lazy", " dog", "."};
    const char *word = words[(c->events - c->events_left) % 10];
    c->events_left--;
    put_chunk(
        c, EVENT_START "\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"},\"finish_reason\":%s}]}\n\n",
        (unsigned long long)now_ns(), word, c->events_left > 0 ? "null" : "\"stop\""
    );
    if (c->events_left == 0) {
        put_chunk(
            c,
            EVENT_START "\"choices\":[],\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":%d,\"total_tokens\":%d}}"
            "\n\ndata: [DONE]\n\n",
            (unsigned long long)now_ns(), c->events, c->events + 120
        );
        put(c, "0\r\n\r\n", 5);
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

static void send_document(Connection *c, const char *body) {
    char head[128];
    const char *format = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n";
    put(c, head, (size_t)snprintf(head, sizeof head, format, strlen(body)));
    put(c, body, strlen(body));
    flush_out(c);
}

/* Answering. */

static const struct { const char *path, *body; } pages[] = {
    {"/v1/models", "{\"object\":\"list\",\"data\":[{\"id\":\"m1\",\"object\":\"model\",\"created\":1700000000,"
                   "\"owned_by\":\"vllm\",\"max_model_len\":32768}]}"},
    {"/metrics", "vllm:num_requests_running{model_name=\"m1\"} 0\nvllm:num_requests_waiting{model_name=\"m1\"} 0\n"},
    {"/version", "{\"version\":\"0.11.0\"}"},
    {"", "{\"status\":\"ok\",\"model_path\":\"m1\"}"},
};

static const char completion[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"m1\",\"choices\":[{"
    "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The quick brown fox jumps over the lazy dog. The "
    "quick brown fox jumps over the lazy dog. The quick brown fox jumps over the lazy dog. The quick brown fox jumps "
    "over the lazy dog.\"},\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":120,\"completion_tokens\":40,"
    "\"total_tokens\":160}}";

static void answer_get(Connection *c, const char *path) {
    size_t row = 0;
    while (strncmp(path, pages[row].path, strlen(pages[row].path)) != 0) row++;
    send_document(c, pages[row].body);
}

/* The number after "name": in a JSON document; proxies that write it anew may have put a space there. */
static long number_of(const char *body, const char *name, long otherwise) {
    const char *at = strstr(body, name);
    return at != NULL ? strtol(at + strlen(name), NULL, 10) : otherwise;
}

static void answer_post(Connection *c, const char *body) {
    if (strstr(body, "\"stream\":true") == NULL && strstr(body, "\"stream\": true") == NULL) {
        send_document(c, completion);
        return;
    }
    static const char head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
                               "Cache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
    put(c, head, sizeof head - 1);
    c->events = c->events_left = (int)number_of(body, "\"max_tokens\":", DEFAULT_EVENTS);
    c->gap_ns = (uint64_t)number_of(body, "\"seed\":", 0) * 1000u;
    send_event(c);
    if (c->gap_ns == 0) {
        while (c->events_left > 0) send_event(c);
    } else if (c->events_left > 0) {
        c->due_ns = now_ns() + c->gap_ns;
        wait_until_due(c);
    }
}

/* The bytes of the first request that was read, or 0 when it is not whole; sets where its body begins. */
static size_t request_bytes(const Connection *c, size_t *body_at) {
    const char *end = memmem(c->in, c->in_bytes, "\r\n\r\n", 4);
    if (end == NULL) return 0;
    size_t head_bytes = (size_t)(end - c->in) + 4, whole = head_bytes;
    *body_at = head_bytes;
    const char *length = strcasestr(c->in, "\r\ncontent-length:");
    const char *chunked = strcasestr(c->in, "\r\ntransfer-encoding: chunked");
    if (length != NULL && length < end) {
        whole += strtoul(length + 17, NULL, 10);
    } else if (chunked != NULL && chunked <= end) {
        const char *last = memmem(end, c->in_bytes - head_bytes + 4, "\r\n0\r\n\r\n", 7);
        if (last == NULL) return 0;
        whole = (size_t)(last - c->in) + 7;
    }
    return whole <= c->in_bytes ? whole : 0;
}

static void answer_requests(Connection *c) {
    size_t body_at = 0, whole;
    c->in[c->in_bytes] = 0;
    while ((whole = request_bytes(c, &body_at)) > 0) {
        char after = c->in[whole];
        c->in[whole] = 0;
        if (strncmp(c->in, "POST ", 5) == 0) answer_post(c, c->in + body_at);
        else answer_get(c, c->in + strcspn(c->in, " ") + 1);
        c->in[whole] = after;
        memmove(c->in, c->in + whole, c->in_bytes - whole + 1);
        c->in_bytes -= whole;
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
    wait_no_more(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

static void read_and_answer(Connection *c) {
    for (;;) {
        c->in = grown(c->in, &c->in_room, c->in_bytes + READ_BYTES + 1);
        ssize_t count = read(c->fd, c->in + c->in_bytes, READ_BYTES);
        bool is_over = count == 0 || (count < 0 && errno != EAGAIN);
        if (is_over || c->in_bytes > MOST_REQUEST_BYTES) {
            drop(c);
            return;
        }
        if (count > 0) c->in_bytes += (size_t)count;
        if (count < READ_BYTES) break;
    }
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

static void allow_many_files(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
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
                if (c->out_bytes == 0) watch(c, EPOLLIN);
            }
            if (ready[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) read_and_answer(c);
        }
    }
}
