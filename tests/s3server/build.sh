#!/bin/sh
# Builds versitygw, the S3 server of tests/store, unless it is there; prints its path. Needs Go; about 100 s.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target="${IXT_CACHE_DIR:-$HOME/.cache/ixt}/bin/versitygw-1.8.0"
if [ ! -x "$target" ]; then
    mkdir -p "$(dirname "$target")"
    (cd "$here" && go build -mod=readonly -o "$target.$$" github.com/versity/versitygw/cmd/versitygw)
    mv "$target.$$" "$target"
fi
echo "$target"
