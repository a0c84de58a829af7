#include "sim/fiber.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "sim/pool.h"

#if defined(__SANITIZE_ADDRESS__)
#define SIM_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SIM_ASAN 1
#endif
#endif
#ifndef SIM_ASAN
#define SIM_ASAN 0
#endif
#if SIM_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifndef __x86_64__
#include <ucontext.h>
#endif

#define STACK_BYTES (256u << 10)
#define GUARD_BYTES 4096u

struct fiber_stack {
    struct fiber_stack *next_free;
    uint8_t *low; /* lowest usable byte */
#ifndef __x86_64__
    ucontext_t uc;
#endif
};
static struct fiber_stack *free_stacks;
static struct fiber_ctx *starting; /* the fiber that a first switch enters */
#if SIM_ASAN
static const void *thread_low;
static size_t thread_size;
#endif

static struct fiber_stack *stack_get(void)
{
    struct fiber_stack *s = free_stacks;

    if (s) {
        free_stacks = s->next_free;
    } else {
        bool was = pool_pause(true); /* stacks outlive worlds */
        s = calloc(1, sizeof(*s));
        pool_pause(was);
        uint8_t *p = mmap(NULL, STACK_BYTES + GUARD_BYTES, PROT_READ | PROT_WRITE,
                          MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (!s || p == MAP_FAILED || mprotect(p, GUARD_BYTES, PROT_NONE))
            abort();
        s->low = p + GUARD_BYTES;
    }
#if SIM_ASAN
    __asan_unpoison_memory_region(s->low, STACK_BYTES); /* frames that a crash left behind */
#endif
    return s;
}

void fiber_done(struct fiber_ctx *f)
{
    if (!f->stack)
        return;
    f->stack->next_free = free_stacks;
    free_stacks = f->stack;
    f->stack = NULL;
}

static void enter(void)
{
    struct fiber_ctx *f = starting;
#if SIM_ASAN
    const void *low;
    size_t size;
    __sanitizer_finish_switch_fiber(NULL, &low, &size);
    if (!thread_low) { /* the first fiber is entered from the thread's own stack */
        thread_low = low;
        thread_size = size;
    }
#endif
    f->fn(f->arg);
    abort();
}

#ifdef __x86_64__
void sim_switch_sp(void **save, void *to);
__asm__(".text\n"
        ".p2align 4\n"
        ".globl sim_switch_sp\n"
        ".hidden sim_switch_sp\n"
        ".type sim_switch_sp, @function\n"
        "sim_switch_sp:\n"
        "    pushq %rbp\n"
        "    pushq %rbx\n"
        "    pushq %r12\n"
        "    pushq %r13\n"
        "    pushq %r14\n"
        "    pushq %r15\n"
        "    movq %rsp, (%rdi)\n"
        "    movq %rsi, %rsp\n"
        "    popq %r15\n"
        "    popq %r14\n"
        "    popq %r13\n"
        "    popq %r12\n"
        "    popq %rbx\n"
        "    popq %rbp\n"
        "    ret\n"
        ".size sim_switch_sp, . - sim_switch_sp\n");

void fiber_init(struct fiber_ctx *f, void (*fn)(void *arg), void *arg)
{
    *f = (struct fiber_ctx){.stack = stack_get(), .fn = fn, .arg = arg};
    /* As if sim_switch_sp had been called from nowhere: six registers, then where to go, then an aligned end. */
    void **top = (void **)(void *)(f->stack->low + STACK_BYTES);
    *--top = NULL;
    *--top = (void *)(uintptr_t)enter;
    for (int i = 0; i < 6; i++)
        *--top = NULL;
    f->sp = top;
}

static void switch_to(struct fiber_ctx *from, struct fiber_ctx *to)
{
    sim_switch_sp(&from->sp, to->sp);
}
#else
static ucontext_t thread_uc;

void fiber_init(struct fiber_ctx *f, void (*fn)(void *arg), void *arg)
{
    *f = (struct fiber_ctx){.stack = stack_get(), .fn = fn, .arg = arg};
    if (getcontext(&f->stack->uc))
        abort();
    f->stack->uc.uc_stack.ss_sp = f->stack->low;
    f->stack->uc.uc_stack.ss_size = STACK_BYTES;
    makecontext(&f->stack->uc, enter, 0);
}

static void switch_to(struct fiber_ctx *from, struct fiber_ctx *to)
{
    (void)swapcontext(from->stack ? &from->stack->uc : &thread_uc, to->stack ? &to->stack->uc : &thread_uc);
}
#endif

void fiber_switch(struct fiber_ctx *from, struct fiber_ctx *to)
{
    starting = to;
#if SIM_ASAN
    const void *low = to->stack ? to->stack->low : thread_low;
    size_t size = to->stack ? STACK_BYTES : thread_size;
    __sanitizer_start_switch_fiber(&from->asan_fake, low, size);
#endif
    switch_to(from, to);
#if SIM_ASAN
    __sanitizer_finish_switch_fiber(from->asan_fake, NULL, NULL);
#endif
}
