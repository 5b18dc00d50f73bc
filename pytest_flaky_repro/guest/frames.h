/* Result frames: one ASCII line each, the same in both directions (see guest/protocol.py).
 *
 *     @FR1 <nonce> <seq> <KIND> <key=value ...> <crc32, 8 hex digits>\n
 *
 * The checksum covers everything from the nonce to the space before the checksum.
 */
#ifndef FLAKY_REPRO_FRAMES_H
#define FLAKY_REPRO_FRAMES_H
#include "syscalls.h"

enum { FRAME_MAX = 60000, NONCE_MAX = 64 };

struct line { char text[FRAME_MAX]; u64 used; };
struct frame { char *nonce, *kind, *payload; };

static void put(struct line *l, const char *s)
{
    while (*s && l->used < FRAME_MAX - 16) l->text[l->used++] = *s++;
}

static void put_number(struct line *l, u64 value)
{
    char digits[24], *p = digits + 23;
    *p = 0;
    do *--p = (char)('0' + value % 10); while (value /= 10);
    put(l, p);
}

/* A free-text value: what would break the grammar becomes '_'. */
static void put_word(struct line *l, const char *s)
{
    for (; *s; s++) {
        char c[2] = {(*s > 32 && *s < 127) ? *s : '_', 0};
        put(l, c);
    }
}

static void put_base64(struct line *l, const u8 *data, u64 n)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (u64 i = 0; i < n; i += 3) {
        u32 v = (u32)data[i] << 16 | (i + 1 < n ? (u32)data[i + 1] << 8 : 0) | (i + 2 < n ? data[i + 2] : 0u);
        char four[5] = {digits[v >> 18], digits[v >> 12 & 63], i + 1 < n ? digits[v >> 6 & 63] : '=',
                        i + 2 < n ? digits[v & 63] : '=', 0};
        put(l, four);
    }
}

static int base64_digit(char c)
{
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

/* Decodes up to the first byte that is no base64 digit; returns the number of bytes. */
static u64 take_base64(const char *s, u8 *to, u64 room)
{
    u32 bits = 0, have = 0;
    u64 n = 0;
    for (int d; (d = base64_digit(*s)) >= 0 && n < room; s++) {
        bits = bits << 6 | (u32)d;
        if ((have += 6) >= 8) to[n++] = (u8)(bits >> (have -= 8));
    }
    return n;
}

/* CRC-32 as in IEEE 802.3 and zlib. */
static u32 crc32(const char *s, u64 n)
{
    u32 crc = ~0u;
    while (n--) {
        crc ^= (u8)*s++;
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void put_crc(struct line *l, u64 from)
{
    u32 crc = crc32(l->text + from, l->used - from);
    put(l, " ");
    for (int shift = 28; shift >= 0; shift -= 4) {
        char c[2] = {"0123456789abcdef"[crc >> shift & 15], 0};
        put(l, c);
    }
    put(l, "\n");
}

static char *word(char **cursor)
{
    char *start = *cursor, *p = start;
    while (*p && *p != ' ') p++;
    if (*p) *p++ = 0;
    *cursor = p;
    return start;
}

/* Splits one received line in place; 1 when it is an intact frame. */
static int parse_frame(char *text, struct frame *f)
{
    while (*text && !after(text, "@FR1 ")) text++;
    if (!*text) return 0;
    text += 5;
    u64 n = length(text);
    if (n < 12 || text[n - 9] != ' ') return 0;
    u32 said = 0;
    for (u64 i = n - 8; i < n; i++) {
        char c = text[i];
        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) return 0;
        said = said << 4 | (u32)(c <= '9' ? c - '0' : c - 'a' + 10);
    }
    if (crc32(text, n - 9) != said) return 0;
    text[n - 9] = 0;
    f->nonce = word(&text);
    word(&text); /* the host's sequence number is for people reading a trace */
    f->kind = word(&text);
    f->payload = text;
    return 1;
}

/* The value of key in a payload, or 0; it ends at the next space. */
static const char *value_of(const char *payload, const char *key)
{
    for (const char *p = payload; *p;) {
        const char *v = after(p, key);
        if (v && *v == '=') return v + 1;
        while (*p && *p != ' ') p++;
        while (*p == ' ') p++;
    }
    return 0;
}

static u64 number_of(const char *payload, const char *key)
{
    const char *v = value_of(payload, key);
    u64 n = 0;
    while (v && *v >= '0' && *v <= '9') n = n * 10 + (u64)(*v++ - '0');
    return n;
}

#endif
