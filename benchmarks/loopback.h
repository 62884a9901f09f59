/* What the loads in C share: the clock, and addresses on loopback. */
#ifndef SHORTHAUL_LOOPBACK_H
#define SHORTHAUL_LOOPBACK_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <time.h>

#define SECOND_NS 1000000000LL

static inline long long clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * SECOND_NS + now.tv_nsec;
}

static inline long long now_ns(void)
{
	return clock_ns(CLOCK_MONOTONIC);
}

/* This port on 127.0.0.1. */
static inline struct sockaddr_in at(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

#endif
