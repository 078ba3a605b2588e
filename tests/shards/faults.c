/* Calls of the C library that fail as disks do. FAULT_CALL of files whose path holds FAULT_PATH, from the
   FAULT_AT-th on, fail with FAULT_ERRNO; with EINTR (which passes) every FAULT_AT-th one, and with 0 every
   FAULT_AT-th one does half of what it should. Preloaded by test_faults.py. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static int number(const char *name) {
  const char *text = getenv(name);
  return text ? atoi(text) : 0;
}

static int is_meant(const char *call, int fd) {
  const char *wanted = getenv("FAULT_CALL"), *path = getenv("FAULT_PATH");
  char link[64], found[4096];
  if (!wanted || !path || strcmp(wanted, call)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  const ssize_t n = readlink(link, found, sizeof found - 1);
  if (n < 0) return 0;
  found[n] = 0;
  return strstr(found, path) != NULL;
}

/* What becomes of a call: 0 it succeeds, -1 it does half, else errno. */
static int outcome(const char *call, int fd) {
  static int calls;
  if (!is_meant(call, fd)) {
    if (!getenv("FAULT_CALL")) calls = 0;
    return 0;
  }
  const int error = number("FAULT_ERRNO"), at = number("FAULT_AT"), n = __sync_add_and_fetch(&calls, 1);
  if (error && error != EINTR) return n >= at ? error : 0;
  return n % at ? 0 : error ? error : -1;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define FAIL_OR_GO_ON(name)                  \
  const int what = outcome(name, fd);        \
  if (what > 0) return errno = what, -1

ssize_t preadv(int fd, const struct iovec *places, int n, off_t offset) {
  FAIL_OR_GO_ON("preadv");
  const struct iovec half = {places->iov_base, (places->iov_len + 1) / 2};
  return what ? REAL(preadv)(fd, &half, 1, offset) : REAL(preadv)(fd, places, n, offset);
}

ssize_t pwrite(int fd, const void *data, size_t n, off_t offset) {
  FAIL_OR_GO_ON("pwrite");
  return REAL(pwrite)(fd, data, what ? (n + 1) / 2 : n, offset);
}

int fsync(int fd) {
  FAIL_OR_GO_ON("fsync");
  return REAL(fsync)(fd);
}

ssize_t preadv64(int fd, const struct iovec *places, int n, off_t offset) { return preadv(fd, places, n, offset); }
ssize_t pwrite64(int fd, const void *data, size_t n, off_t offset) { return pwrite(fd, data, n, offset); }
