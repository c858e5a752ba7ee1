/* Compiles a model, loads the engine and runs it, with the C ABI alone.
 *
 *   cc classify.c -I include -L build/release/lib -ltenfold -o classify
 *   ./classify MODEL.onnx MODEL.engine
 *
 * The model has one input "x", float32 [batch, 4], and one output "y", float32 [batch, 3]. */
#include <stdio.h>
#include <stdlib.h>

#include "tenfold/tenfold.h"

/* Leaves with the reason if a call failed. */
static void check(tenfold_status status) {
  if (status == TENFOLD_OK) return;
  fprintf(stderr, "%s: %s\n", tenfold_status_name(status), tenfold_last_error());
  exit(1);
}

static int32_t show_progress(const char* phase, const char* item, double fraction, double remaining_seconds,
                             void* user) {
  (void)remaining_seconds;
  (void)user;
  fprintf(stderr, "%3.0f%% %s %s\n", 100 * fraction, phase, item);
  return 0; /* anything else would cancel */
}

int main(int argc, char** argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL.onnx MODEL.engine\n", argv[0]);
    return 2;
  }
  printf("Tenfold %s\n", tenfold_version());

  /* Once: the shapes that the engine shall accept, and for which it shall be fastest. */
  const char* options =
      "{\"profiles\": [{\"x\": {\"min\": [1, 4], \"opt\": [2, 4], \"max\": [8, 4]}}], \"opt_level\": 1}";
  check(tenfold_build(argv[1], argv[2], options, show_progress, NULL));

  /* In each process that uses it: one engine, and a context for each thread. */
  tenfold_engine* engine = NULL;
  tenfold_context* context = NULL;
  check(tenfold_engine_load(argv[2], NULL, &engine));
  check(tenfold_context_create(engine, 0, &context));
  check(tenfold_context_warm_up(context));

  const float x[2][4] = {{1, 2, 3, 4}, {-1, 0, 1, 0}};
  const int64_t dims[2] = {2, 4};
  check(tenfold_context_set_input(context, "x", dims, 2, x, sizeof x));
  check(tenfold_context_run(context));

  tenfold_tensor y;
  check(tenfold_context_get_output(context, "y", &y));
  const float* scores = (const float*)y.data;
  for (int64_t row = 0; row < y.dims[0]; ++row) {
    for (int64_t column = 0; column < y.dims[1]; ++column) printf("%8.4f", scores[row * y.dims[1] + column]);
    printf("\n");
  }

  /* What goes wrong is said in one sentence. */
  const int64_t too_many[2] = {9, 4};
  const float many[9][4] = {{0}};
  if (tenfold_context_set_input(context, "x", too_many, 2, many, sizeof many) != TENFOLD_OK) {
    printf("as expected: %s\n", tenfold_last_error());
  }

  tenfold_context_free(context);
  tenfold_engine_free(engine);
  return 0;
}
