/* sluice-sim: runs worlds from seeds until one violates an invariant.
 *
 *   sluice-sim --seeds 1..2000                     every workload, clean code
 *   sluice-sim --workload catalog --seed 42 --trace   one world, told step by step
 *   sluice-sim --mutant 6 --seeds 1..5000          must find a violation: exit 1 if the mutant survives
 *   sluice-sim --mutants --seeds 1..5000           the same for each of them
 *   sluice-sim --replay sim/regressions.txt        worlds that once found a bug, in the code or in a checker: lines of "workload seed"
 * Exit: 0 as wished, 1 not, 2 usage. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "sim/pool.h"
#include "sim/sim.h"
#include "version.h"

#include "base/banned.h"

#define MUTANTS 39

struct options {
    const char *workload; /* NULL: all */
    const char *replay;   /* file */
    uint64_t from, to;
    unsigned mutant;
    bool trace, mutants, quiet, twice;
    double seconds_max; /* stop early; 0: never */
};
struct outcome {
    uint64_t seeds, steps;
    uint64_t failed_seed;
    const struct workload *failed;
    char invariant[40], text[4000];
    double seconds;
};
unsigned sluice_mutant;
const struct workload *const workloads[] = {
    &workload_disk, &workload_wal, &workload_store, &workload_catalog, &workload_script, &workload_lake, NULL};
static uint64_t running_seed; /* for the signal handler */
static const char *running_workload = "";

static double seconds_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A world that crashes the simulator itself still names its seed. */
static void on_signal(int number)
{
    char line[200];
    int n = snprintf(line, sizeof(line), "\nsignal %d in seed %" PRIu64 " of %s, mutant %u, commit %s\n", number,
                     running_seed, running_workload, sluice_mutant, SLUICE_COMMIT);
    ssize_t ignored = write(2, line, (size_t)n);
    (void)ignored;
    _exit(sluice_mutant ? 0 : 1); /* a mutant that crashes is a mutant caught */
}

static void catch_signals(void)
{
    static uint8_t stack[64 << 10];
    stack_t alt = {.ss_sp = stack, .ss_size = sizeof(stack)};
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | (int)SA_RESETHAND};
    static const int numbers[] = {SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE};

    (void)sigaltstack(&alt, NULL);
    for (size_t i = 0; i < ARRAY_LEN(numbers); i++)
        (void)sigaction(numbers[i], &sa, NULL);
}

/* Runs one world; its hash. */
static uint64_t run_seed(const struct workload *load, uint64_t seed, bool trace, struct outcome *out)
{
    const char *text;

    running_seed = seed;
    running_workload = load->name;
    pool_begin();
    struct world *w = world_new(seed, trace);
    load->run(w);
    const char *invariant = world_failed(w, &text);
    if (invariant && !out->failed) {
        out->failed = load;
        out->failed_seed = seed;
        (void)snprintf(out->invariant, sizeof(out->invariant), "%s", invariant);
        (void)snprintf(out->text, sizeof(out->text), "%s", text);
    }
    uint64_t hash = world_hash(w);
    out->steps += world_steps(w);
    out->seeds++;
    world_free(w);
    pool_end();
    return hash;
}

static bool wanted(const struct options *o, const struct workload *load)
{
    if (o->workload)
        return !strcmp(o->workload, load->name);
    return !sluice_mutant || (load->mutant && load->mutant(sluice_mutant));
}

static struct outcome run_seeds(const struct options *o)
{
    struct outcome out = {0};
    double begin = seconds_now();

    for (uint64_t seed = o->from; seed <= o->to && !out.failed; seed++) {
        for (size_t i = 0; workloads[i] && !out.failed; i++) {
            if (!wanted(o, workloads[i]))
                continue;
            uint64_t hash = run_seed(workloads[i], seed, o->trace, &out);
            if (o->twice && !out.failed && run_seed(workloads[i], seed, false, &out) != hash) {
                out.failed = workloads[i];
                out.failed_seed = seed;
                (void)snprintf(out.invariant, sizeof(out.invariant), "replay");
                (void)snprintf(out.text, sizeof(out.text), "two runs of one seed differ");
            }
        }
        if (o->seconds_max > 0 && seconds_now() - begin > o->seconds_max)
            break;
    }
    out.seconds = seconds_now() - begin;
    return out;
}

static void print_failure(const struct outcome *out)
{
    printf("VIOLATION of %s: workload %s, seed %" PRIu64
           ", commit %s\n  %s\n  again: sluice-sim --workload %s --seed %" PRIu64 "%s",
           out->invariant, out->failed->name, out->failed_seed, SLUICE_COMMIT, out->text, out->failed->name,
           out->failed_seed, " --trace");
    if (sluice_mutant)
        printf(" --mutant %u", sluice_mutant);
    printf("\n");
}

