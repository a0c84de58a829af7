/* sim_base.c: what the simulator puts in the place of base/metrics.c and base/log.c: handles that outlive worlds would
 * point into a pool that is gone, and a thousand worlds a minute need no log unless they are traced. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/log.h"
#include "base/metrics.h"
#include "sim/sim.h"

#include "base/banned.h"

struct metric {
    double value;
};
static struct metric only;

struct metric *metric_get(enum metric_kind kind, const char *name, const char *help, const char *labels)
{
    (void)kind, (void)name, (void)help, (void)labels;
    return &only;
}
void metric_add(struct metric *m, double by)
{
    (void)m, (void)by;
}
void metric_set(struct metric *m, double value)
{
    (void)m, (void)value;
}
void metric_observe(struct metric *m, double seconds)
{
    (void)m, (void)seconds;
}
double metric_value(const struct metric *m)
{
    return m->value;
}
void metric_drop(const char *name, const char *labels)
{
    (void)name, (void)labels;
}
void metrics_print(struct buf *out)
{
    (void)out;
}
void metric_label(struct buf *out, const char *key, slice value)
{
    (void)out, (void)key, (void)value;
}

void log_set_level(enum log_level level)
{
    (void)level;
}
bool log_parse_level(const char *name, enum log_level *out)
{
    (void)name, (void)out;
    return false;
}
void log_line(enum log_level level, const char *room, const char *fmt, ...)
{
    char text[500];
    va_list ap;

    if (!world_current() || !world_tracing(world_current()))
        return;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    world_trace(world_current(), "  log %d %s: %s", (int)level, room, text);
}
