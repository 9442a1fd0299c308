#!/bin/sh
# The same numpy gives other last bits of float64 exp, log, sin and cos on the same machine when
# the C library is told that the processor has no fused multiply-add: float64 of a wheel is not
# reproducible between processors, though neither its version nor its own instructions changed.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install -q numpy==2.4.6 || exit 2
grep -qw fma /proc/cpuinfo || { echo "needs an x86 processor with FMA"; exit 2; }
grep -qw avx512f /proc/cpuinfo && { echo "numpy has kernels of its own with AVX-512"; exit 2; }
cat > "$folder/bits.py" <<'PYTHON'
import hashlib
import numpy as np

print("numpy", np.__version__)
values = np.linspace(0.01, 1.5, 200_001)
for name in ("exp", "log", "sin", "cos", "sqrt"):
    print(name, hashlib.sha256(getattr(np, name)(values).tobytes()).hexdigest()[:16])
PYTHON
ldd --version 2>&1 | head -1
"$folder/venv/bin/python" "$folder/bits.py" > "$folder/with" || exit 2
GLIBC_TUNABLES=glibc.cpu.hwcaps=-AVX2,-FMA,-FMA4 \
    "$folder/venv/bin/python" "$folder/bits.py" > "$folder/without" || exit 2
echo "as it is:"; cat "$folder/with"
echo "without fused products in the C library:"; cat "$folder/without"
for name in exp log sin cos; do
    grep -qxF "$(grep "^$name " "$folder/with")" "$folder/without" && { echo "CHANGED: $name"; exit 1; }
done
grep -qxF "$(grep '^sqrt ' "$folder/with")" "$folder/without" || { echo "CHANGED: sqrt"; exit 1; }
echo "exp, log, sin and cos differ in their last bits; sqrt, which IEEE 754 defines, does not."
