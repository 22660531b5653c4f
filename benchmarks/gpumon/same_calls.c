/* Makes the NVML calls that gpumon's reader makes, and nothing else. The calls are in the file CALLS, which
 * benchmarks/gpumon/c_source.py writes from a trace of the reader.
 *
 * usage: same_calls COLLECTIONS PAUSE-MICROSECONDS
 * prints: processor time per collection in nanoseconds, calls per collection, and how many of all calls returned
 * something else than they did to the reader. */

#include <nvml.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned long calls;
static unsigned long differences;

#define CALL(expected, call)                                                                                           \
    do {                                                                                                               \
        calls++;                                                                                                       \
        differences += (call) != (nvmlReturn_t)(expected);                                                             \
    } while (0)

static uint64_t nanoseconds(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static inline unsigned long long microseconds_ago(long long ago)
{
    return nanoseconds(CLOCK_REALTIME) / 1000 - (unsigned long long)ago;
}

#include CALLS

int main(int argc, char **argv)
{
    long collections = argc == 3 ? atol(argv[1]) : 0;
    useconds_t pause = argc == 3 ? (useconds_t)atol(argv[2]) : 0;
    uint64_t spent = 0;

    if (collections < 1) {
        fputs("usage: same_calls COLLECTIONS PAUSE-MICROSECONDS\n", stderr);
        return 2;
    }
    set_up();
    collect();
    calls = differences = 0;
    for (long i = 0; i < collections; i++) {
        uint64_t begin;

        usleep(pause);
        begin = nanoseconds(CLOCK_PROCESS_CPUTIME_ID);
        collect();
        spent += nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - begin;
    }
    printf("%lu %lu %lu\n", (unsigned long)(spent / (uint64_t)collections), calls / (unsigned long)collections,
           differences);
    return 0;
}
