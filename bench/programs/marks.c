/* The command of the soak with many jobs. It notes its start and how it ends in the file marks of the
 * directory argv[1], and takes locks there that show a second run of its job: that is noted in the file
 * violations.
 *
 * Options, each an argument:
 *   shared          the job allows runs beside each other
 *   for=MIN-MAX     how long it takes, in ms; the number of the run and the PID choose
 *   exit=A,B,...    exit codes; the number of the run chooses
 *   signal=N        it ends by this signal
 *   deaf            it ignores TERM
 *   trap=CODE       it exits with this code at TERM
 *   flood=KIB       it writes that much first
 *   leave=MS        it leaves a process in its process group, which holds the locks too
 *   escape=MS       it leaves a process in a session of its own
 *   held=MS         the same; no other run of the job may start before that process has ended
 *   unmarked=MS     as escape, without environment variables */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <time.h>
#include <unistd.h>

static const char *name, *id, *dir;
static int marks, violations;
static volatile sig_atomic_t asked;

static void on_term(int signal) { asked = signal; }

static const char *env(const char *variable)
{
	const char *value = getenv(variable);
	return value ? value : "-";
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void mark(int file, const char *what, const char *format, ...)
{
	char line[1024], rest[512];
	va_list args;
	va_start(args, format);
	vsnprintf(rest, sizeof rest, format, args);
	va_end(args);
	int n = snprintf(line, sizeof line, "%s %s %s %d %lld %s\n", what, name, id, getpid(), now(), rest);
	if (write(file, line, n) != n)
		_exit(99);
}

static int opened(const char *file)
{
	char path[512];
	snprintf(path, sizeof path, "%s/%s", dir, file);
	int fd = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		_exit(97);
	return fd;
}

/* sleep_ms waits, or returns early at a TERM that is to be caught. */
static void sleep_ms(long ms)
{
	struct timespec t = {ms / 1000, ms % 1000 * 1000000};
	while (!asked && nanosleep(&t, &t) != 0 && errno == EINTR)
		;
}

/* finish notes the end: no signal but KILL can come between the note and the end itself. */
static void finish(const char *how, int code)
{
	sigset_t all;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, NULL);
	mark(marks, "end", "%s %d", how, code);
	if (strcmp(how, "code") == 0)
		_exit(code);
	signal(code, SIG_DFL);
	sigemptyset(&all);
	sigaddset(&all, code);
	kill(getpid(), code);
	sigprocmask(SIG_UNBLOCK, &all, NULL);
	_exit(98);
}

/* locked takes the lock of a file in dir, and notes who has it if that fails. */
static int locked(const char *kind, const char *of, int how, int must)
{
	char path[512], holder[64] = "";
	snprintf(path, sizeof path, "%s/locks/%s.%s", dir, of, kind);
	int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0)
		_exit(97);
	if (flock(fd, how | LOCK_NB) != 0) {
		if (must) {
			ssize_t n = pread(fd, holder, sizeof holder - 1, 0);
			holder[n > 0 ? n : 0] = 0;
			mark(violations, "violation", "the %s lock is held by pid %s", kind, holder);
		}
		close(fd);
		return -1;
	}
	if (how == LOCK_EX) {
		int n = snprintf(holder, sizeof holder, "%-10d", getpid());
		if (pwrite(fd, holder, n, 0) != n)
			_exit(96);
	}
	return fd;
}

static void silence(void)
{
	int null = open("/dev/null", O_RDWR);
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	close(null);
}

static void flood(long kib)
{
	char block[1024];
	memset(block, 'f', sizeof block);
	for (size_t at = 127; at < sizeof block; at += 128)
		block[at] = '\n';
	for (; kib > 0 && !asked; kib--)
		for (size_t at = 0; at < sizeof block && !asked;) {
			ssize_t n = write(1, block + at, sizeof block - at);
			if (n < 0 && errno != EINTR)
				return;
			if (n > 0)
				at += n;
		}
}

