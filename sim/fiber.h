/* fiber.h: stacks that take turns. A fiber runs until it switches; nothing else ever runs. On x86-64 the switch is twelve
 * instructions (no signal mask, unlike swapcontext), elsewhere it is ucontext. Address sanitizer is told about each switch.
 * THREADS  one. */
#pragma once
#include <stddef.h>

struct fiber_stack; /* memory of a fiber; kept and reused when the fiber is over, however it ended */
struct fiber_ctx {
    void *sp;
    struct fiber_stack *stack; /* NULL: the thread's own */
    void (*fn)(void *arg);
    void *arg;
    void *asan_fake;
};
/* fn must not return: it switches away for the last time. */
void fiber_init(struct fiber_ctx *f, void (*fn)(void *arg), void *arg);
void fiber_switch(struct fiber_ctx *from, struct fiber_ctx *to);
void fiber_done(struct fiber_ctx *f); /* gives the stack back; the fiber is not running */
