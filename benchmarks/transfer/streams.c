/*
 * A client that costs almost nothing. `streams HOST PORT` reads commands from its standard input, one per line.
 *
 *   PATH [PATH...]   GET all paths at the same time, each on its own new connection. The kernel discards the
 *                    bodies (MSG_TRUNC), and a 307 is followed. The answer is a line: the nanoseconds from the
 *                    first connect() to the last byte, the nanoseconds until the slowest stream's head, and the
 *                    number of bytes. If it fails, the answer is "failed" and the reason
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../loopback.h"

#define STREAMS_MAX 1024
#define HEAD_BYTES 8192
#define TAKEN_BYTES (4 << 20)
#define PATIENCE_S 120

struct stream {
	pthread_t thread;
	struct sockaddr_in target;
	char path[1024];
	char problem[256];
	long long head_ns, bytes;
};

static struct stream streams[STREAMS_MAX];

static bool parse_target(struct sockaddr_in *target, const char *host, int port)
{
	*target = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port) };
	return inet_pton(AF_INET, host, &target->sin_addr) == 1;
}

/* Connect and send the request. Returns the connection, or -1. */
static int ask(struct stream *stream)
{
	struct timeval patience = { .tv_sec = PATIENCE_S };
	char request[2048];
	int length, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	if (connect(fd, (struct sockaddr *)&stream->target, sizeof(stream->target))) {
		snprintf(stream->problem, sizeof(stream->problem), "connect: %s", strerror(errno));
		close(fd);
		return -1;
	}
	length = snprintf(request, sizeof(request),
			  "GET %s HTTP/1.1\r\nHost: localhost\r\nUser-Agent: streams\r\n\r\n", stream->path);
	if (send(fd, request, length, MSG_NOSIGNAL) != length)
		snprintf(stream->problem, sizeof(stream->problem), "send: %s", strerror(errno));
	return fd;
}

/* Read the head, but no byte of the body. */
static bool read_head(struct stream *stream, int fd, char *head)
{
	ssize_t had = 0, seen;
	char *end = NULL;

	while (!end) {
		seen = had;
		had = recv(fd, head, HEAD_BYTES - 1, MSG_PEEK);
		if (had <= 0) {
			snprintf(stream->problem, sizeof(stream->problem), "no head: %s",
				 had ? strerror(errno) : "closed");
			return false;
		}
		head[had] = 0;
		end = strstr(head, "\r\n\r\n");
		if (!end && had == HEAD_BYTES - 1) {
			snprintf(stream->problem, sizeof(stream->problem), "no end of the head");
			return false;
		}
		if (!end && had == seen)
			usleep(100); /* the rest of it will come */
	}
	end[2] = 0;
	return recv(fd, head + HEAD_BYTES, end + 4 - head, MSG_TRUNC) == end + 4 - head;
}

static const char *header(const char *head, const char *name)
{
	const char *found = strcasestr(head, name);

	return found ? found + strlen(name) : NULL;
}

static bool follow(struct stream *stream, const char *location)
{
	char host[64];
	int port;

	return location && sscanf(location, " http://%63[0-9.]:%d%1023[^\r]", host, &port, stream->path) == 3 &&
	       parse_target(&stream->target, host, port);
}

static void take(struct stream *stream, int fd, long long length)
{
	static char nothing[TAKEN_BYTES]; /* never written to */
	ssize_t had;

	while (stream->bytes < length) {
		had = length - stream->bytes;
		had = recv(fd, nothing, had < TAKEN_BYTES ? had : TAKEN_BYTES, MSG_TRUNC);
		if (had <= 0) {
			snprintf(stream->problem, sizeof(stream->problem), "%lld of %lld bytes: %s", stream->bytes,
				 length, had ? strerror(errno) : "closed");
			return;
		}
		stream->bytes += had;
	}
}

static void *run(void *argument)
{
	struct stream *stream = argument;
	char head[2 * HEAD_BYTES];
	const char *length;
	long long started_ns = now_ns();
	int fd, status;

	for (int hop = 0; hop < 3; hop++) {
		fd = ask(stream);
		if (fd < 0)
			return NULL;
		if (stream->problem[0] || !read_head(stream, fd, head))
			break;
		status = atoi(head + strlen("HTTP/1.1 "));
		if (status == 307 && follow(stream, header(head, "\nLocation:"))) {
			close(fd);
			continue;
		}
		length = header(head, "\nContent-Length:");
		if (status != 200 || !length) {
			snprintf(stream->problem, sizeof(stream->problem), "status %d", status);
			break;
		}
		stream->head_ns = now_ns() - started_ns;
		take(stream, fd, atoll(length));
		break;
	}
	close(fd);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in target;
	long long started_ns, head_ns, bytes;
	char *line = NULL, *path, *problem;
	size_t room = 0;
	int count;

	if (argc != 3 || !parse_target(&target, argv[1], atoi(argv[2])))
		errx(2, "usage: streams ADDRESS PORT");
	setvbuf(stdout, NULL, _IOLBF, 0);
	puts("ready");
	while (getline(&line, &room, stdin) > 0) {
		count = 0;
		for (path = strtok(line, " \n"); path && count < STREAMS_MAX; path = strtok(NULL, " \n")) {
			streams[count] = (struct stream){ .target = target };
			snprintf(streams[count++].path, sizeof(streams->path), "%s", path);
		}
		started_ns = now_ns();
		for (int i = 0; i < count; i++)
			if (pthread_create(&streams[i].thread, NULL, run, &streams[i]))
				err(1, "pthread_create");
		head_ns = bytes = 0;
		problem = NULL;
		for (int i = 0; i < count; i++) {
			pthread_join(streams[i].thread, NULL);
			bytes += streams[i].bytes;
			if (streams[i].head_ns > head_ns)
				head_ns = streams[i].head_ns;
			if (streams[i].problem[0])
				problem = streams[i].problem;
		}
		if (problem)
			printf("failed: %s\n", problem);
		else
			printf("%lld %lld %lld\n", now_ns() - started_ns, head_ns, bytes);
	}
	return 0;
}
