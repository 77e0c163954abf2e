/* The limit that gophd is measured against: a loop of clock_nanosleep and posix_spawn, and nothing else.
 * usage: plain INTERVAL_NS COUNT COMMAND [ARG...]   with an interval of 0: back to back
 * With PLAIN_JOBS=N it starts N commands at each tick. */
#define _GNU_SOURCE
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>

extern char **environ;

static long long now(clockid_t c)
{
	struct timespec t;
	clock_gettime(c, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	if (argc < 4) return 2;
	long long interval = atoll(argv[1]), count = atoll(argv[2]);
	const char *jobs = getenv("PLAIN_JOBS");
	int n = jobs ? atoi(jobs) : 1;
	long long anchor = now(CLOCK_MONOTONIC);
	for (long long k = 0; k < count; k++) {
		long long due = anchor + k * interval;
		struct timespec t = {due / 1000000000LL, due % 1000000000LL};
		if (interval) clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
		else due = now(CLOCK_MONOTONIC);
		char text[32];
		snprintf(text, sizeof text, "%lld", due + now(CLOCK_REALTIME) - now(CLOCK_MONOTONIC));
		setenv("PLAIN_DUE", text, 1);
		pid_t pid;
		int status;
		for (int i = 0; i < n; i++)
			if (posix_spawnp(&pid, argv[3], NULL, NULL, argv + 3, environ)) return 1;
		for (int i = 0; i < n; i++)
			if (wait(&status) < 0) return 1;
	}
	return 0;
}
