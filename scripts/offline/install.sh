#!/usr/bin/env bash
# Installs cellseg_d2 without internet into an environment that has torch and torchvision.
#   bash install.sh [PYTHON]      PYTHON: that environment's interpreter (default: python3)
set -euo pipefail
PYTHON=${1:-python3}
[[ "$PYTHON" != */* ]] || PYTHON=$(cd "$(dirname "$PYTHON")" && pwd)/$(basename "$PYTHON")
cd "$(dirname "$0")"

say() { echo "install: $*"; }
fail() { echo "install: $*" >&2; exit 1; }

"$PYTHON" -c 'import sys' || fail "$PYTHON does not run: name the interpreter, bash install.sh /path/to/env/bin/python"
version=$("$PYTHON" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$version" = "@PYTHON@" ] || fail "$PYTHON is Python $version, and this bundle is for Python @PYTHON@ (make bundle PYVER=$version)."
"$PYTHON" -c 'import torch, torchvision' || fail "$PYTHON has no working torch and torchvision: install or load them first."
"$PYTHON" -m pip --version >/dev/null || fail "$PYTHON has no pip: run $PYTHON -m ensurepip"

say "checking the files"
sha256sum --check --quiet SHA256SUMS || fail "the bundle is damaged (see above): copy it again."

# pip keeps what is installed and good enough, above all torch: the bundle has none
say "installing the wheels"
"$PYTHON" -m pip install --quiet --disable-pip-version-check --no-index --find-links wheels cellseg_d2
# Ours once more, for a newer bundle of the same version
"$PYTHON" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --force-reinstall wheels/cellseg_d2-*.whl

if "$PYTHON" -c 'from detectron2 import __version__' 2>/dev/null; then
    say "Detectron2 is there already"
else
    say "unpacking Detectron2"
    # pip would refuse the file name's Python tag. The wheel also has a stray package `tools`: left out.
    "$PYTHON" - detectron2-wheel/*.whl <<'UNPACK'
import sys, sysconfig, zipfile
with zipfile.ZipFile(sys.argv[1]) as wheel:
    names = [name for name in wheel.namelist() if not name.startswith("tools/")]
    wheel.extractall(sysconfig.get_path("purelib"), names)
UNPACK
fi

cd / && "$PYTHON" -m cellseg_d2.doctor --output "${TMPDIR:-/tmp}"
