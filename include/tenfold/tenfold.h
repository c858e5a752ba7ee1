/* Tenfold's C ABI: compile a model into an engine, load an engine, run it.
 *
 *   tenfold_engine* engine;
 *   tenfold_context* context;
 *   if (tenfold_engine_load("model.engine", NULL, &engine) != TENFOLD_OK) puts(tenfold_last_error());
 *   tenfold_context_create(engine, 0, &context);
 *   tenfold_context_set_input(context, "x", dims, 4, pixels, sizeof pixels);
 *   tenfold_context_run(context);
 *   tenfold_context_get_output(context, "y", &output);
 *
 * Every function that can fail returns a status; tenfold_last_error() then says why, in one sentence. An engine may be
 * used by several threads at once; a context by one at a time. Handles are freed with their free function, which
 * accepts NULL; freeing an engine while contexts of it exist is fine. Texts are UTF-8. Link libtenfold.
 *
 * Options are JSON objects, or NULL for the defaults. A key that is not known is an error. */
#ifndef TENFOLD_TENFOLD_H
#define TENFOLD_TENFOLD_H

#include <stddef.h>
#include <stdint.h>

#if defined(_WIN32)
#define TENFOLD_API __declspec(dllexport)
#else
#define TENFOLD_API __attribute__((visibility("default")))
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* What the caller can do about a failure. Append only. */
typedef enum tenfold_status {
  TENFOLD_OK = 0,
  TENFOLD_INVALID_ARGUMENT = 1,    /* the call is wrong: a shape, a name, an option, a path */
  TENFOLD_INVALID_MODEL = 2,       /* the model file is broken or contradicts itself */
  TENFOLD_UNSUPPORTED = 3,         /* the model is valid, but this version cannot compile or run it */
  TENFOLD_OUT_OF_MEMORY = 4,       /* memory or a configured memory limit is exhausted */
  TENFOLD_DEVICE_FAILURE = 5,      /* the device or its driver failed */
  TENFOLD_INCOMPATIBLE_ENGINE = 6, /* the engine is broken or was built for another version or processor */
  TENFOLD_CANCELLED = 7,           /* the caller asked to stop */
  TENFOLD_IO_FAILURE = 8,          /* a file could not be read or written */
  TENFOLD_INTERNAL = 9             /* a broken invariant of Tenfold itself; please report it */
} tenfold_status;

/* Element types. Append only. */
typedef enum tenfold_dtype {
  TENFOLD_UNDEFINED = 0,
  TENFOLD_FLOAT32 = 1,
  TENFOLD_FLOAT64 = 2,
  TENFOLD_FLOAT16 = 3,
  TENFOLD_BFLOAT16 = 4,
  TENFOLD_INT8 = 5,
  TENFOLD_UINT8 = 6,
  TENFOLD_INT16 = 7,
  TENFOLD_UINT16 = 8,
  TENFOLD_INT32 = 9,
  TENFOLD_UINT32 = 10,
  TENFOLD_INT64 = 11,
  TENFOLD_UINT64 = 12,
  TENFOLD_BOOL = 13,      /* one byte, 0 or 1 */
  TENFOLD_FLOAT8E4M3 = 14 /* ONNX's FLOAT8E4M3FN */
} tenfold_dtype;

#define TENFOLD_MAX_RANK 8

typedef struct tenfold_engine tenfold_engine;
typedef struct tenfold_context tenfold_context;

/* A named input or output. A dimension of -1 is decided when it runs. `name` belongs to the engine. */
typedef struct tenfold_tensor_info {
  const char* name;
  tenfold_dtype dtype;
  int32_t rank;
  int64_t dims[TENFOLD_MAX_RANK];
} tenfold_tensor_info;

/* An output after a run. `data` belongs to the context and is valid until its next run. */
typedef struct tenfold_tensor {
  tenfold_dtype dtype;
  int32_t rank;
  int64_t dims[TENFOLD_MAX_RANK];
  const void* data;
  size_t size_bytes;
} tenfold_tensor;

/* "0.1.0" */
TENFOLD_API const char* tenfold_version(void);
/* The sentence of the last failure in this thread; "" if there was none. Valid until the next failure in this thread. */
TENFOLD_API const char* tenfold_last_error(void);
/* "invalid_argument" */
TENFOLD_API const char* tenfold_status_name(tenfold_status status);
/* Bytes of one element; 0 for TENFOLD_UNDEFINED. */
TENFOLD_API size_t tenfold_dtype_size(tenfold_dtype dtype);
/* For texts and bytes that a function here allocated. Accepts NULL. */
TENFOLD_API void tenfold_free(void* memory);

/* --- Engines ------------------------------------------------------------------------------------------------------ */

/* Maps the file and checks it.
 * Options: {"verify": true,              check every section's hash
 *           "threads": 0,                0: as many as the engine was built for, at most the cores available
 *           "device": "",                where to run, "cuda:1" for instance; "": where the engine says
 *           "trust_code": false,         run a GPU engine's machine code although it was not built here
 *           "on_mismatch": "fail",       or "portable": run the model's own graph, slowly, if the engine does not fit
 *           "max_loop_iterations": 10000000} */
TENFOLD_API tenfold_status tenfold_engine_load(const char* path, const char* options, tenfold_engine** engine);
/* The same from memory, which is copied. */
TENFOLD_API tenfold_status tenfold_engine_load_memory(const void* data, size_t size_bytes, const char* options,
                                                      tenfold_engine** engine);
