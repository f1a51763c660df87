#!/bin/sh
# Install nnscan, editable, with what its tests need, into .venv of this clone. Called by the Makefile.
# PYTHON names the interpreter; without it uv looks for one, or the newest of python3.11 and up on the path is taken.
set -eu
cd "$(dirname "$0")/.."

usable() { # is $1 a Python 3.11 or newer that can make a virtual environment with pip?
    "$1" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

find_python() {
    for candidate in ${PYTHON:-python3.13 python3.12 python3.11 python3}; do
        if usable "$candidate"; then
            echo "$candidate"
            return
        fi
    done
}

with_uv() {
    echo "Setting up .venv with uv ..."
    uv venv --quiet --allow-existing --python "${PYTHON:-${UV_PYTHON:->=3.11}}" .venv
    uv pip install --compile-bytecode --python .venv/bin/python --editable '.[dev]'
}

with_pip() { # $1: the interpreter
    echo "Setting up .venv with $1 -m venv and pip (a few minutes; uv is quicker) ..."
    "$1" -m venv .venv
    .venv/bin/python -m pip install --disable-pip-version-check --progress-bar off --quiet --editable '.[dev]'
}

if command -v uv >/dev/null 2>&1; then
    with_uv
else
    python=$(find_python)
    if [ -z "$python" ]; then
        echo "nnscan needs Python 3.11 or newer with venv, or uv. Found: $(python3 --version 2>/dev/null || echo 'no python3')." >&2
        echo "On Debian 12 and Ubuntu 24.04:  sudo apt-get install -y python3-venv make" >&2
        echo "On any other machine:           https://docs.astral.sh/uv/getting-started/installation" >&2
        exit 2
    fi
    with_pip "$python"
fi
touch .venv/.installed
