#!/usr/bin/env bash
# Sets up the environment that every make target uses; run by `make setup`.
#   VENV    where it lies (default .venv); an existing environment keeps its own torch and its own Detectron2
#   PYTHON  the interpreter that makes it (default: the first Python 3.11 or 3.12 that is found)
set -euo pipefail
cd "$(dirname "$0")/.."
VENV=${VENV:-.venv}
OURS=$VENV/.made-by-cellseg_d2

say() { echo "setup: $*"; }
fail() { echo "setup: $*" >&2; exit 1; }

# Is "$1" a Python 3.11 or 3.12?
suits() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null; }

# Can "$1" make environments? (Debian and Ubuntu keep that part in a package of its own.)
makes_venvs() { "$1" -c 'import ensurepip, venv' 2>/dev/null; }

find_python() {
    local candidate no_venv=""
    if [ -n "${PYTHON:-}" ]; then
        suits "$PYTHON" || fail "PYTHON=$PYTHON is not a working Python 3.11 or 3.12."
        makes_venvs "$PYTHON" || fail "PYTHON=$PYTHON lacks the venv module: install its venv package."
        echo "$PYTHON"
        return
    fi
    for candidate in python3.11 python3.12 python3 python; do
        suits "$candidate" || continue
        if makes_venvs "$candidate"; then echo "$candidate"; return; fi
        no_venv=$candidate
    done
    [ -z "$no_venv" ] || fail "$no_venv lacks the venv module: install its venv package (Debian: apt install python3-venv)."
    fail "no Python 3.11 or 3.12 was found. Install one, or name it: make setup PYTHON=/path/to/python3.12"
}

make_venv() {
    local python
    if [ -x "$VENV/bin/python" ]; then
        suits "$VENV/bin/python" || fail "$VENV does not hold a working Python 3.11 or 3.12. Remove it: rm -rf $VENV"
        return
    fi
    # A folder without a Python is what an interrupted run left, unless someone keeps other things there
    [ ! -e "$VENV" ] || [ -f "$VENV/pyvenv.cfg" ] || fail "$VENV exists and is no Python environment: set VENV=another/folder"
    python=$(find_python)
    say "making $VENV with $("$python" -V)"
    "$python" -m venv --clear "$VENV"
    touch "$OURS"
}

install_uv() {
    [ ! -x "$VENV/bin/uv" ] || return 0
    say "installing uv into $VENV"
    "$VENV/bin/python" -m pip --version >/dev/null 2>&1 || "$VENV/bin/python" -m ensurepip --upgrade >/dev/null
    "$VENV/bin/python" -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
}

# uv's own progress is for people at a terminal only. Byte code now, where files may be read-only or never written later
uv_install() {
    local quiet=--quiet
    [ ! -t 2 ] || quiet=
    "$VENV/bin/uv" pip install $quiet --compile-bytecode --python "$VENV/bin/python" "$@"
}

install_packages() {
    local constraints=constraints.txt
    if [ ! -e "$OURS" ] && "$VENV/bin/python" -c 'import torch' 2>/dev/null; then
        say "keeping the torch that is in $VENV"
        constraints=$(mktemp)
        grep -vE '^(torch|torchvision|triton|nvidia-.*|cuda-.*)==' constraints.txt >"$constraints"
    fi
    say "installing cellseg_d2 and the packages of constraints.txt (some 5 GB with CUDA; the first time takes a while)"
    uv_install -c "$constraints" --build-constraint constraints.txt -e '.[test]'
    [ "$constraints" = constraints.txt ] || rm -f "$constraints"
}

install_detectron2() {
    local python=$VENV/bin/python site
    # Its version too: any folder of that name could be imported
    if "$python" -c 'from detectron2 import __version__' 2>/dev/null; then
        say "Detectron2 is there already"
        return
    fi
    say "installing Detectron2 (Python sources, checked against their hash)"
    site=$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    # The wheel calls itself one for Python 3.10, hence --python-version; --target does not look at the real one
    uv_install --no-deps --only-binary :all: --python-version 3.10 --target "$site" --require-hashes -r scripts/detectron2.txt
    # It also drops a package named `tools`, which would hide anybody else's: take away exactly those files
    "$python" scripts/drop_stray_tools.py "$site"
    "$python" -c 'from detectron2 import __version__' || fail "Detectron2 was installed, but importing it fails (see above)."
}

# Once here, instead of in the first evaluation
compile_loops() {
    say "compiling the loops of scoring and reading"
    "$VENV/bin/python" -m cellseg_d2.evaluation.warm_up
}

make_venv
install_uv
install_packages
install_detectron2
compile_loops
touch "$VENV/.setup-stamp"
say "done; $VENV/bin/python -m cellseg_d2.doctor tells what is there"
