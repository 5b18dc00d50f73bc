"""Functions that say nothing about where a bug is: whole names, by what they do.

Every entry is matched against a whole name, never a part of one, so that ``memcpy`` does not also
swallow ``memcpy_from_msg``. The groups follow the kernel's source folders.
"""

from __future__ import annotations

import re


class Skip:
    """A set of function names, given by patterns for whole names; answers are remembered."""

    def __init__(self, *patterns: str) -> None:
        self._patterns = patterns
        self._whole = re.compile("|".join(patterns))
        self._known: dict[str, bool] = {}

    def plus(self, *patterns: str) -> Skip:
        """The same set and more."""
        return Skip(*self._patterns, *patterns)

    def __contains__(self, name: str) -> bool:
        known = self._known.get(name)
        if known is None:
            if len(self._known) >= _REMEMBERED:
                self._known.clear()
            known = self._known[name] = self._whole.fullmatch(name) is not None
        return known


_REMEMBERED = 4096

# How a report gets printed: lib/dump_stack.c, kernel/panic.c, kernel/printk, arch/*/kernel.
_REPORTING = (
    r"_*dump_stack(_lvl)?|dump_backtrace|show_stack|show_regs|unwind_backtrace",
    r"panic|vpanic|_*warn(_slowpath|_printk|_alloc)?\w*|check_panic_on_warn|print_tainted",
    r"report_bug\w*|(fixup|handle|decode)_bug\w*|bug_handler|call_break_hook|_*die(_body)?",
    r"oops_\w+",
    r"_*v?printk\w*|vprintk_\w+|console_(unlock|flush|emit)\w*|call_console_drivers",
    r"\w+_panic|bad_page|dump_page",
    r"v?s?c?n?printf|string(_nocheck)?|pointer|format_decode|number|symbol_string|widen_string",
    r"arch_stack_walk|(save_)?stack_trace_\w+|_*save_stack\w*|return_address|walk_stackframe",
    r"_*should_fail\w*|fail_dump|setup_fault_attr",
    r"nmi_(panic|cpu_backtrace\w*|trigger_cpumask_backtrace)|panic_bad_stack|handle_bad_stack",
    r"__bad_stack|(arch_)?trigger_\w*backtrace\w*|do_exit|rust_begin_unwind|rust_helper_\w+",
)
# The way from a trap to its handler: arch/x86/kernel/traps.c, arch/arm64/{kernel,mm}.
_TRAPS = (
    r"do_(error_trap|trap|invalid_op|general_protection|divide_error|debug_exception|undefinstr)",
    r"(asm_)?exc_(invalid_op|general_protection|divide_error|int3|stack_segment|double_fault)",
    r"invalid_op|general_protection|divide_error|error_(entry|code|return)|brk_handler|bug_handler",
    r"el[01]\w*|__dabt_svc|__und_svc\w*|__pabt_svc|vector_\w+|do_undefinstr|die_kernel_fault",
    r"do_(mem_abort|translation_fault|DataAbort|PrefetchAbort|bad_area|sea|tag_check_fault)",
    r"_*do_kernel_fault|do_PrefetchAbort|do_el1_\w+|traps_init|do_trap_\w+|handle_exception",
)
# And the page fault's, which is where a bug in handling the fault itself would be.
_FAULTS = (
    r"(async_)?page_fault|(asm_)?exc_page_fault|_*do_page_fault\w*|handle_page_fault",
    r"no_context|_*bad_area\w*|do_(kern|user)_addr_fault|page_fault_oops|kernelmode_fixup_or_oops",
)
# The sanitizers' own: mm/kasan, mm/kmsan, kernel/kcsan, lib/ubsan.c, mm/kfence.
_SANITIZERS = (
    r"_*kasan_\w+",
    r"_*asan_\w+",
    r"_*hwasan_\w+",
    r"check_memory_region\w*",
    r"memory_is_\w+",
    r"print_(address_description|report|error_description|trailer|unreferenced)\w*",
    r"end_report",
    r"_*kmsan_\w+",
    r"_*msan_\w+",
    r"_*kcsan_\w+",
    r"_*tsan_\w+",
    r"_*ubsan_\w+",
    r"_*kfence_\w+",
    r"_*kcov_\w+",
    r"_*sanitizer_\w+",
    r"instrument_\w+",
    r"object_err",
    r"slab_(err|fix|bug|pad_check)",
    r"check_(slab|object|bytes_and_report)",
    r"print_section",
)
# Memory and string primitives: lib/string.c, lib/usercopy.c, lib/iov_iter.c, arch/*/lib.
_PRIMITIVES = (
    r"_*mem(cpy|set|move|cmp|chr|chr_inv)\w{0,5}",
    r"_*mem(scan|cpy_erms|cpy_orig|set_erms|set_orig|move_erms)\w{0,5}",
    r"_*str(n?len|n?cpy|s?cpy|lcpy|n?cmp|n?casecmp|n?chr)",
    r"_*str(rchr|chrnul|n?cat|lcat|n?str|spn|pbrk|sep)",
    r"_*(clear|copy)_(user|from_user|to_user|in_user|mc_\w+)\w*|_*clear_(huge_)?page(_\w{2,4})?",
    r"_*copy_page(_(regs|erms|rep|orig|to_iter|from_iter)\w*)?|_*copy_(user_)?highpage",
    r"_*(raw_)?copy_(from|to|in)_(user|iter|kernel)\w*",
    r"_*copy_(from|to)_iter\w*",
    r"copyin|copyout|copy_user_\w+",
    r"_*csum_(partial|and)_?\w*",
    r"_*(get|put)_user\w*",
    r"_*(get|put)_unaligned\w*",
    r"_*usercopy_\w+",
    r"check_(object_size|heap_object|stack_object|bogus_address|kernel_text_object)",
    r"__check_(object_size|heap_object)",
    r"_*(read|write)[bwlq](_relaxed)?",
    r"_*raw_(read|write)[bwlq]",
    r"_*(in|out)[bwl]",
    r"logic_(in|out)[bwl]\w*",
    r"_*(test|set|clear|change|test_and_set|test_and_clear)_bit\w*",
    r"_*(arch_|raw_)?(atomic(64|_long)?)_\w+",
    r"_*(READ|WRITE)_ONCE\w*",
    r"_*(read|write)_once\w*",
    r"_*find_(next|first|last)_(zero_|and_)?bit\w*",
    r"_*h?list_(add|del|move|splice|empty|replace|rotate)\w*",
    r"_*rb_(insert|erase)\w*",
    r"_*hlist_\w+",
    r"refcount_\w+",
    r"_*refcount_\w+",
    r"kref_\w+",
    r"debug_(object|print|check)\w*",
    r"_*debug_(check|object)_\w+",
    r"_*fortify_\w+",
    r"stack_chk_fail|__stack_chk_fail",
    r"arch_static_branch\w*",
    r"_*xchg\w*|_*cmpxchg\w*",
    r"(x)?lwsync",
)
# Locks: kernel/locking, and lockdep's own.
_LOCKS = (
    r"_*lock_(acquire|release|acquired|is_held)",
    r"_*lock_(is_held_type|set_class|contended|downgrade|unpin_lock)",
    r"_*(raw_)?(spin|read|write|rwlock)_(try)?(un)?lock\w*",
    r"_*raw_\w*(spin|read|write)_(try)?(un)?lock\w*",
    r"do_raw_\w+",
    r"(native_|pv_|__pv_)?queued_(spin|read|write)_\w+",
    r"_*arch_(spin|read|write)_\w+",
    r"_*mutex_(un|try)?lock\w*",
    r"_*ww_mutex_lock\w*",
    r"_*(down|up)(_(read|write))?(_\w+)?",
    r"_*rwsem_\w+",
    r"rwbase_\w+|rt_(mutex|spin)\w+",
    r"_*rcu_(read_)?(un)?lock\w*",
    r"rcu_lockdep_\w+",
    r"_*lockdep_\w+",
    r"hlock_class|debug_lockdep_\w+|_*(atomic|refcount)_dec_and_\w*lock\w*",
    r"(register|assign|look_up)_lock_\w+",
    r"_*mark_(lock|held|usage|irqflags|chain)\w*",
    r"validate_chain",
    r"check_(prev|prevs|noncircular|deadlock|usage|irq|no_collision|chain|wait|flags)\w*",
    r"print_(circular|usage|irq|deadlock|unlock|lock|bad|freed|usage|kernel)\w*",
    r"valid_state|add_lock\w*|find_(held|usage)\w*",
    r"trace_(hard|soft)irqs_\w+",
    r"debug_check_no_locks_(held|freed)",
    r"local_bh_\w+|_*local_bh_\w+",
    r"seqcount_\w+|_*(read|write)_seq\w+|do_(read|write)_seq\w+",
    r"spin_dump|spin_bug|rwlock_bug|_*task_rq_lock|_*double_rq_lock|raw_spin_rq_lock\w*",
    r"rcu_note_context_switch",
    r"preempt_(schedule|count)\w*|__preempt_\w+",
    r"check_preemption_disabled|debug_smp_processor_id|__this_cpu_preempt_check",
    r"_*(schedule|might_sleep|might_fault|might_resched|cond_resched|cant_\w+)\w*",
)
# Allocators: mm/sl[aou]b.c, mm/slab_common.c, mm/vmalloc.c, mm/page_alloc.c.
_ALLOCATORS = (
    r"_*k[mzcv]{0,2}alloc\w*",
    r"_*kmalloc\w*|kmemdup\w*|kstrn?dup\w*|_*kvmalloc\w*|krealloc\w*|_*krealloc",
    r"_*k[v]?z?free\w*|kfree_(sensitive|const|rcu)\w*|kvfree\w*",
    r"_*kmem_cache_\w+",
    r"_*(slab|slub)_\w+",
    r"_*cache_(alloc|free|grow)\w*",
    r"_*free_(slab|pages?|one_page|the_page)\w*",
    r"put_cpu_partial|unfreeze_partials|discard_slab|allocate_slab|new_slab\w*",
    r"_*(get_free|alloc|free)_pages?\w*|get_page_from_freelist|post_alloc_hook|prep_new_page",
    r"_*vmalloc\w*|_*vzalloc\w*|vfree",
    r"free_(unref_page|pcppages)\w*",
    r"(do_)?(slab_)?free_(nonslab_)?\w*hook\w*",
    r"kmemleak_\w+|create_object|_*create_object",
    r"stack_(trace|depot)_\w+|save_stack\w*|set_track\w*|qlist_free_all|quarantine_\w+",
    r"devm_k\w+",
)
# Libraries and the cores of subsystems, which fail for the sake of their callers: lib/, crypto/,
# drivers/base, drivers/usb/core, fs/{sysfs,kernfs}, kernel/{time/timer,sched/wait,workqueue}.c.
_CORES = (
    r"_*kobj(ect|_)\w*|_*klist_\w+|get_device_parent|(_*get|_*put)_device",
    r"_*device_(add|del|register|unregister|create|destroy|release|remove|attach|initial)\w*",
    r"_*devres_\w+|release_nodes|bus_(add|remove|for)\w*|_*driver_(probe|attach|detach)\w*",
    r"_*(sysfs|kernfs)_\w+|remove_files|dpm_sysfs_\w+|_*remove_(proc|dir)_\w+|create_dir",
    r"_*(idr|ida|xa|xas|radix_tree|rht|rhashtable|rhltable|bitmap|percpu_ref|ref_tracker)_\w+",
    r"_*(crc(16|32|32c|_\w+|\w*_le|\w*_be)|crc\w+|aes\w*_(en|de)crypt\w*|sha\d+_\w+|md5_\w+)",
    r"crypto_\w+|_*skcipher_\w+|scatterwalk_\w+|_*cipher_\w+",
    r"_*usb_(submit|kill|unlink|poison|free|alloc|hcd_submit|anchor)_?\w*urbs?|usb_hcd_\w+",
    r"usb_(control|bulk|interrupt|start_wait)_(msg|urb)\w*",
    r"_*(add|mod|del|try_to_del|detach|lock|debug|init)_timer\w*|timer_(delete|shutdown|is)\w*",
    r"_*timer_delete\w*|sk_(stop|reset)_timer\w*|\w+_is_static_object",
    r"_*(queue|flush|cancel)_(delayed_|rcu_)?work\w*|_*(flush|drain|destroy)_workqueue",
    r"_*cancel_\w*work\w*|_*flush_delayed_work|_*cancel_work_timer",
    r"_*wake_up(_(common|all|bit|process|interruptible|sync|locked|poll|q|var)\w*)?|wake_q_\w+",
    r"complete(_all)?|_*wait_for_(completion|common)\w*|do_wait_for_common|_*kill_fasync\w*",
    r"serial8250_console_\w+|univ8250_console_\w+|uart_console_write|lock_sock\w*|release_sock",
    r"try_to_grab_pending|insert_work|find_(lock|get)_(entry|entries|pages?\w*)",
    r"truncate_inode_(pages|partial)\w*|(xts|cbc|ecb|ctr|gcm|ccm|cts|lrw|essiv)_\w+",
    r"skb_(push|pull|put|over_panic|under_panic|panic|trim|header_\w+)\w*|_*skb_(push|pull|put)",
    r"rollback_registered\w*|unregister_netdevice_\w+|_*seqprop_\w+",
    r"(f|un)?lock_page|(folio|page)_(un)?lock|folio_\w+_wait\w*|memdup_\w+|_*iput|iget\w*",
    r"(_*x86_)?(indirect|return)_thunk\w*|_*x86_\w+_thunk\w*|__raw_\w+|_*mmiowb\w*",
    r"___?preempt_schedule\w*|retint_\w+|arch_local_irq_\w+|osq_\w+|mutex_optimistic_spin",
    r"perf_trace_\w+|trace_event_raw_\w+|ftrace_\w+|(arch_|kernel_)?kcov_\w+|rcu_is_watching",
    r"_*(alloc|get_free)_\w*pages?\w*|notifier_call_chain|raw_notifier_\w+|_*panicking_\w*",
)
_BASE = (*_REPORTING, *_SANITIZERS, *_PRIMITIVES, *_LOCKS, *_ALLOCATORS)
COMMON = Skip(*_BASE, *_TRAPS, *_CORES)
OOPS = COMMON.plus(*_FAULTS)
# A lock is taken by whoever calls the lock, be it a library.
LOCKDEP = Skip(*_BASE, *_TRAPS, r"iput|perf_trace_\w+|trace_event_raw_\w+")
ODEBUG = COMMON.plus(r"_*call_rcu\w*|_*vunmap\w*|_*rcu_\w+")
# Memory belongs to whoever asked an allocator for it, through whatever wrapper.
LEAK = COMMON.plus(
    r"\w*(alloc|dup)\w*|_*list_lru_\w+|_*filemap_get_\w+|pagecache_get_page|grab_cache_page\w*",
    r"page_pool_\w+",
)