TENFOLD_API void tenfold_engine_free(tenfold_engine* engine);

TENFOLD_API tenfold_status tenfold_engine_num_inputs(const tenfold_engine* engine, int32_t* count);
TENFOLD_API tenfold_status tenfold_engine_num_outputs(const tenfold_engine* engine, int32_t* count);
TENFOLD_API tenfold_status tenfold_engine_get_input(const tenfold_engine* engine, int32_t index,
                                                    tenfold_tensor_info* info);
TENFOLD_API tenfold_status tenfold_engine_get_output(const tenfold_engine* engine, int32_t index,
                                                     tenfold_tensor_info* info);
/* A JSON object: inputs and outputs with the names of their dimensions, profiles with their ranges and memory, number
 * of steps, bytes of weights, the model's metadata. Free it with tenfold_free. */
TENFOLD_API tenfold_status tenfold_engine_describe(const tenfold_engine* engine, char** json);

/* --- Contexts ----------------------------------------------------------------------------------------------------- */

/* A place to run. Contexts of one engine share its weights. */
TENFOLD_API tenfold_status tenfold_context_create(const tenfold_engine* engine, int32_t profile,
                                                  tenfold_context** context);
TENFOLD_API void tenfold_context_free(tenfold_context* context);
/* Makes another profile current; inputs must be set again. */
TENFOLD_API tenfold_status tenfold_context_set_profile(tenfold_context* context, int32_t profile);
/* Shape and data for the next runs. The data is not copied and must stay valid; `size_bytes` must be what the shape
 * needs. */
TENFOLD_API tenfold_status tenfold_context_set_input(tenfold_context* context, const char* name, const int64_t* dims,
                                                     int32_t rank, const void* data, size_t size_bytes);
/* Where an output goes from now on; NULL: to memory of the context. */
TENFOLD_API tenfold_status tenfold_context_set_output(tenfold_context* context, const char* name, void* data,
                                                      size_t capacity_bytes);
/* Runs once and waits. */
TENFOLD_API tenfold_status tenfold_context_run(tenfold_context* context);
/* On a GPU: enqueues one run on the caller's stream (a cudaStream_t or CUstream; NULL: the context's own) and returns.
 * Inputs and outputs may lie in the GPU's memory, and are then used in place. Elsewhere it is tenfold_context_run. */
TENFOLD_API tenfold_status tenfold_context_enqueue(tenfold_context* context, void* stream);
/* Does what the first run would do besides, at the shapes that are set or else the profile's optimum. */
TENFOLD_API tenfold_status tenfold_context_warm_up(tenfold_context* context);
TENFOLD_API tenfold_status tenfold_context_get_output(const tenfold_context* context, const char* name,
                                                      tenfold_tensor* output);
/* The next runs record what each step takes. */
TENFOLD_API tenfold_status tenfold_context_set_profiling(tenfold_context* context, int32_t on);
/* A JSON array of the last run's steps: name, origins, op_type, tactic, start_us, duration_us, flops, bytes. Free it
 * with tenfold_free. */
TENFOLD_API tenfold_status tenfold_context_step_times(const tenfold_context* context, char** json);

/* --- Compiling ---------------------------------------------------------------------------------------------------- */

/* Called now and then, from the thread that builds: what is being done, the part that is done (0 .. 1), and the seconds
 * left (-1: not known). Anything but 0 cancels. */
typedef int32_t (*tenfold_progress)(const char* phase, const char* item, double fraction, double remaining_seconds,
                                    void* user);

/* ONNX file to engine file. The engine file holds either what it held before or the whole new engine.
 * Options: {"profiles": [{"x": {"min": [1, 3, 224, 224], "opt": [...], "max": [...]}}],
 *           "threads": 0, "opt_level": 3, "workspace_bytes": 1099511627776, "strict": false, "portable": false,
 *           "device": "cpu", "fp16": false, "bf16": false, "tf32": false, "allow_host": false,
 *           "tactic_sources": ["cublas_lt", "cudnn"], "timing_cache": "PATH", "disabled_rules": [],
 *           "extra_outputs": []} */
TENFOLD_API tenfold_status tenfold_build(const char* model_path, const char* engine_path, const char* options,
                                         tenfold_progress progress, void* user);
/* The same from memory to memory; free the engine's bytes with tenfold_free. */
TENFOLD_API tenfold_status tenfold_build_memory(const void* model, size_t model_bytes, const char* options,
                                                tenfold_progress progress, void* user, void** engine,
                                                size_t* engine_bytes);

/* --- Messages ----------------------------------------------------------------------------------------------------- */

typedef enum tenfold_log_level {
  TENFOLD_LOG_DEBUG = 0,
  TENFOLD_LOG_INFO = 1,
  TENFOLD_LOG_WARNING = 2,
  TENFOLD_LOG_NONE = 3
} tenfold_log_level;
typedef void (*tenfold_log)(tenfold_log_level level, const char* message, void* user);
/* Where messages of at least this level go, from any thread. Without a sink (or with NULL) there are none. */
TENFOLD_API void tenfold_set_log(tenfold_log sink, tenfold_log_level least, void* user);

#ifdef __cplusplus
}
#endif

#endif
