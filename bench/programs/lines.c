/* The producer of the log measurements: writes COUNT numbered lines of 80 bytes to its stdout as fast as it
 * can, CHUNK bytes a write (64 KiB tears lines, 4 KiB holds whole ones, see below), then writes "BEGAN CPU\n"
 * to the file REPORT: the wall clock of its first act and the CPU time that it used, in nanoseconds.
 * usage: lines COUNT CHUNK REPORT */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE = 80, DIGITS = 10 };

static long long now(clockid_t c)
{
	struct timespec t;
	clock_gettime(c, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void put(const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(1, p, n);
		if (w < 0 && errno == EINTR) continue;
		if (w < 0) exit(1);
		p += w, n -= w;
	}
}

int main(int argc, char **argv)
{
	long long began = now(CLOCK_REALTIME);
	if (argc != 4) return 2;
	long long count = atoll(argv[1]);
	size_t chunk = atoll(argv[2]), have = 0;
	if (chunk < LINE) return 2;
	/* Below the size of a pipe whole lines are written at once, as programs do that flush at a line's end;
	 * from there on a write ends where the buffer does, as stdio's does. */
	if (chunk < 65536) chunk -= chunk % LINE;
	char *buffer = malloc(chunk + LINE);
	char line[LINE + 1] = "0000000000 GET /a/path/of/some/length?with=a&query=string 200 51234 0.004512 ok\n";
	if (!buffer || strlen(line) != LINE) return 3;
	for (long long k = 0; k < count; k++) {
		for (int d = DIGITS - 1; d >= 0 && ++line[d] > '9'; d--) line[d] = '0';
		memcpy(buffer + have, line, LINE);
		have += LINE;
		if (have >= chunk) {
			put(buffer, chunk);
			memmove(buffer, buffer + chunk, have -= chunk);
		}
	}
	put(buffer, have);
	char text[64];
	int n = snprintf(text, sizeof text, "%lld %lld\n", began, now(CLOCK_PROCESS_CPUTIME_ID));
	int fd = open(argv[3], O_WRONLY | O_TRUNC | O_CREAT, 0600);
	return write(fd, text, n) == n ? 0 : 1;
}
