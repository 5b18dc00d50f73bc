/* The guest agent: /init of every generated initramfs.
 *
 * It says READY, runs what the host asks for (RUN), says START before and END after, repeats END
 * until the host answers, and reboots on QUIT. It needs a kernel with an 8250 port, an initramfs
 * and ELF, and nothing else; whatever more there is (procfs, devtmpfs, a second port) it uses.
 */
#include "cleaning.h"
#include "frames.h"

enum { HEAD_BYTES = 8192, TAIL_BYTES = 16384, ARGS_MAX = 16384, WORDS_MAX = 512 };

static int port = -1;               /* where frames go: ttyS1, or the console */
static const char *port_name = "none";
static char nonce[NONCE_MAX] = "unset";
static u64 sequence;
static struct line out;
static char inbox[FRAME_MAX];
static u64 inbox_used;

/* ---- talking to the host ---- */

static void send_all(int fd, const char *s, u64 n)
{
    while (n) {
        i64 done = SYS(SYS_write, fd, s, n, 0, 0);
        if (done == -EINTR || done == -EAGAIN) continue;
        if (done <= 0) return;
        s += done;
        n -= (u64)done;
    }
}

/* The leading newline ends whatever the kernel may just have printed on a shared console. */
static u64 begin(const char *kind)
{
    out.used = 0;
    put(&out, "\n@FR1 ");
    u64 from = out.used;
    put(&out, nonce);
    put(&out, " ");
    put_number(&out, ++sequence);
    put(&out, " ");
    put(&out, kind);
    return from;
}

static void finish(u64 from)
{
    put_crc(&out, from);
    send_all(port, out.text, out.used);
    SYS(SYS_ioctl, port, TCSBRK, 1, 0, 0); /* on the wire before anything can crash */
}

static void key(const char *name)
{
    put(&out, " ");
    put(&out, name);
    put(&out, "=");
}

static void key_number(const char *name, u64 value)
{
    key(name);
    put_number(&out, value);
}

static void send_output(u64 offset, const u8 *data, u64 n)
{
    while (n) {
        u64 part = n < 3072 ? n : 3072;
        u64 from = begin("OUT");
        key_number("at", offset);
        key("data");
        put_base64(&out, data, part);
        finish(from);
        offset += part;
        data += part;
        n -= part;
    }
}

/* Waits up to timeout_ms for an intact frame; 1 when one came. */
static int receive(struct frame *f, i64 timeout_ms)
{
    static char text[FRAME_MAX];
    u64 until = now_ns() + (u64)timeout_ms * 1000000ul;
    for (;;) {
        for (u64 i = 0; i < inbox_used; i++) {
            if (inbox[i] != '\n' && inbox[i] != '\r') continue;
            memcpy(text, inbox, i);
            text[i] = 0;
            inbox_used -= i + 1;
            memcpy(inbox, inbox + i + 1, inbox_used);
            if (parse_frame(text, f)) return 1;
            i = (u64)-1;
        }
        if (inbox_used == FRAME_MAX) inbox_used = 0;
        u64 now = now_ns();
        if (now >= until) return 0;
        struct timespec wait = {(i64)((until - now) / 1000000000ul), (i64)((until - now) % 1000000000ul)};
        struct pollfd p = {port, POLLIN, 0};
        if (SYS(SYS_ppoll, &p, 1, &wait, 0, 0) <= 0) continue;
        i64 n = SYS(SYS_read, port, inbox + inbox_used, FRAME_MAX - inbox_used, 0, 0);
        if (n > 0) inbox_used += (u64)n;
    }
}

/* ---- what kind of guest is this ---- */

static void make_raw(int fd)
{
    struct termios t;
    if (SYS(SYS_ioctl, fd, TCGETS, &t, 0, 0) < 0) return;
    t.iflag = t.oflag = t.lflag = 0;
    t.cflag = 010002 | 060 | 0200 | 04000; /* B115200, CS8, CREAD, CLOCAL */
    t.cc[5] = 0;                           /* VTIME */
    t.cc[6] = 1;                           /* VMIN */
    SYS(SYS_ioctl, fd, TCSETS, &t, 0, 0);
}

