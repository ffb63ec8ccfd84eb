/* share.c: a region in two processes.
 *
 * Behind a region is a memory object, like a file that has no name, and a file descriptor stands for it.
 * Sent over a Unix socket, the descriptor arrives in another process as one of its own: that makes
 * a region of it, ties it where it likes, and both see each other's writes. Only the descriptor travels;
 * the pages stay where they are. */

#define _GNU_SOURCE
#include <pagetie.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

static void must_os(int done, const char *what) {
  if (!done) {
    perror(what);
    exit(EXIT_FAILURE);
  }
}

/* A message of one byte, with room for a descriptor in the control data beside it. */
struct envelope {
  char byte;
  struct iovec data;
  struct msghdr message;
  _Alignas(struct cmsghdr) char control[CMSG_SPACE(sizeof(int))];
};

static struct msghdr *prepare(struct envelope *envelope) {
  memset(envelope, 0, sizeof *envelope);
  envelope->data.iov_base = &envelope->byte;
  envelope->data.iov_len = 1;
  envelope->message.msg_iov = &envelope->data;
  envelope->message.msg_iovlen = 1;
  envelope->message.msg_control = envelope->control;
  envelope->message.msg_controllen = sizeof envelope->control;
  return &envelope->message;
}

static void send_fd(int socket, int fd) {
  struct envelope envelope;
  struct msghdr *message = prepare(&envelope);
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  header->cmsg_level = SOL_SOCKET;
  header->cmsg_type = SCM_RIGHTS;
  header->cmsg_len = CMSG_LEN(sizeof fd);
  memcpy(CMSG_DATA(header), &fd, sizeof fd);
  must_os(sendmsg(socket, message, MSG_NOSIGNAL) == 1, "sendmsg");
}

static int receive_fd(int socket) {
  struct envelope envelope;
  struct msghdr *message = prepare(&envelope);
  must_os(recvmsg(socket, message, MSG_CMSG_CLOEXEC) == 1, "recvmsg");
  struct cmsghdr *header = CMSG_FIRSTHDR(message);
  must_os(header != NULL && header->cmsg_type == SCM_RIGHTS, "no descriptor came");
  int fd;
  memcpy(&fd, CMSG_DATA(header), sizeof fd);
  return fd;
}

/* The second process. It began before there was any region: all it has is the socket. */
static void second(int socket) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  size_t page = pagetie_page_size();
  int fd = receive_fd(socket);
  pagetie_region *region = NULL;
  must(pagetie_region_from_fd(fd, NULL, &region, &error), &error);
  close(fd); /* the region has a duplicate */
  pagetie_space *space = NULL;
  must(pagetie_space_reserve(2 * page, &space, &error), &error);
  pagetie_tie *tie = NULL;
  must(pagetie_tie_new(space, page, region, page, page, PAGETIE_READ_WRITE_TIE, NULL, &tie, &error),
       &error);

  volatile unsigned *number = pagetie_tie_addr(tie);
  *number = *number + 1;

  must(pagetie_untie(tie, &error), &error);
  pagetie_space_free(space);
  pagetie_region_free(region);
  must_os(write(socket, "d", 1) == 1, "write"); /* done */
}

int main(void) {
  int sockets[2];
  must_os(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets) == 0, "socketpair");
  pid_t child = fork();
  must_os(child >= 0, "fork");
  if (child == 0) {
    close(sockets[0]);
    second(sockets[1]);
    return 0;
  }
  close(sockets[1]);

  pagetie_error error = PAGETIE_ERROR_INIT;
  size_t page = pagetie_page_size();
  pagetie_region *region = NULL;
  must(pagetie_region_new(2 * page, NULL, &region, &error), &error);
  volatile unsigned *number = (volatile unsigned *)((char *)pagetie_region_data(region) + page);
  *number = 41;
  printf("the first process writes %u\n", *number);

  send_fd(sockets[0], pagetie_region_fd(region));
  char byte;
  must_os(read(sockets[0], &byte, 1) == 1, "nothing from the second process");
  printf("the second process adds 1, and here it reads %u\n", *number);

  int status;
  must_os(waitpid(child, &status, 0) == child, "waitpid");
  pagetie_region_free(region);
  return status == 0 ? 0 : EXIT_FAILURE;
}
