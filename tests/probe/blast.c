/*
 * Connects as fast as the machine can: blast PORT SECONDS MOST THREADS
 *
 * Each thread has a server of its own, at 127.0.1.1, .2, …, that closes first: so both ends send a packet.
 * Ends after SECONDS, or after MOST connections; prints how many it made and how long that took.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FIRST_ADDRESS 0x7f000101
#define THREADS_MAX 16

static int port, servers[THREADS_MAX];
static double until;
static long most, made[THREADS_MAX];

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static struct sockaddr_in address(long number)
{
	struct sockaddr_in made = { .sin_family = AF_INET, .sin_port = htons(port) };

	made.sin_addr.s_addr = htonl(FIRST_ADDRESS + number);
	return made;
}

static void *serve(void *number)
{
	for (;;) {
		int fd = accept(servers[(long)number], NULL, NULL);

		if (fd >= 0)
			close(fd);
	}
	return NULL;
}

static void *connect_often(void *number)
{
	long *count = &made[(long)number];
	struct sockaddr_in to = address((long)number);
	char byte;

	while (*count < most && ((*count & 63) || now() < until)) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&to, sizeof(to)) || read(fd, &byte, 1) < 0) {
			perror("connect");
			exit(1);
		}
		close(fd);
		++*count;
	}
	return NULL;
}

int main(int count, char **words)
{
	pthread_t unused, clients[THREADS_MAX];
	double start = now();
	long threads, sum = 0;

	if (count != 5 || (threads = atol(words[4])) > THREADS_MAX)
		return 2;
	port = atoi(words[1]);
	until = start + atof(words[2]);
	most = atol(words[3]) / threads;
	for (long i = 0; i < threads; i++) {
		struct sockaddr_in at = address(i);

		servers[i] = socket(AF_INET, SOCK_STREAM, 0);
		if (bind(servers[i], (struct sockaddr *)&at, sizeof(at)) || listen(servers[i], 4096)) {
			perror("listen");
			return 1;
		}
		pthread_create(&unused, NULL, serve, (void *)i);
	}
	for (long i = 0; i < threads; i++)
		pthread_create(&clients[i], NULL, connect_often, (void *)i);
	for (long i = 0; i < threads; i++) {
		pthread_join(clients[i], NULL);
		sum += made[i];
	}
	printf("%ld %.3f\n", sum, now() - start);
	return 0;
}
