/* Preloaded into a process: lets the n-th call that writes below given folders fail or kill.
 *
 * torture_arm() is called by the process itself, after it has been forked for one export. Calls
 * are counted over all threads; those to other folders, and all before it, pass.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum { COUNT, FAIL, FAIL_FROM, SHORTEN, KILL }; /* what is done; see exporter.py */

static char roots[8][PATH_MAX];
static int root_count, action, error_code, trace_file = -1;
static long target;
static atomic_long calls;

/* Arms the calls below `folders` (joined by colons); `trace`: a file that lists them. */
void torture_arm(const char* folders, int what, long nth, int code, const char* trace) {
  char copy[8 * PATH_MAX];
  snprintf(copy, sizeof copy, "%s", folders);
  root_count = 0;
  for (char* part = strtok(copy, ":"); part && root_count < 8; part = strtok(NULL, ":"))
    snprintf(roots[root_count++], PATH_MAX, "%s", part);
  action = what;
  target = nth;
  error_code = code;
  atomic_store(&calls, 0);
  trace_file = (int)syscall(SYS_openat, AT_FDCWD, trace, O_WRONLY | O_CREAT | O_APPEND, 0600);
}

static int below(const char* path) {
  for (int i = 0; i < root_count; i++) {
    size_t length = strlen(roots[i]);
    if (!strncmp(path, roots[i], length) && (path[length] == '/' || !path[length])) return 1;
  }
  return 0;
}

static int described(int file, char* path) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = 0;
  return length > 0;
}

static void trace(const char* call, const char* path) {
  char line[PATH_MAX + 32];
  int length = snprintf(line, sizeof line, "%s %s\n", call, path);
  if (trace_file >= 0) syscall(SYS_write, trace_file, line, (size_t)length);
}

static void die(void) {
  syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
  for (;;) pause();
}

/* Whether this call is the one, or one of those, that something happens to. */
static int hit(const char* call, const char* path) {
  if (!root_count || !below(path)) return 0;
  long number = atomic_fetch_add(&calls, 1);
  trace(call, path);
  if (action == COUNT) return 0;
  return action == FAIL_FROM ? number >= target : number == target;
}

static int refused(const char* call, const char* path) {
  if (!hit(call, path) || action == SHORTEN) return 0;
  if (action == KILL) die();
  errno = error_code;
  return 1;
}

/* How many of `size` bytes are written; -1: the call fails. A kill leaves half of them. */
static ssize_t allowed(const char* call, int file, size_t size, int* doomed) {
  char path[PATH_MAX];
  *doomed = 0;
  if (!root_count || !described(file, path) || !hit(call, path)) return (ssize_t)size;
  if (action == FAIL || action == FAIL_FROM) {
    errno = error_code;
    return -1;
  }
  *doomed = action == KILL;
  return (ssize_t)(size > 1 ? size / 2 : size);
}

#define REAL(name) ((__typeof__(name)*)dlsym(RTLD_NEXT, #name))

ssize_t write(int file, const void* data, size_t size) {
  int doomed;
  ssize_t some = allowed("write", file, size, &doomed);
  if (some < 0) return -1;
  ssize_t done = REAL(write)(file, data, (size_t)some);
  if (doomed) die();
  return done;
}

ssize_t pwrite64(int file, const void* data, size_t size, off64_t offset) {
  int doomed;
  ssize_t some = allowed("pwrite", file, size, &doomed);
  if (some < 0) return -1;
  ssize_t done = REAL(pwrite64)(file, data, (size_t)some, offset);
  if (doomed) die();
  return done;
}

ssize_t pwrite(int file, const void* data, size_t size, off_t offset) {
  return pwrite64(file, data, size, offset);
}

ssize_t writev(int file, const struct iovec* parts, int count) {
  for (int i = 0; i < count; i++) /* writing less than all of it is always right */
    if (parts[i].iov_len) return write(file, parts[i].iov_base, parts[i].iov_len);
  return 0;
}

#define OPEN(name)                                                         \
  int name(const char* path, int flags, ...) {                             \
    va_list rest;                                                          \
    va_start(rest, flags);                                                 \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                          \
    if ((flags & O_ACCMODE) != O_RDONLY && refused("open", path)) return -1; \
    return REAL(name)(path, flags, mode);                                  \
  }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                       \
  int name(int folder, const char* path, int flags, ...) {                 \
    va_list rest;                                                          \
    va_start(rest, flags);                                                 \
    mode_t mode = (flags & (O_CREAT | O_TMPFILE)) ? va_arg(rest, mode_t) : 0; \
    va_end(rest);                                                          \
    if ((flags & O_ACCMODE) != O_RDONLY && refused("open", path)) return -1; \
    return REAL(name)(folder, path, flags, mode);                          \
  }
OPENAT(openat)
OPENAT(openat64)

#define ON_FILE(name, call, arguments, passed) \
  int name arguments {                         \
    char path[PATH_MAX];                       \
    if (root_count && described(file, path) && refused(call, path)) return -1; \
    return REAL(name) passed;                  \
  }
ON_FILE(ftruncate, "truncate", (int file, off_t size), (file, size))
ON_FILE(ftruncate64, "truncate", (int file, off64_t size), (file, size))
ON_FILE(fsync, "sync", (int file), (file))
ON_FILE(fdatasync, "sync", (int file), (file))

int rename(const char* from, const char* to) {
  return refused("rename", to) ? -1 : REAL(rename)(from, to);
}

int renameat(int from_folder, const char* from, int to_folder, const char* to) {
  return refused("rename", to) ? -1 : REAL(renameat)(from_folder, from, to_folder, to);
}

int renameat2(int from_folder, const char* from, int to_folder, const char* to, unsigned flags) {
  if (refused("exchange", to)) return -1;
  return REAL(renameat2)(from_folder, from, to_folder, to, flags);
}

int mkdir(const char* path, mode_t mode) {
  return refused("mkdir", path) ? -1 : REAL(mkdir)(path, mode);
}
