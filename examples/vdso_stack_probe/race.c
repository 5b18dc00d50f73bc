/*
 * Dies, sometimes, if the vDSO's clock_gettime probes the stack.
 *
 * Code compiled with -fstack-check touches memory a page below its stack pointer with
 * `orq $0x0,(%rsp)`: a read and a write that change nothing, unless another thread stores to the
 * same word in between. Then that store is undone. The vDSO is kernel code that runs on the stack
 * of whoever calls it. A program that gives its threads small stacks, with other live memory right
 * below them, loses data (Go did: https://github.com/golang/go/issues/20427).
 *
 * One thread calls the vDSO with its stack pointer inside a buffer; the other one keeps writing to
 * the words some 4 KiB below it, and dies of SIGSEGV when one does not hold what was just stored.
 */
#include <elf.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>

enum {
	BUFFER = 64 << 10,
	TOP = 48 << 10,		/* where the borrowed stack begins */
	NEAR = 4096,		/* what is watched: so far below it ... */
	FAR = 4096 + 512,	/* ... to so far */
};

#ifndef PAUSE
#define PAUSE 30000	/* turns of an empty loop between two calls: sets the crash rate */
#endif

static _Alignas(4096) unsigned char buffer[BUFFER];

static void *find_in_vdso(const char *wanted)
{
	const unsigned char *base = (const void *)getauxval(AT_SYSINFO_EHDR);
	if (!base)
		return NULL;
	const Elf64_Ehdr *header = (const void *)base;
	const Elf64_Phdr *segment = (const void *)(base + header->e_phoff);
	const Elf64_Dyn *dynamic = NULL;
	uintptr_t slide = (uintptr_t)base;

	for (int i = 0; i < header->e_phnum; i++) {
		if (segment[i].p_type == PT_LOAD)
			slide = (uintptr_t)base + segment[i].p_offset - segment[i].p_vaddr;
		else if (segment[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)(base + segment[i].p_offset);
	}

	const Elf64_Sym *symbols = NULL;
	const char *names = NULL;
	const uint32_t *hash = NULL;
	for (; dynamic && dynamic->d_tag != DT_NULL; dynamic++) {
		const void *at = (const void *)(slide + dynamic->d_un.d_ptr);
		if (dynamic->d_tag == DT_SYMTAB)
			symbols = at;
		else if (dynamic->d_tag == DT_STRTAB)
			names = at;
		else if (dynamic->d_tag == DT_HASH)
			hash = at;
	}
	if (!symbols || !names || !hash)
		return NULL;
	for (uint32_t i = 0; i < hash[1]; i++)	/* nchain: the number of symbols */
		if (symbols[i].st_shndx != SHN_UNDEF && !strcmp(names + symbols[i].st_name, wanted))
			return (void *)(slide + symbols[i].st_value);
	return NULL;
}

/* function(clock, time), with the stack pointer at top meanwhile. */
static long call_on_stack(void *function, long clock, struct timespec *time, void *top)
{
	long result;
	register void *target asm("r12") = function;
	register void *saved asm("r13");

	asm volatile("movq %%rsp, %[saved]\n\t"
		     "movq %[top], %%rsp\n\t"
		     "call *%[target]\n\t"
		     "movq %[saved], %%rsp"
		     : "=a"(result), [saved] "=&r"(saved), "+D"(clock), "+S"(time)
		     : [target] "r"(target), [top] "b"(top)
		     : "rcx", "rdx", "r8", "r9", "r10", "r11", "memory", "cc");
	return result;
}

static void *caller(void *function)
{
	struct timespec now;

	for (;;) {
		call_on_stack(function, CLOCK_MONOTONIC, &now, buffer + TOP);
		for (volatile int turn = 0; turn < PAUSE; turn++)
			;
	}
	return NULL;
}

int main(void)
{
	void *function = find_in_vdso("__vdso_clock_gettime");
	pthread_t thread;

	if (!function) {
		fputs("no __vdso_clock_gettime here\n", stderr);
		return 2;
	}
	if (pthread_create(&thread, NULL, caller, function)) {
		fputs("no second thread here\n", stderr);
		return 2;
	}
	volatile uint64_t *first = (void *)(buffer + TOP - FAR);
	volatile uint64_t *last = (void *)(buffer + TOP - NEAR);
	for (uint64_t value = 1;; value++) {
		for (volatile uint64_t *word = first; word < last; word++)
			*word = value;
		for (volatile uint64_t *word = first; word < last; word++)
			if (*word != value)
				*(volatile int *)0 = 1;	/* a store was undone */
	}
}
