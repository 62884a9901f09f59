/*
 * Transfers over loopback. `transfers PORT...` listens on 127.0.0.1 at these ports and reads commands from its
 * standard input, one per line.
 *
 *   PORT MIB   connect to PORT (which may be translated to another port) and receive so many MiB, which the
 *              listening end sends with sendfile(). The answer is a line: the nanoseconds from connect() to the
 *              last byte, and the nanoseconds of CPU of both ends together
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../loopback.h"

#define FILE_BYTES (64L << 20)
#define BUFFER_BYTES (256L << 10)

static int file;

/* Each end stays on its own processor, if there are two, so that the scheduler is not measured. */
static void keep_to(int processor)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(processor, &set);
	pthread_setaffinity_np(pthread_self(), sizeof(set), &set);
}

/* The listening end of every connection to a port. It reads a number of bytes, and sends so many. */
static void *serve(void *argument)
{
	struct sockaddr_in address = at((int)(long)argument);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

	keep_to(0);
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 16))
		err(1, "listening at %ld", (long)argument);
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		long left;

		if (client < 0)
			err(1, "accepting");
		if (read(client, &left, sizeof(left)) != sizeof(left))
			errx(1, "nothing was asked for");
		while (left > 0) {
			off_t offset = 0;
			ssize_t sent = sendfile(client, file, &offset, left < FILE_BYTES ? left : FILE_BYTES);

			if (sent <= 0)
				err(1, "sending");
			left -= sent;
		}
		close(client);
	}
	return NULL;
}

static void fetch(int port, long bytes)
{
	static char buffer[BUFFER_BYTES];
	struct sockaddr_in address = at(port);
	long long began_ns = clock_ns(CLOCK_MONOTONIC), cpu_ns = clock_ns(CLOCK_PROCESS_CPUTIME_ID);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (connect(fd, (struct sockaddr *)&address, sizeof(address)))
		err(1, "connecting to %d", port);
	if (write(fd, &bytes, sizeof(bytes)) != sizeof(bytes))
		err(1, "asking");
	for (long left = bytes; left > 0;) {
		ssize_t got = recv(fd, buffer, sizeof(buffer), 0);

		if (got <= 0)
			err(1, "receiving");
		left -= got;
	}
	printf("%lld %lld\n", clock_ns(CLOCK_MONOTONIC) - began_ns, clock_ns(CLOCK_PROCESS_CPUTIME_ID) - cpu_ns);
	fflush(stdout);
	close(fd);
}

int main(int argc, char **argv)
{
	char line[128];
	pthread_t thread;
	int port;
	long mib;

	file = memfd_create("transfers", MFD_CLOEXEC);
	if (file < 0 || posix_fallocate(file, 0, FILE_BYTES))
		errx(1, "no memory for a file");
	for (int place = 1; place < argc; place++)
		if (pthread_create(&thread, NULL, serve, (void *)(long)atoi(argv[place])))
			errx(1, "no thread");
	keep_to(1);
	usleep(50000);
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%d %ld", &port, &mib) != 2)
			errx(1, "not understood: %s", line);
		fetch(port, mib << 20);
	}
	return 0;
}