/* number returns true if the argument has that name, and sets its value. */
static int number(const char *arg, const char *option, long *value)
{
	size_t n = strlen(option);
	if (strncmp(arg, option, n) != 0)
		return 0;
	*value = atol(arg + n);
	return 1;
}

int main(int argc, char **argv)
{
	long min = 0, max = 0, writes = 0, leave = 0, escape = 0, held = 0, unmarked = 0;
	int shared = 0, deaf = 0, trap = -1, by = 0, codes[16] = {0}, count = 0;
	if (argc == 3 && strcmp(argv[1], "sleep") == 0) {
		sleep_ms(atol(argv[2]));
		return 0;
	}
	if (argc < 2)
		return 2;
	dir = argv[1], name = env("GOPHD_NAME"), id = env("GOPHD_RUN_ID");
	for (int i = 2; i < argc; i++) {
		long value = 0;
		if (strcmp(argv[i], "shared") == 0)
			shared = 1;
		else if (strcmp(argv[i], "deaf") == 0)
			deaf = 1;
		else if (sscanf(argv[i], "for=%ld-%ld", &min, &max) == 2)
			;
		else if (strncmp(argv[i], "exit=", 5) == 0)
			for (char *code = argv[i] + 5; *code && count < 16; code += strspn(code, ","))
				codes[count++] = strtol(code, &code, 10);
		else if (number(argv[i], "signal=", &value))
			by = value;
		else if (number(argv[i], "trap=", &value))
			trap = value;
		else if (!number(argv[i], "flood=", &writes) && !number(argv[i], "leave=", &leave) &&
			 !number(argv[i], "escape=", &escape) && !number(argv[i], "held=", &held) &&
			 !number(argv[i], "unmarked=", &unmarked))
			return 2;
	}
	if (deaf)
		signal(SIGTERM, SIG_IGN);
	if (trap >= 0) {
		struct sigaction action = {.sa_handler = on_term};
		sigaction(SIGTERM, &action, NULL);
	}
	marks = opened("marks"), violations = opened("violations");
	mark(marks, "start", "%d %s %s %s %s", getppid(), env("GOPHD_RUN"), env("GOPHD_SLOT"), env("GOPHD_DUE"),
	     env("GOPHD_FENCE"));
	char slot[256];
	snprintf(slot, sizeof slot, "%s.%s", name, env("GOPHD_SLOT"));
	/* A run beside others may start while one of the time before it was allowed is still active. */
	int locks[] = {locked("slot", slot, LOCK_EX, 1), locked("job", name, shared ? LOCK_SH : LOCK_EX, !shared),
		       locked("escaped", name, held ? LOCK_EX : LOCK_SH, 1)};
	unsigned long run = strtoul(env("GOPHD_RUN"), NULL, 10);
	unsigned long any = ((unsigned)(run * 2654435761u) ^ (unsigned)(getpid() * 40503u)) >> 4;
	long take = min + (max > min ? (long)(any % (unsigned long)(max - min)) : 0);
	if (leave && fork() == 0) {
		silence();
		sleep_ms(leave);
		_exit(0);
	}
	if ((escape || held || unmarked) && fork() == 0) {
		setsid();
		signal(SIGTERM, SIG_DFL);
		for (int i = 0; i < (held ? 2 : 3); i++)
			close(locks[i]);
		if (run % 2) /* every other one keeps the output open */
			silence();
		if (unmarked) {
			char ms[32], *args[] = {argv[0], "sleep", ms, NULL}, *none[] = {NULL};
			snprintf(ms, sizeof ms, "%ld", unmarked);
			execve(argv[0], args, none);
			_exit(1);
		}
		sleep_ms(escape + held);
		_exit(0);
	}
	flood(writes);
	sleep_ms(take);
	if (asked)
		finish("code", trap);
	if (by)
		finish("signal", by);
	finish("code", count ? codes[run % count] : 0);
}
