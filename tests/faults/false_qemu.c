/* Stands in for QEMU and its guest at once, and ends as it is told to.
 *
 * It takes QEMU's command line, finds its three sockets and its script there, and plays the script:
 * words of the kernel command line's "play=", separated by commas. So the host's whole side of a
 * trial (sockets, frames, console, clocks, exit status) meets every ending in milliseconds.
 *
 *   B            boot: greeting, console check, READY        L, Y      only the check, only READY
 *   R            wait for RUN                                M, S      the run's mark, START
 *   D            the mark behind the run                     e:HOW:N   END until ACK (or QUIT)
 *   n:WHO:HOW:N  one END with the nonce of run, boot, mark or none; does not wait
 *   c:HEX f:HEX q:HEX   bytes to the console, the frames' port, QMP
 *   C:N:HEX F:N:HEX     the same N times                     o:AT:B64  output of the reproducer
 *   g            wait for QUIT (or for the host to go)       x:WHY:N   QMP says why, exit status N
 *   X:N          exit status N, and QMP says nothing         k:N       signal N to itself
 *   h            nothing more, for ever                      b         the same, using the CPU
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int console, frames, qmp, sequence, quit_seen;
static char boot[80], run_nonce[80], mark[80], inbox[1 << 17];
static size_t inbox_used;

static unsigned crc32(const char *s)
{
    unsigned crc = ~0u;
    for (; *s; s++) {
        crc ^= (unsigned char)*s;
        for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return ~crc;
}

static void send_all(int fd, const char *data, size_t n)
{
    while (n) {
        ssize_t done = write(fd, data, n);
        if (done < 0) _exit(0); /* the host has gone */
        data += done;
        n -= (size_t)done;
    }
}

static void say(int fd, const char *text) { send_all(fd, text, strlen(text)); }

static void send_frame(const char *nonce, const char *rest)
{
    static char body[1 << 17], line[1 << 17 | 64];
    snprintf(body, sizeof body, "%s %d %s", nonce, ++sequence, rest);
    snprintf(line, sizeof line, "\n@FR1 %s %08x\n", body, crc32(body));
    say(frames, line);
}

/* Waits for a frame from the host; what kind it is, or 0 when there was none in so many ms. */
static const char *hear(int timeout_ms)
{
    static char kind[16], nonce[80], line[1 << 17];
    for (;;) {
        char *end = memchr(inbox, '\n', inbox_used);
        if (end) {
            size_t n = (size_t)(end - inbox);
            memcpy(line, inbox, n);
            line[n] = 0;
            inbox_used -= n + 1;
            memmove(inbox, end + 1, inbox_used);
            if (sscanf(line, "@FR1 %79s %*d %15s", nonce, kind) != 2) continue;
            if (!strcmp(kind, "RUN")) strcpy(run_nonce, nonce);
            char *at = strstr(line, " mark=");
            if (at) sscanf(at + 6, "%79s", mark);
            if (!strcmp(kind, "QUIT")) quit_seen = 1;
            return kind;
        }
        struct pollfd p = {frames, POLLIN, 0};
        if (poll(&p, 1, timeout_ms) <= 0) return 0;
        ssize_t n = read(frames, inbox + inbox_used, sizeof inbox - inbox_used);
        if (n <= 0) _exit(0);
        inbox_used += (size_t)n;
    }
}

static void send_hex(int fd, const char *hex, int times)
{
    static char data[1 << 16];
    size_t n = 0;
    for (unsigned byte; sscanf(hex, "%2x", &byte) == 1 && n < sizeof data; hex += 2)
        data[n++] = (char)byte;
    while (times-- > 0) send_all(fd, data, n);
}

static void check_console(void)
{
    char text[200];
    snprintf(text, sizeof text, "[    0.500000] flaky-repro: console check %s\r\n", boot);
    say(console, text);
}

static void say_ready(void)
{
    send_frame(boot, "READY protocol=1 cpus=1 memory=268435456 uptime_ns=1 kmsg=1 port=ttyS1"
                     " release=6.1.0 version=x");
}

static void say_mark(const char *what)
{
    char text[200];
    snprintf(text, sizeof text, "[    1.000000] flaky-repro: %s %s\r\n", what, mark);
    say(console, text);
}

static void play(char *word)
{
    static char output[1 << 16];
    char a[32] = "", b[32] = "", rest[200];
    int n = 0;
    char *tail = strchr(word, ':');
    tail = tail ? tail + 1 : word + strlen(word);
    char *second = strchr(tail, ':');
    switch (word[0]) {
    case 'B': say(console, "Linux version 6.1.0\r\n"); check_console(); say_ready(); break;
    case 'L': check_console(); break;
    case 'Y': say_ready(); break;
    case 'R': for (const char *k; !(k = hear(-1)) || strcmp(k, "RUN");) {} break;
    case 'M': say_mark("run"); break;
    case 'D': say_mark("end"); break;
    case 'S': send_frame(run_nonce, "START uptime_ns=2"); break;
    case 'o':
        snprintf(output, sizeof output, "OUT at=%.*s data=%s", (int)(second - tail), tail, second + 1);
        send_frame(run_nonce, output);
        break;
    case 'e':
        sscanf(tail, "%31[^:]:%d", a, &n);
        snprintf(rest, sizeof rest, "END how=%s code=%d ns=1000000 stuck=0 output=0", a, n);
        do send_frame(run_nonce, rest); while (!hear(200)); /* the host says ACK, or QUIT */
        break;
    case 'n':
        sscanf(tail, "%31[^:]:%31[^:]:%d", a, b, &n);
        snprintf(rest, sizeof rest, "END how=%s code=%d ns=1 stuck=0 output=0", b, n);
        send_frame(!strcmp(a, "run") ? run_nonce : !strcmp(a, "boot") ? boot
                   : !strcmp(a, "mark") ? mark : "0123456789abcdef", rest);
        break;
    case 'c': send_hex(console, tail, 1); break;
    case 'f': send_hex(frames, tail, 1); break;
    case 'q': send_hex(qmp, tail, 1); break;
    case 'C': send_hex(console, second + 1, atoi(tail)); break;
    case 'F': send_hex(frames, second + 1, atoi(tail)); break;
    case 'g': while (!quit_seen) hear(-1); break;
    case 'x':
        sscanf(tail, "%31[^:]:%d", a, &n);
        snprintf(rest, sizeof rest, "{\"event\": \"SHUTDOWN\", \"data\": {\"reason\": \"%s\"}}\r\n", a);
        say(qmp, rest);
        _exit(n);
    case 'X': _exit(atoi(tail));
    case 'k': signal(atoi(tail), SIG_DFL); kill(getpid(), atoi(tail)); break;
    case 'h': for (;;) pause();
    case 'b': for (;;) {}
    default: fprintf(stderr, "false_qemu: no such word: %s\n", word); _exit(99);
    }
}

int main(int argc, char **argv)
{
    char *script = "";
    for (int i = 1; i < argc; i++) {
        sscanf(argv[i], "socket,id=console,fd=%d", &console);
        sscanf(argv[i], "socket,id=frames,fd=%d", &frames);
        sscanf(argv[i], "socket,id=qmp,fd=%d", &qmp);
        char *at = strstr(argv[i], "FLAKY_REPRO_BOOT=");
        if (at) sscanf(at + 17, "%79s", boot);
        at = strstr(argv[i], "play=");
        if (at) script = at + 5;
    }
    script[strcspn(script, " ")] = 0;
    say(qmp, "{\"QMP\": {}}\r\n");
    for (char *word = strtok(script, ","); word; word = strtok(0, ",")) play(word);
    return 98;
}
