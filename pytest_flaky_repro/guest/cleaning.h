/* What a run left in the file system, undone before the next run of the same boot.
 *
 * /tmp and /dev/shm are emptied; in the reproducer's folder and in /root what was not there at
 * boot is removed. What a run changed in the kernel stays: that is what sharing a boot means.
 */
#ifndef FLAKY_REPRO_CLEANING_H
#define FLAKY_REPRO_CLEANING_H
#include "syscalls.h"

enum { PATH_SIZE = 4096, NAMES_SIZE = 8192, DEPTH_MAX = 32 };
enum { MNT_DETACH = 2, O_DIRECTORY = 0200000, O_NOFOLLOW = 0400000 };

struct dirent { u64 inode, offset; unsigned short size; u8 type; char name[]; };
struct folder { const char *path; char names[NAMES_SIZE]; u64 used; int whole; };

static struct folder kept[2];

static int is_dots(const char *name)
{
    return name[0] == '.' && (!name[1] || (name[1] == '.' && !name[2]));
}

static i64 open_folder(const char *path)
{
    return SYS(SYS_open, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC, 0, 0, 0);
}

static int was_there(const struct folder *f, const char *name)
{
    if (!f) return 0;
    for (u64 i = 0; i < f->used; i += length(f->names + i) + 1)
        if (same(f->names + i, name)) return 1;
    return 0;
}

static void remember(struct folder *f)
{
    u8 part[2048];
    i64 n, fd = open_folder(f->path);
    if (fd < 0) return;
    f->whole = 1;
    while ((n = SYS(SYS_getdents64, fd, part, sizeof part, 0, 0)) > 0)
        for (i64 i = 0; i < n;) {
            struct dirent *d = (struct dirent *)(part + i);
            u64 size = length(d->name) + 1;
            i += d->size;
            if (f->used + size > NAMES_SIZE) f->whole = 0;
            else memcpy(f->names + f->used, d->name, size), f->used += size;
        }
    SYS(SYS_close, fd, 0, 0, 0, 0);
}

/* Removes what lies below path (path[n] is its end), but for the names in spare. */
static void empty(char *path, u64 n, const struct folder *spare, int depth)
{
    u8 part[2048];
    i64 got, fd = depth < DEPTH_MAX ? open_folder(path) : -1;
    if (fd < 0) return;
    while ((got = SYS(SYS_getdents64, fd, part, sizeof part, 0, 0)) > 0)
        for (i64 i = 0; i < got;) {
            struct dirent *d = (struct dirent *)(part + i);
            u64 size = length(d->name) + 1;
            i += d->size;
            if (is_dots(d->name) || was_there(spare, d->name) || n + size + 1 > PATH_SIZE) continue;
            path[n] = '/';
            memcpy(path + n + 1, d->name, size);
            if (SYS(SYS_unlink, path, 0, 0, 0, 0) < 0) {
                while (SYS(SYS_umount2, path, MNT_DETACH, 0, 0, 0) == 0) {}
                empty(path, n + size, 0, depth + 1);
                SYS(SYS_rmdir, path, 0, 0, 0, 0);
            }
            path[n] = 0;
        }
    SYS(SYS_close, fd, 0, 0, 0, 0);
}

static void empty_folder(const char *name, const struct folder *spare)
{
    static char path[PATH_SIZE];
    u64 n = length(name);
    memcpy(path, name, n + 1);
    empty(path, n, spare, 0);
}

static void remember_what_there_is(void)
{
    kept[0].path = "/repro";
    kept[1].path = "/root";
    for (int i = 0; i < 2; i++) remember(&kept[i]);
}

static void clean_up(void)
{
    while (SYS(SYS_umount2, "/tmp", MNT_DETACH, 0, 0, 0) == 0) {}
    empty_folder("/tmp", 0);
    SYS(SYS_mount, "tmp", "/tmp", "tmpfs", 0, 0);
    empty_folder("/dev/shm", 0);
    for (int i = 0; i < 2; i++)
        if (kept[i].whole) empty_folder(kept[i].path, &kept[i]);
}

#endif
