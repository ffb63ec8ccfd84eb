/* stream.c: rows that know nothing of pages, streamed past a reader, one thread ahead.
 *
 * pagetie_window_show shows any bytes, wherever they begin: here batches of rows of 12 bytes. What a window
 * costs is the page faults after it moved, so another thread asks for the next batch with
 * pagetie_window_prepare while this one reads. Then moving the window is one step, and no fault follows. */

#include <inttypes.h>
#include <pagetie.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

struct row {
  uint32_t key, count, price;
};

enum { ROWS = 4000000, BATCH = 300000 };

static void must(pagetie_status status, const pagetie_error *error) {
  if (status != PAGETIE_OK) {
    fprintf(stderr, "%s: %s\n", pagetie_status_name(status), error->message);
    exit(EXIT_FAILURE);
  }
}

/* A batch that the other thread makes ready. */
struct next {
  const pagetie_window *window;
  size_t first, rows;
};

static void *prepare(void *argument) {
  const struct next *next = argument;
  pagetie_error error = PAGETIE_ERROR_INIT;
  must(pagetie_window_prepare(next->window, next->first * sizeof(struct row),
                              next->rows * sizeof(struct row), &error), &error);
  return NULL;
}

static size_t rows_from(size_t first) { return first + BATCH <= ROWS ? BATCH : ROWS - first; }

int main(void) {
  pagetie_error error = PAGETIE_ERROR_INIT;
  const size_t page = pagetie_page_size();
  const size_t len = (ROWS * sizeof(struct row) + page - 1) / page * page;
  pagetie_region *region = NULL;
  must(pagetie_region_new(len, NULL, &region, &error), &error);
  struct row *table = pagetie_region_data(region);
  for (uint32_t i = 0; i < ROWS; i++) table[i] = (struct row){i, i % 7, 100 + i % 900};

  /* Long enough for a batch, and for the pages that it begins and ends in. */
  const size_t window_len = (BATCH * sizeof(struct row) / page + 2) * page;
  pagetie_space *space = NULL;
  must(pagetie_space_reserve(window_len, &space, &error), &error);
  pagetie_window *window = NULL;
  must(pagetie_window_new(space, 0, window_len, region, PAGETIE_READ_ONLY_TIE, NULL, &window, &error),
       &error);

  uint64_t total = 0, batches = 0;
  for (size_t first = 0; first < ROWS; first += BATCH, batches++) {
    const size_t rows = rows_from(first);
    size_t at = 0;
    must(pagetie_window_show(window, first * sizeof(struct row), rows * sizeof(struct row), &at, &error),
         &error);

    pthread_t ahead;
    struct next next = {window, first + BATCH, 0};
    const int more = next.first < ROWS;
    if (more) {
      next.rows = rows_from(next.first);
      if (pthread_create(&ahead, NULL, prepare, &next) != 0) return EXIT_FAILURE;
    }
    const struct row *batch = (const void *)((const char *)pagetie_space_base(space) + at);
    for (size_t i = 0; i < rows; i++) total += (uint64_t)batch[i].count * batch[i].price;
    if (more) pthread_join(ahead, NULL);
  }
  printf("%d rows of %zu bytes in %" PRIu64 " batches\n", ROWS, sizeof(struct row), batches);
  printf("the sum over count * price: %" PRIu64 "\n", total);

  must(pagetie_window_untie(window, &error), &error);
  pagetie_space_free(space);
  pagetie_region_free(region);
  return 0;
}
