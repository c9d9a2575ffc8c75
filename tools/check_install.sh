#!/bin/sh
# Compile and run every example against an installed libstratum, as a user of it would.
#
# usage: tools/check_install.sh DESTDIR EXAMPLES
# Each example is linked once with the shared library and once with the static one, with what
# pkg-config says and nothing of the source tree, and must exit with 0.
set -eu

destdir=$(cd "$1" && pwd)
examples=$2
pc=$(find "$destdir" -name stratum.pc)
[ -n "$pc" ] || { echo "check_install: no stratum.pc below $destdir" >&2; exit 1; }
prefix=$destdir$(sed -n 's/^prefix=//p' "$pc")
export PKG_CONFIG_PATH="${pc%/*}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

flags() {
    pkg-config --define-variable=prefix="$prefix" "$@" stratum
}

libdir=$(flags --variable=libdir)
count=0
for source in "$examples"/*.c; do
    [ -e "$source" ] || continue
    name=$(basename "$source" .c)
    # shellcheck disable=SC2046
    "${CC:-cc}" -std=c11 -Wall -Wextra -Werror "$source" -o "$work/shared" $(flags --cflags --libs)
    # shellcheck disable=SC2046
    "${CC:-cc}" -std=c11 -Wall -Wextra -Werror "$source" -o "$work/static" $(flags --cflags) \
        "$libdir/libstratum.a" $(flags --libs --static | sed 's/-lstratum//')
    LD_LIBRARY_PATH=$libdir "$work/shared" >"$work/out" || { cat "$work/out"; exit 1; }
    "$work/static" >"$work/out" || { cat "$work/out"; exit 1; }
    count=$((count + 1))
done
echo "check_install: $count example(s) compiled and run, shared and static"
