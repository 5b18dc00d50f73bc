#!/bin/sh
# The compiler wrapper of `flaky-repro culprit objects`: kbuild's CC. One constant command line, so
# that kbuild's .cmd files stay valid; which variant an object gets is said by the environment
# (culprit/objects/wrapper.py sets it), so changing one's mind rebuilds nothing by itself.
#
#   FLAKY_REPRO_CC_GOOD        compiler of the good variant, quoted for a shell (default: cc)
#   FLAKY_REPRO_CC_BAD         compiler of the bad variant (default: the good one)
#   FLAKY_REPRO_CC_GOOD_FLAGS  flags behind all others for a good object, quoted for a shell
#   FLAKY_REPRO_CC_BAD_FLAGS   the same for a bad one
#   FLAKY_REPRO_CC_BAD_OBJECTS a folder: the objects to build bad are those with a file there
#   FLAKY_REPRO_CC_LOG         file to append "wanted, got, object, source" to, tab-separated
#   FLAKY_REPRO_CC_ERRORS      folder for what the compiler says of bad objects that do not compile
#   FLAKY_REPRO_CC_CAPTURE     file to write the environment of vmlinux's link to
#
# What is no candidate (see the end of the first loop) is compiled as if the wrapper were not there,
# by the good compiler: so kbuild's probes and `--version` get one compiler's answers in all builds.

good=${FLAKY_REPRO_CC_GOOD:-cc}

compile= kernel= module= object= source= sources=0 previous=
for word; do
    case $previous in -o) object=$word ;; esac
    case $word in
        -c) compile=yes ;;
        -E | -S) compile=; break ;;
        -D__KERNEL__) kernel=yes ;;
        -DMODULE) module=yes ;;
        -*) ;;
        *.c) [ "$previous" = -o ] || { source=$word sources=$((sources + 1)); } ;;
    esac
    previous=$word
done

# vmlinux's link compiles one of these with all of its own environment: enough to repeat the link.
case ${FLAKY_REPRO_CC_CAPTURE:+$object} in
    init/version-timestamp.o | .tmp_vmlinux.kallsyms*.o | .tmp_kallsyms*.o)
        export -p >"$FLAKY_REPRO_CC_CAPTURE"
        ;;
esac

# M= builds name objects by absolute paths; the log speaks of the tree's own ones.
name=${object#"$PWD"/}
candidate=
if [ "$compile$kernel$module" = yesyes ] && [ $sources -eq 1 ]; then
    candidate=yes
    case $name in
        *.o) ;;
        *) candidate= ;;
    esac
    case ${name##*/} in .tmp_*) candidate= ;; esac
    # Made anew at each link, whatever the flags.
    case $name in init/version*.o | arch/*/boot/compressed/misc.o) candidate= ;; esac
    # A source without a path out of the object tree was generated in it. It may hold a linked part
    # of the kernel (vdso-image-64.c holds the vDSO), and would carry others' flags along.
    case $source in
        /*) [ "${source#"$PWD"/}" = "$source" ] || candidate= ;;
        ../*) ;;
        *) candidate= ;;
    esac
fi

if [ -z "$candidate" ]; then
    eval "exec $good \"\$@\""
fi

log() {
    [ -z "${FLAKY_REPRO_CC_LOG-}" ] ||
        printf '%s\t%s\t%s\t%s\n' "$wanted" "$1" "$name" "$source" >>"$FLAKY_REPRO_CC_LOG"
}

wanted=good
if [ -n "${FLAKY_REPRO_CC_BAD_OBJECTS-}" ] && [ -e "$FLAKY_REPRO_CC_BAD_OBJECTS/$name" ]; then
    wanted=bad
    errors=${FLAKY_REPRO_CC_ERRORS:+$FLAKY_REPRO_CC_ERRORS/$name}
    [ -z "$errors" ] || mkdir -p "${errors%/*}"
    if eval "${FLAKY_REPRO_CC_BAD:-$good} \"\$@\" ${FLAKY_REPRO_CC_BAD_FLAGS-}" \
        2>"${errors:-/dev/null}"; then
        [ -z "$errors" ] || rm -f "$errors"
        log bad
        exit
    fi
    # Better one object that stays good, and a word about it, than no kernel.
fi
log good
eval "exec $good \"\$@\" ${FLAKY_REPRO_CC_GOOD_FLAGS-}"