static int run_clean(const struct options *o)
{
    struct outcome out = run_seeds(o);

    printf("%s: %" PRIu64 " worlds in %.1f s (%.0f/min), %" PRIu64 " steps: %s\n",
           o->workload ? o->workload : "all workloads", out.seeds, out.seconds,
           out.seconds > 0 ? (double)out.seeds * 60 / out.seconds : 0, out.steps, out.failed ? "violated" : "clean");
    if (out.failed)
        print_failure(&out);
    return out.failed != NULL;
}

static int run_replay(const struct options *o)
{
    FILE *f = fopen(o->replay, "r");
    char line[200], name[40];
    unsigned count = 0;
    int failed = 0;

    if (!f) {
        (void)fprintf(stderr, "%s: cannot be read\n", o->replay);
        return 2;
    }
    while (fgets(line, sizeof(line), f)) {
        struct options one = {.workload = name, .trace = o->trace};
        if (line[0] == '#' || sscanf(line, "%39s %" SCNu64, name, &one.from) != 2)
            continue;
        one.to = one.from;
        struct outcome out = run_seeds(&one);
        if (out.failed)
            print_failure(&out);
        failed += out.failed || !out.seeds; /* a workload that is not there any more tests nothing */
        count++;
    }
    (void)fclose(f);
    printf("%u worlds of %s: %d violated\n", count, o->replay, failed);
    return failed || !count;
}

static int run_mutant(const struct options *o, unsigned k)
{
    bool any = false;
    for (size_t i = 0; workloads[i]; i++)
        any |= workloads[i]->mutant && workloads[i]->mutant(k);
    if (!any) { /* 17, see docs/architecture.md */
        printf("M%-2u is no mutant of the simulator: docs/architecture.md says why\n", k);
        return 0;
    }
    sluice_mutant = k;
    struct outcome out = run_seeds(o);
    if (out.failed) {
        printf("M%-2u caught by %-8s after %4" PRIu64 " worlds, %5.1f s: %s: %.120s\n", k, out.failed->name, out.seeds,
               out.seconds, out.invariant, out.text);
        if (o->trace)
            print_failure(&out);
    } else {
        printf("M%-2u SURVIVED %" PRIu64 " worlds, %.1f s: the simulator is too weak\n", k, out.seeds, out.seconds);
    }
    (void)fflush(stdout);
    sluice_mutant = 0;
    return out.failed == NULL;
}

static bool number(const char *s, uint64_t *out)
{
    char *end;
    errno = 0;
    *out = strtoull(s, &end, 10);
    return !errno && end != s && !*end;
}

static bool parse_range(char *s, struct options *o)
{
    char *dots = strstr(s, "..");
    if (!dots)
        return number(s, &o->to) && (o->from = 1, true);
    *dots = 0;
    return number(s, &o->from) && number(dots + 2, &o->to);
}

static bool parse(int argc, char **argv, struct options *o)
{
    uint64_t n;

    for (int i = 1; i < argc; i++) {
        const char *a = argv[i];
        char *value = i + 1 < argc ? argv[i + 1] : NULL;
        if (!strcmp(a, "--trace"))
            o->trace = true;
        else if (!strcmp(a, "--mutants"))
            o->mutants = true;
        else if (!strcmp(a, "--twice"))
            o->twice = true;
        else if (!value)
            return false;
        else if (!strcmp(a, "--workload"))
            o->workload = value, i++;
        else if (!strcmp(a, "--replay"))
            o->replay = value, i++;
        else if (!strcmp(a, "--seed") && number(value, &n))
            o->from = o->to = n, i++;
        else if (!strcmp(a, "--seeds") && parse_range(value, o))
            i++;
        else if (!strcmp(a, "--seconds") && number(value, &n))
            o->seconds_max = (double)n, i++;
        else if (!strcmp(a, "--mutant") && number(value, &n) && n >= 1 && n <= MUTANTS)
            o->mutant = (unsigned)n, i++;
        else
            return false;
    }
    return true;
}

int main(int argc, char **argv)
{
    struct options o = {.from = 1, .to = 1000};
    int failed = 0;

    if (!parse(argc, argv, &o)) {
        (void)fprintf(stderr, "usage: sluice-sim [--workload disk|wal|store|catalog|script|lake] [--seeds A..B | "
                              "--seed N] [--seconds S]\n"
                              "                  [--mutant K | --mutants | --replay FILE] [--trace] [--twice]\n");
        return 2;
    }
    catch_signals();
    json_set_alloc_funcs(pool_alloc, pool_free);
    json_object_seed(1); /* else it asks the clock */
    if (o.replay)
        return run_replay(&o);
    if (!o.mutants)
        return o.mutant ? run_mutant(&o, o.mutant) : run_clean(&o);
    for (unsigned k = 1; k <= MUTANTS; k++)
        failed += run_mutant(&o, k);
    printf("%d mutants survived\n", failed);
    return failed != 0;
}

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_leaks=0"; /* a crashed node frees nothing, by design */
}