/* A second 8250 keeps frames whole; opening one that is not there succeeds, so ask for its type. */
static void open_port(void)
{
    int serial[32] = {0};
    i64 fd = SYS(SYS_open, "/dev/ttyS1", O_RDWR | O_NOCTTY | O_CLOEXEC, 0, 0, 0);
    if (fd >= 0 && SYS(SYS_ioctl, fd, TIOCGSERIAL, serial, 0, 0) == 0 && serial[0] != 0) {
        port = (int)fd;
        port_name = "ttyS1";
    } else {
        if (fd >= 0) SYS(SYS_close, fd, 0, 0, 0, 0);
        fd = SYS(SYS_open, "/dev/ttyS0", O_RDWR | O_NOCTTY | O_CLOEXEC, 0, 0, 0);
        if (fd < 0) fd = SYS(SYS_open, "/dev/console", O_RDWR | O_NOCTTY | O_CLOEXEC, 0, 0, 0);
        port = (int)fd;
        port_name = "console";
    }
    if (port >= 0) make_raw(port);
}

/* What was run may have changed the port: stopped it, set its modes, or hung it up (a session leader
 * that opens a terminal without O_NOCTTY does that by exiting). */
static void recover_port(void)
{
    struct timespec none = {0, 0};
    struct pollfd p = {port, 0, 0};
    SYS(SYS_ppoll, &p, 1, &none, 0, 0);
    if (p.revents & (POLLERR | POLLHUP)) {
        SYS(SYS_close, port, 0, 0, 0, 0);
        open_port();
        return;
    }
    SYS(SYS_ioctl, port, TCXONC, 1 /* TCOON */, 0, 0);
    make_raw(port);
}

static void mount_what_there_is(void)
{
    SYS(SYS_mount, "dev", "/dev", "devtmpfs", 0, 0);
    SYS(SYS_mount, "proc", "/proc", "proc", 0, 0);
    SYS(SYS_mount, "sys", "/sys", "sysfs", 0, 0);
    SYS(SYS_mount, "debug", "/sys/kernel/debug", "debugfs", 0, 0);
    SYS(SYS_mkdir, "/dev/shm", 01777, 0, 0, 0);
    SYS(SYS_mkdir, "/dev/pts", 0755, 0, 0, 0);
    SYS(SYS_mount, "shm", "/dev/shm", "tmpfs", 0, 0);
    SYS(SYS_mount, "pts", "/dev/pts", "devpts", 0, 0);
    SYS(SYS_mount, "tmp", "/tmp", "tmpfs", 0, 0);
}

static u64 count_cpus(void)
{
    static u64 mask[128];
    i64 bytes = SYS(SYS_sched_getaffinity, 0, sizeof mask, mask, 0, 0);
    u64 n = 0;
    for (i64 i = 0; i < bytes / 8; i++)
        for (u64 m = mask[i]; m; m &= m - 1) n++;
    return n;
}

/* Lets every level of kernel message through to the console. */
static void let_messages_through(void)
{
    SYS(SYS_syslog, 8 /* SYSLOG_ACTION_CONSOLE_LEVEL */, 0, 8, 0, 0);
}

/* Prints through printk: 1 when it was accepted.
 * The host waits for the text, since a report that cannot reach it would be taken for survival.
 * Before and behind a run it marks, in the console's own order, where the trial begins and ends;
 * the second mark finds the levels as the run left them, and stays out if warnings would have. The
 * log can be read by what is run, so the token (up to the next space) is not its result's nonce. */
static u64 print_to_kernel_log(const char *what, const char *token)
{
    static struct line l;
    l.used = 0;
    i64 fd = SYS(SYS_open, "/dev/kmsg", O_WRONLY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0) return 0;
    put(&l, "<4>flaky-repro: ");
    put(&l, what);
    put(&l, " ");
    for (char c[2] = {0}; token && *token && *token != ' '; token++) c[0] = *token, put(&l, c);
    put(&l, "\n");
    i64 n = SYS(SYS_write, fd, l.text, l.used, 0, 0);
    SYS(SYS_close, fd, 0, 0, 0, 0);
    return n > 0;
}

