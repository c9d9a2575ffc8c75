#!/bin/sh
# Make the virtual environment that everything else runs in.
#
# usage: tools/bootstrap.sh VENV
# Installs what the system lacks (C compiler, Python headers, venv) by apt-get when run as root on
# a Debian-like system, and otherwise says what is missing. Called by the Makefile when
# pyproject.toml or tools/constraints.txt is newer than the environment. PYTHON= names the interpreter;
# without it the first of python3, python3.13, ... that starts and is new enough is taken.
set -eu

venv=$1
root=$(cd "$(dirname "$0")/.." && pwd)

is_new_enough() {
    "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null
}

version_of() {
    "$1" -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null
}

find_python() {
    for candidate in ${PYTHON:-python3 python3.13 python3.12 python3.11}; do
        if command -v "$candidate" >/dev/null 2>&1 && is_new_enough "$candidate"; then
            command -v "$candidate"
            return 0
        fi
    done
    return 1
}

python=$(find_python || true)
if [ -n "${PYTHON:-}" ] && [ -z "$python" ]; then
    echo "bootstrap: PYTHON=$PYTHON does not start, or is older than 3.11" >&2
    exit 1
fi
missing=""
command -v "${CC:-cc}" >/dev/null 2>&1 || missing="$missing build-essential"
# Tests of the installed library compile against its stratum.pc.
command -v pkg-config >/dev/null 2>&1 || missing="$missing pkg-config"
if [ -z "$python" ]; then
    missing="$missing python3 python3-dev python3-venv"
else
    "$python" -c 'import ensurepip, venv' 2>/dev/null || missing="$missing python3-venv"
    "$python" -c 'import os, sys, sysconfig
sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()["include"], "Python.h")))' ||
        missing="$missing python3-dev"
fi
# LightGBM's wheel takes the OpenMP runtime from the system.
if command -v ldconfig >/dev/null 2>&1; then
    ldconfig -p | grep -q 'libgomp\.so\.1' || missing="$missing libgomp1"
fi
# What the build and the tests do without where it cannot be installed: SQLite's header for the disk store's
# index (the store then reads its files to know what it has), and dot for skrub's tests of drawn graphs.
optional=""
{ command -v pkg-config >/dev/null 2>&1 && pkg-config --exists sqlite3; } || optional="$optional libsqlite3-dev"
command -v dot >/dev/null 2>&1 || optional="$optional graphviz"
if [ -n "$optional" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        missing="$missing$optional"
    else
        echo "bootstrap: going on without these packages (or what your system calls them):$optional" >&2
    fi
fi

if [ -n "$missing" ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        echo "bootstrap: installing$missing"
        export DEBIAN_FRONTEND=noninteractive
        apt-get update -q
        # shellcheck disable=SC2086
        apt-get install -y -q --no-install-recommends $missing
        python=$(find_python || true)
    else
        echo "bootstrap: please install these packages (or what your system calls them):$missing" >&2
        exit 1
    fi
fi
if [ -z "$python" ]; then
    echo "bootstrap: Python 3.11 or newer is needed; name one with PYTHON=" >&2
    exit 1
fi

# An environment whose interpreter is gone, too old, or not of the version that was asked for, is made anew.
if [ -d "$venv" ]; then
    if ! is_new_enough "$venv/bin/python"; then
        rm -rf "$venv"
    elif [ -n "${PYTHON:-}" ] && [ "$(version_of "$venv/bin/python")" != "$(version_of "$python")" ]; then
        rm -rf "$venv"
    fi
fi
if [ ! -x "$venv/bin/python" ]; then
    echo "bootstrap: making $venv with $("$python" --version)"
    "$python" -m venv "$venv"
fi

export PIP_DISABLE_PIP_VERSION_CHECK=1
list=$(mktemp)
trap 'rm -f "$list"' EXIT
"$venv/bin/python" "$root/tools/requirements.py" >"$list"
"$venv/bin/python" -m pip install -q --retries 5 -c "$root/tools/constraints.txt" -r "$list"
