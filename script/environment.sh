# Sourced by the scripts beside it: installs what is missing, and says what it does.

say() { printf '==> %s\n' "$*"; }

fail() {
    printf '==> %s\n' "$@" >&2
    exit 1
}

# The packages whose program, file or module is not there: need PACKAGE TEST...
missing=()
need() {
    local package=$1
    shift
    "$@" >/dev/null 2>&1 || missing+=("$package")
}

install_missing() {
    [ ${#missing[@]} -eq 0 ] && return
    local command="apt-get install --yes --no-install-recommends ${missing[*]}"
    command -v apt-get >/dev/null ||
        fail "missing: ${missing[*]}" "This is no Debian: install them your system's way, then run this again."
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || fail "missing: ${missing[*]}" "Install them as root, then run this again: $command"
        as_root=(sudo -n)
    fi
    say "installing ${missing[*]}"
    "${as_root[@]}" apt-get -q update >/dev/null || say "apt-get update failed; going on with the lists there are"
    "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive $command >/dev/null ||
        fail "That did not work. To see why, run as root: $command"
}

need_to_boot_guests() {
    need qemu-system-x86 command -v qemu-system-x86_64
    need busybox-static command -v busybox
    need gcc command -v cc
    need libc6-dev test -e /usr/include/stdio.h
    need util-linux command -v setpriv
    need python3-venv "${PYTHON:-python3}" -c 'import ensurepip, venv'
}

make_venv() {
    local python=${PYTHON:-python3}
    "$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
        fail "$python is $("$python" -V 2>&1), and 3.10 is needed. Name another: PYTHON=python3.11 $0"
    if [ ! -x .venv/bin/python ]; then
        say "making .venv with $("$python" -V)"
        "$python" -m venv .venv
    fi
    say "installing the package into .venv"
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' ||
        fail "pip could not be upgraded: is a package index within reach? Then run this again."
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --editable . "$@" ||
        fail "That did not work. To see why: .venv/bin/python -m pip install --editable . $*"
}