/* The kernel's taint flags (Documentation/admin-guide/tainted-kernels.rst); none without procfs. */
static void key_taint(void)
{
    char text[32];
    i64 fd = SYS(SYS_open, "/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC, 0, 0, 0);
    if (fd < 0) return;
    i64 n = SYS(SYS_read, fd, text, sizeof text - 1, 0, 0);
    SYS(SYS_close, fd, 0, 0, 0, 0);
    if (n <= 1) return;
    text[n - 1] = 0;
    key("taint");
    put_word(&out, text);
}

static void say_ready(u64 canary)
{
    struct utsname u;
    struct sysinfo s;
    memset(&u, 0, sizeof u);
    memset(&s, 0, sizeof s);
    SYS(SYS_uname, &u, 0, 0, 0, 0);
    SYS(SYS_sysinfo, &s, 0, 0, 0, 0);
    u64 from = begin("READY");
    key_number("protocol", 1);
    key_number("cpus", count_cpus());
    key_number("memory", s.total);
    key_number("uptime_ns", now_ns());
    key_number("kmsg", canary);
    key("port");
    put(&out, port_name);
    key("release");
    put_word(&out, u.release);
    key("version");
    put_word(&out, u.version);
    finish(from);
}

/* ---- running a command ---- */

static void on_child(int signal) { (void)signal; }

__asm__(".text\n.globl signal_return\nsignal_return:\n\tmov $15, %eax\n\tsyscall\n");
void signal_return(void);

static void watch_children(void)
{
    struct sigaction a = {on_child, 0x04000000 /* SA_RESTORER */, signal_return, 0};
    u64 block = 1ul << (SIGCHLD - 1);
    SYS(SYS_rt_sigaction, SIGCHLD, &a, 0, 8, 0);
    SYS(SYS_rt_sigprocmask, SIG_BLOCK, &block, 0, 8, 0);
}

struct command {
    u8 words[ARGS_MAX];
    char *argv[WORDS_MAX], *envp[WORDS_MAX];
    u64 time_ns;
};

/* Points into a block of NUL-terminated words. */
static void split(u8 *block, u64 n, char **to)
{
    u64 count = 0;
    for (u64 i = 0; i < n && count < WORDS_MAX - 1; i++)
        if (i == 0 || block[i - 1] == 0) to[count++] = (char *)block + i;
    to[count] = 0;
}

static void read_command(struct command *c, const char *payload)
{
    const char *args = value_of(payload, "argv"), *env = value_of(payload, "env");
    u64 n = args ? take_base64(args, c->words, ARGS_MAX / 2) : 0;
    c->words[n] = 0;
    split(c->words, n, c->argv);
    u8 *rest = c->words + n + 1;
    u64 m = env ? take_base64(env, rest, ARGS_MAX / 2 - 2) : 0;
    rest[m] = 0;
    split(rest, m, c->envp);
    c->time_ns = number_of(payload, "time_ms") * 1000000ul;
}

/* Credits the host's bytes to the guest's generator, so that no two trials share it. */
static void add_entropy(const char *payload)
{
    struct { int bits, size; u8 data[64]; } pool;
    const char *seed = value_of(payload, "entropy");
    if (!seed) return;
    pool.size = (int)take_base64(seed, pool.data, sizeof pool.data);
    pool.bits = pool.size * 8;
    i64 fd = SYS(SYS_open, "/dev/urandom", O_RDWR | O_CLOEXEC, 0, 0, 0);
    if (fd < 0) return;
    SYS(SYS_ioctl, fd, RNDADDENTROPY, &pool, 0, 0);
    SYS(SYS_ioctl, fd, RNDRESEEDCRNG, 0, 0, 0);
    SYS(SYS_close, fd, 0, 0, 0, 0);
}

/* A guest restored from a snapshot is told the time, and begins a moment of the host's choice
 * later: sleeping for most of it, spinning for the rest. Where the clock moves by whole ticks that
 * ends on a tick, so turns of a loop follow: no two runs are then at one place between ticks. */
static void set_off(const char *payload)
{
    u64 epoch = number_of(payload, "epoch_ns"), delay = number_of(payload, "delay_us") * 1000ul;
    if (epoch) {
        struct timespec t = {(i64)(epoch / 1000000000ul), (i64)(epoch % 1000000000ul)};
        SYS(SYS_clock_settime, 0 /* CLOCK_REALTIME */, &t, 0, 0, 0);
    }
    u64 until = now_ns() + delay;
    struct timespec asleep = {0, (i64)(delay > 1000000ul ? delay - 1000000ul : 0)};
    if (asleep.nsec) SYS(SYS_ppoll, 0, 0, &asleep, 0, 0);
    while (now_ns() < until) {}
    for (volatile u64 turns = number_of(payload, "turns"); turns; turns--) {}
}

static void become(struct command *c, int output, int failure)
{
    u64 none = 0;
    SYS(SYS_setsid, 0, 0, 0, 0, 0);
    SYS(SYS_rt_sigprocmask, SIG_SETMASK, &none, 0, 8, 0);
    i64 null = SYS(SYS_open, "/dev/null", O_RDONLY, 0, 0, 0);
    if (null > 0) SYS(SYS_dup2, null, 0, 0, 0, 0);
    SYS(SYS_dup2, output, 1, 0, 0, 0);
    SYS(SYS_dup2, output, 2, 0, 0, 0);
    SYS(SYS_chdir, "/repro", 0, 0, 0, 0);
    i64 error = -SYS(SYS_execve, c->argv[0], c->argv, c->envp, 0, 0);
    SYS(SYS_write, failure, &error, sizeof error, 0, 0);
    SYS(SYS_exit, 127, 0, 0, 0, 0);
}

/* Output of the reproducer: the head goes out at once (a kernel that dies takes the rest along),
 * the tail is kept in a ring, so that a chatty reproducer does not wait for a slow port. */
struct capture { u8 tail[TAIL_BYTES]; u64 total; };

static void take_output(struct capture *c, int fd)
{
    u8 part[4096];
    i64 n;
    while ((n = SYS(SYS_read, fd, part, sizeof part, 0, 0)) > 0) {
        u64 head = 0;
        if (c->total < HEAD_BYTES) {
            head = HEAD_BYTES - c->total < (u64)n ? HEAD_BYTES - c->total : (u64)n;
            send_output(c->total, part, head);
        }
        for (u64 i = head; i < (u64)n; i++) c->tail[(c->total + i) % TAIL_BYTES] = part[i];
        c->total += (u64)n;
    }
}

static void send_tail(struct capture *c)
{
    u64 from = c->total > HEAD_BYTES + TAIL_BYTES ? c->total - TAIL_BYTES : HEAD_BYTES;
    while (from < c->total) {
        u64 at = from % TAIL_BYTES, n = c->total - from;
        if (n > TAIL_BYTES - at) n = TAIL_BYTES - at;
        send_output(from, c->tail + at, n);
        from += n;
    }
}

/* Every other process dies; what will not die in three seconds is counted. */
static u64 kill_the_rest(void)
{
    u64 until = now_ns() + 3000000000ul;
    for (;;) {
        i64 gone;
        SYS(SYS_kill, -1, SIGKILL, 0, 0, 0);
        while ((gone = SYS(SYS_wait4, -1, 0, WNOHANG, 0, 0)) > 0) {}
        if (gone < 0) return 0;
        if (now_ns() > until) return 1;
        struct timespec wait = {0, 100000000};
        u64 none = 0;
        SYS(SYS_ppoll, 0, 0, &wait, &none, 8);
    }
}

struct ending { const char *how; u64 code, ns, stuck; };

/* Waits for the child or for the end of its time; SIGCHLD is open only inside ppoll. */
static int await(i64 child, struct command *c, struct capture *cap, int output, u64 began)
{
    u64 open_mask = 0;
    for (;;) {
        int status = 0;
        if (SYS(SYS_wait4, child, &status, WNOHANG, 0, 0) == child) return status;
        u64 spent = now_ns() - began;
        if (c->time_ns && spent >= c->time_ns) return -1;
        u64 left = c->time_ns ? c->time_ns - spent : 1000000000ul;
        struct timespec wait = {(i64)(left / 1000000000ul), (i64)(left % 1000000000ul)};
        struct pollfd p = {output, POLLIN, 0};
        if (SYS(SYS_ppoll, &p, 1, &wait, &open_mask, 8) <= 0) continue;
        if (p.revents & POLLIN) take_output(cap, output);
        else {
            struct timespec exiting = {left < 1000000000ul ? 0 : 1, (i64)(left % 1000000000ul)};
            SYS(SYS_ppoll, 0, 0, &exiting, &open_mask, 8); /* output closed: only the child is left */
        }
    }
}

static struct ending run(struct command *c, struct capture *cap)
{
    struct ending e = {"exec", 0, 0, 0};
    int output[2], failure[2];
    i64 error = 0;
    SYS(SYS_pipe2, output, O_CLOEXEC, 0, 0, 0);
    SYS(SYS_pipe2, failure, O_CLOEXEC, 0, 0, 0);
    SYS(SYS_fcntl, output[0], 4 /* F_SETFL */, O_NONBLOCK, 0, 0);
    u64 began = now_ns();
    i64 child = SYS(SYS_fork, 0, 0, 0, 0, 0);
    if (child == 0) become(c, output[1], failure[1]);
    SYS(SYS_close, output[1], 0, 0, 0, 0);
    SYS(SYS_close, failure[1], 0, 0, 0, 0);
    int status = child < 0 ? 0 : await(child, c, cap, output[0], began);
    e.ns = now_ns() - began;
    e.stuck = kill_the_rest();
    take_output(cap, output[0]);
    i64 told = SYS(SYS_read, failure[0], &error, sizeof error, 0, 0);
    SYS(SYS_close, output[0], 0, 0, 0, 0);
    SYS(SYS_close, failure[0], 0, 0, 0, 0);
    if (child < 0) e.code = (u64)-child;
    else if (told == sizeof error) e.code = (u64)error;
    else if (status == -1) e.how = "time";
    else if (status & 0x7f) e.how = "signal", e.code = (u64)(status & 0x7f);
    else e.how = "exit", e.code = (u64)(status >> 8 & 0xff);
    return e;
}

static void say_end(const struct ending *e, u64 bytes)
{
    u64 from = begin("END");
    key("how");
    put(&out, e->how);
    key_number("code", e->code);
    key_number("ns", e->ns);
    key_number("stuck", e->stuck);
    key_number("output", bytes);
    key_taint();
    finish(from);
}

static void copy_nonce(const char *s)
{
    u64 n = length(s);
    if (n >= NONCE_MAX) n = NONCE_MAX - 1;
    memcpy(nonce, s, n);
    nonce[n] = 0;
}

static void leave(void)
{
    SYS(SYS_sync, 0, 0, 0, 0, 0);
    SYS(SYS_reboot, 0xfee1dead, 672274793, 0x01234567 /* RB_AUTOBOOT */, 0, 0);
    for (;;) SYS(SYS_sched_yield, 0, 0, 0, 0, 0);
}

static void serve_run(const struct frame *f)
{
    static struct command c;
    static struct capture cap;
    cap.total = 0;
    copy_nonce(f->nonce);
    read_command(&c, f->payload);
    add_entropy(f->payload);
    if (value_of(f->payload, "fresh")) clean_up();
    set_off(f->payload);
    let_messages_through();
    print_to_kernel_log("run", value_of(f->payload, "mark"));
    u64 from = begin("START");
    key_number("uptime_ns", now_ns());
    key_number("cpus", count_cpus());
    key_taint();
    finish(from);
    struct ending e = run(&c, &cap);
    recover_port();
    print_to_kernel_log("end", value_of(f->payload, "mark"));
    send_tail(&cap);
    struct frame answer;
    for (int tries = 0; tries < 240; tries++) { /* repeated until the host says it has it */
        say_end(&e, cap.total);
        if (!receive(&answer, 500)) continue;
        if (same(answer.kind, "ACK")) return;
        if (same(answer.kind, "QUIT")) leave(); /* its ACK was lost */
    }
}

static void serve(void)
{
    let_messages_through();
    u64 quiet = 0, canary = print_to_kernel_log("console check", nonce);
    struct frame f;
    say_ready(canary);
    for (;;) {
        if (!receive(&f, 1000)) {
            if (sequence == 1 + quiet && quiet < 30) say_ready(canary), quiet++;
            continue;
        }
        if (same(f.kind, "RUN") && !same(f.nonce, nonce)) serve_run(&f);
        else if (same(f.kind, "QUIT")) leave();
    }
}

void agent_main(u64 *stack)
{
    char **envp = (char **)(stack + 1 + stack[0] + 1);
    for (; *envp; envp++) {
        const char *v = after(*envp, "FLAKY_REPRO_BOOT=");
        if (v) copy_nonce(v);
    }
    mount_what_there_is();
    remember_what_there_is();
    watch_children();
    open_port();
    serve();
}

__asm__(".text\n.globl _start\n_start:\n\txor %ebp, %ebp\n\tmov %rsp, %rdi\n\tand $-16, %rsp\n\tcall agent_main\n");
