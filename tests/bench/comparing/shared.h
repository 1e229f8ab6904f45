/* What the fake upstream and the load share: the clock, chance, and texts of which no two are alike. */
#ifndef SHARED_H
#define SHARED_H
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define POOL_BYTES (4u << 20)

static inline uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static inline void die(const char *what) {
    perror(what);
    exit(1);
}

/* A buffer that grows; what it holds is never ended by NUL unless the caller puts one there. */

typedef struct {
    char *bytes;
    size_t count, room;
} Buffer;

static inline void reserve(Buffer *buffer, size_t more) {
    if (buffer->count + more <= buffer->room) return;
    buffer->room = (buffer->count + more) * 2;
    buffer->bytes = realloc(buffer->bytes, buffer->room);
    if (buffer->bytes == NULL) die("realloc");
}

static inline void put(Buffer *buffer, const char *bytes, size_t count) {
    reserve(buffer, count);
    memcpy(buffer->bytes + buffer->count, bytes, count);
    buffer->count += count;
}

__attribute__((format(printf, 2, 3))) static inline void put_format(Buffer *buffer, const char *format, ...) {
    char text[4096];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length < 0 || (size_t)length >= sizeof text) die("text");
    put(buffer, text, (size_t)length);
}

/* Chance: xorshift64*, begun anew in each process, so that no run repeats the texts of an earlier one. */

static uint64_t chance;

static inline uint64_t random_bits(void) {
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return chance * 0x2545f4914f6cdd1du;
}

static inline size_t random_below(size_t limit) {
    return (size_t)(random_bits() >> 11) % limit;
}

/* A number from half of the mean to one and a half of it. */
static inline size_t random_around(size_t mean) {
    return mean < 2 ? mean : mean / 2 + random_below(mean + 1);
}

/* Words as they stand in JSON strings: with escapes and letters beyond ASCII, as people and models write them. */
static const char *const words[] = {
    "the", "of", "and", "a", "to", "in", "is", "that", "for", "it", "as", "with", "was", "on", "be", "by", "at", "this",
    "have", "from", "or", "one", "had", "not", "but", "what", "all", "were", "when", "we", "there", "can", "an", "your",
    "which", "their", "if", "will", "each", "about", "how", "up", "out", "them", "then", "she", "many", "some", "so",
    "these", "would", "other", "into", "has", "more", "two", "like", "time", "look", "write", "see", "number", "way",
    "could", "make", "than", "first", "water", "been", "called", "oil", "its", "now", "find", "long", "down", "day",
    "did", "get", "come", "made", "may", "part", "function", "return", "tokens", "summary", "paragraph", "explanation",
    "na\xc3\xafve", "Gr\xc3\xb6\xc3\x9f" "e", "\xe6\x9d\xb1\xe4\xba\xac", "\xe2\x82\xac", "\\\"quoted\\\"", "end.\\n\\n-",
    "line.\\n", "caf\\u00e9", "path\\\\to",
};
#define WORDS (sizeof words / sizeof *words)

static char *text_pool, *base64_pool;

static inline void make_pools(void) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    chance = now_ns() ^ ((uint64_t)getpid() << 40) ^ 0x9e3779b97f4a7c15u;
    text_pool = malloc(POOL_BYTES + 64);
    base64_pool = malloc(POOL_BYTES);
    if (text_pool == NULL || base64_pool == NULL) die("malloc");
    for (size_t at = 0; at < POOL_BYTES;) {
        /* One in sixteen is a number, so that no passage comes twice. */
        if (random_below(16) == 0) at += (size_t)sprintf(text_pool + at, "%u ", (unsigned)random_below(1000000));
        else at += (size_t)sprintf(text_pool + at, "%s ", words[random_below(WORDS)]);
    }
    for (size_t at = 0; at < POOL_BYTES; at++) base64_pool[at] = digits[random_below(64)];
}

/* Whole words of at most that many bytes, for a JSON string, from anywhere in the pool. */
static inline void put_text(Buffer *buffer, size_t bytes) {
    size_t most = POOL_BYTES / 2, count = bytes < most ? bytes : most;
    const char *from = (const char *)memchr(text_pool + random_below(POOL_BYTES - count - 64), ' ', 64) + 1;
    while (count > 0 && from[count] != ' ') count--;
    put(buffer, from, count);
}

static inline void put_base64(Buffer *buffer, size_t bytes) {
    put(buffer, base64_pool + random_below(POOL_BYTES - bytes), bytes);
}

/* As many open files as this machine allows, and timers that do not wait for each other. */
static inline void allow_many_files(void) {
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    prctl(PR_SET_TIMERSLACK, 1000);
}

#endif
