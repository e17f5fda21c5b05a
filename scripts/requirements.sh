#!/bin/sh
# Resolve requirements/*.in anew, for all Pythons from 3.10 on. Needs no uv on the machine: it gets one of its own.
set -eu
cd "$(dirname "$0")/.."
tool=.cache/uv
[ -x "$tool/bin/uv" ] || { "${PYTHON:-python3}" -m venv "$tool" && "$tool/bin/pip" install --quiet uv; }
for set in newest oldest sentry3; do
    echo "requirements/$set.txt"
    "$tool/bin/uv" pip compile --quiet --universal --upgrade --python-version 3.10 --extra dev \
        --no-emit-index-url --no-header --no-annotate \
        pyproject.toml "requirements/$set.in" --output-file "requirements/$set.txt"
done
