/*
 * Connections over loopback, with the time of each connect(). `connects PORT...` listens on 127.0.0.1 at these
 * ports and reads commands from its standard input, one per line.
 *
 *   burst PORT COUNT          connect as fast as possible. The answer is a line: the time of each connect() in ns
 *   paced PORT RATE SECONDS   connect RATE times per second. The answer is a line with a pair PORT,NS for each
 *                             connection: its source port, and the CLOCK_MONOTONIC time of connect()'s return
 *
 * One thread is client and listener. Over loopback the whole handshake of both ends happens inside connect(), so
 * nobody has to be woken up. The client sends first, as in HTTP. The listening end closes first, so that TIME_WAIT
 * stays at its end.
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../loopback.h"

#define PORTS_MAX 8

static int ports[PORTS_MAX], listeners[PORTS_MAX], listening;

static int listen_at(int port)
{
	struct sockaddr_in address = at(port);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), yes = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 128))
		err(1, "listening at %d", port);
	return fd;
}

/* Make one connection and send a byte. Returns when connect() began and returned, and the source port. */
static void connect_once(int port, int listener, long long *began_ns, long long *ended_ns, int *source)
{
	struct sockaddr_in address = at(port);
	socklen_t length = sizeof(address);
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), server;
	char request;

	*began_ns = now_ns();
	if (connect(client, (struct sockaddr *)&address, sizeof(address)))
		err(1, "connecting to %d", port);
	*ended_ns = now_ns();
	if (source) {
		getsockname(client, (struct sockaddr *)&address, &length);
		*source = ntohs(address.sin_port);
	}
	server = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (server < 0 || write(client, "?", 1) != 1 || read(server, &request, 1) != 1)
		err(1, "asking at %d", port);
	close(server);
	close(client);
}

static void burst(int port, int listener, int count)
{
	long long *taken_ns = calloc(count, sizeof(*taken_ns)), began_ns, ended_ns;

	for (int number = 0; number < count; number++) {
		connect_once(port, listener, &began_ns, &ended_ns, NULL);
		taken_ns[number] = ended_ns - began_ns;
	}
	for (int number = 0; number < count; number++)
		printf("%lld ", taken_ns[number]);
	free(taken_ns);
}

static void paced(int port, int listener, int rate, int seconds)
{
	int count = rate * seconds, *sources = calloc(count, sizeof(*sources));
	long long *ended_ns = calloc(count, sizeof(*ended_ns)), start_ns = now_ns(), began_ns;

	for (int number = 0; number < count; number++) {
		long long due_ns = start_ns + number * SECOND_NS / rate;
		struct timespec due = {.tv_sec = due_ns / SECOND_NS, .tv_nsec = due_ns % SECOND_NS};

		clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &due, NULL);
		connect_once(port, listener, &began_ns, &ended_ns[number], &sources[number]);
	}
	for (int number = 0; number < count; number++)
		printf("%d,%lld ", sources[number], ended_ns[number]);
	free(sources);
	free(ended_ns);
}

static int listener_of(int port)
{
	for (int number = 0; number < listening; number++)
		if (ports[number] == port)
			return listeners[number];
	errx(1, "no listener at %d", port);
}

int main(int argc, char **argv)
{
	char line[128];
	int port, number, seconds;

	for (int place = 1; place < argc && listening < PORTS_MAX; place++, listening++) {
		ports[listening] = atoi(argv[place]);
		listeners[listening] = listen_at(ports[listening]);
	}
	puts("ready");
	fflush(stdout);
	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "burst %d %d", &port, &number) == 2)
			burst(port, listener_of(port), number);
		else if (sscanf(line, "paced %d %d %d", &port, &number, &seconds) == 3)
			paced(port, listener_of(port), number, seconds);
		else
			errx(1, "not understood: %s", line);
		putchar('\n');
		fflush(stdout);
	}
	return 0;
}
