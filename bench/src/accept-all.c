/*
 * The floor: a program that accepts every packet of a queue and does nothing else, with libnetfilter_queue, one thread,
 * two system calls a packet, as the library's own example has it. It copies whole packets, as an ALG must.
 *
 *   accept-all QUEUE
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <libnetfilter_queue/libnetfilter_queue.h>

static int accept_packet(struct nfq_q_handle *queue, struct nfgenmsg *message, struct nfq_data *packet, void *data)
{
	struct nfqnl_msg_packet_hdr *header = nfq_get_msg_packet_hdr(packet);

	(void)message;
	(void)data;
	return header ? nfq_set_verdict(queue, ntohl(header->packet_id), NF_ACCEPT, 0, NULL) : 0;
}

int main(int argc, char **argv)
{
	static char buffer[65536 + 4096];
	struct nfq_handle *library = nfq_open();
	struct nfq_q_handle *queue;

	if (argc != 2 || !library)
		return 2;
	queue = nfq_create_queue(library, (uint16_t)atoi(argv[1]), accept_packet, NULL);
	if (!queue || nfq_set_mode(queue, NFQNL_COPY_PACKET, 0xffff) < 0) {
		fprintf(stderr, "accept-all: no queue %s: %s\n", argv[1], strerror(errno));
		return 1;
	}
	printf("ready\n");
	fflush(stdout);
	for (;;) {
		ssize_t length = recv(nfq_fd(library), buffer, sizeof(buffer), 0);

		if (length > 0)
			nfq_handle_packet(library, buffer, (int)length);
		else if (length < 0 && errno != EINTR && errno != ENOBUFS)
			return 1;
	}
}
