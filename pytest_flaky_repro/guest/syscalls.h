/* System calls and the few libc words the agent needs, for a freestanding x86-64 build.
 *
 * The agent is built without libc so that it is small, starts in microseconds under emulation and
 * runs on kernels without futexes, signals fds, timers or procfs. Numbers: arch/x86/entry/syscalls/
 * syscall_64.tbl; structures: include/uapi/asm-generic/.
 */
#ifndef FLAKY_REPRO_SYSCALLS_H
#define FLAKY_REPRO_SYSCALLS_H

typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long u64;
typedef long i64;

enum {
    SYS_read = 0, SYS_write = 1, SYS_open = 2, SYS_close = 3, SYS_rt_sigaction = 13,
    SYS_rt_sigprocmask = 14, SYS_ioctl = 16, SYS_sched_yield = 24, SYS_dup2 = 33, SYS_fork = 57,
    SYS_execve = 59, SYS_exit = 60, SYS_wait4 = 61, SYS_kill = 62, SYS_uname = 63, SYS_fcntl = 72,
    SYS_chdir = 80, SYS_mkdir = 83, SYS_rmdir = 84, SYS_unlink = 87, SYS_sysinfo = 99,
    SYS_syslog = 103, SYS_setsid = 112,
    SYS_sync = 162, SYS_mount = 165, SYS_umount2 = 166, SYS_reboot = 169,
    SYS_sched_getaffinity = 204, SYS_getdents64 = 217, SYS_clock_settime = 227,
    SYS_clock_gettime = 228, SYS_ppoll = 271, SYS_pipe2 = 293,
};

static inline i64 sys6(i64 n, i64 a, i64 b, i64 c, i64 d, i64 e)
{
    i64 result;
    register i64 r10 __asm__("r10") = d;
    register i64 r8 __asm__("r8") = e;
    __asm__ volatile("syscall" : "=a"(result)
                     : "a"(n), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8)
                     : "rcx", "r11", "memory");
    return result;
}
#define SYS(n, a, b, c, d, e) sys6((n), (i64)(a), (i64)(b), (i64)(c), (i64)(d), (i64)(e))

enum { O_RDONLY = 0, O_WRONLY = 1, O_RDWR = 2, O_NOCTTY = 0400, O_NONBLOCK = 04000, O_CLOEXEC = 02000000 };
enum { EINTR = 4, EAGAIN = 11 };
enum { SIG_BLOCK = 0, SIG_SETMASK = 2, SIGKILL = 9, SIGCHLD = 17 };
enum { POLLIN = 1, POLLERR = 8, POLLHUP = 16 };
enum { WNOHANG = 1 };
enum { TCGETS = 0x5401, TCSETS = 0x5402, TCSBRK = 0x5409, TCXONC = 0x540a, TIOCGSERIAL = 0x541e };
enum { RNDADDENTROPY = 0x40085203, RNDRESEEDCRNG = 0x5207 };

struct timespec { i64 sec, nsec; };
struct pollfd { int fd; short events, revents; };
struct termios { u32 iflag, oflag, cflag, lflag; u8 line, cc[19]; };
struct utsname { char sysname[65], nodename[65], release[65], version[65], machine[65], domain[65]; };
struct sigaction { void (*handler)(int); u64 flags; void (*restorer)(void); u64 mask; };
struct sysinfo { i64 uptime; u64 loads[3], total, free, shared, buffer, swap, free_swap; u8 rest[64]; };

/* gcc may emit calls to these two for plain loops and assignments. */
void *memcpy(void *to, const void *from, u64 n)
{
    u8 *t = to;
    const u8 *f = from;
    while (n--) *t++ = *f++;
    return to;
}

void *memset(void *to, int value, u64 n)
{
    u8 *t = to;
    while (n--) *t++ = (u8)value;
    return to;
}

static u64 length(const char *s)
{
    u64 n = 0;
    while (s[n]) n++;
    return n;
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b) a++, b++;
    return *a == *b;
}

static const char *after(const char *s, const char *prefix)
{
    while (*prefix) if (*s++ != *prefix++) return 0;
    return s;
}

static u64 now_ns(void)
{
    struct timespec t;
    SYS(SYS_clock_gettime, 1 /* CLOCK_MONOTONIC */, &t, 0, 0, 0);
    return (u64)t.sec * 1000000000ul + (u64)t.nsec;
}

#endif