# Waiting: what a hung task is found in says nothing, its caller does.
_WAITING = (
    r"_*(schedule|io_schedule)\w*|context_switch|__switch_to\w*|preempt_\w+|irqentry_\w+",
    r"_*wait_(for|on|event)_\w+|bit_wait\w*|out_of_line_wait\w*|_*wait_woken|prepare_to_\w+",
    r"_*synchronize_\w+|rcu_barrier\w*|_*wait_rcu_gp|exp_funnel_lock|_*rcu_\w+",
    r"kthread|ret_from_fork\w*|kthread_(stop|park)|_*kthread_flush_\w+|io_wq_\w+",
    r"\w*(lock_page|folio_(wait|lock)|page_bit|fdatawait|_sleep_on)\w*|do_read_cache_(folio|page)",
    r"sk_wait_data|_*lock_sock\w*|release_sock|console_lock\w*|console_trylock\w*",
    r"\w*ldsem_\w+|tty_ldisc_(ref_wait|lock\w*)|_*rt_mutex\w*|rt_mutex_\w+|nanosleep\w*",
    r"percpu_(down|up|rwsem)\w*|_*percpu_\w+|do_nanosleep|hrtimer_nanosleep\w*|msleep\w*",
)
HANG = COMMON.plus(*_WAITING)
