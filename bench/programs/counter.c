/* counter prints "line 1", "line 2" and so on, 20 a second, without a process for each pause. */
#include <stdio.h>
#include <time.h>

int main(void) {
	struct timespec pause = {0, 50 * 1000 * 1000};
	for (long n = 1;; n++) {
		if (printf("line %ld\n", n) < 0 || fflush(stdout) != 0)
			return 1;
		nanosleep(&pause, NULL);
	}
}
