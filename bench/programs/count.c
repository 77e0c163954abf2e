/* The command of the soak: appends one byte to the file argv[1], whose size is then the number of runs, and
 * says a line on stdout, so that the log is part of each run. */
#include <fcntl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	if (argc < 2) return 2;
	int fd = open(argv[1], O_WRONLY | O_APPEND | O_CREAT, 0600);
	return write(fd, ".", 1) == 1 && write(1, "did run\n", 8) == 8 ? 0 : 1;
}
