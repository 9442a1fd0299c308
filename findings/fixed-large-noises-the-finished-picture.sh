#!/usr/bin/env bash
# diffusers 0.42.1: a DDPMScheduler with variance_type="fixed_large" leaves noise on the finished picture
# when its run ends above training step 0.
#
# `step` adds noise where `timestep > 0`, not where another step follows. The last step of a run goes to the
# clean picture; with "fixed_small" the variance there is 0 (1e-20), with "fixed_large" it is
# 1 - alphas_cumprod[timestep]. steps_offset=1 (usual in configurations of latent models) and
# timestep_spacing="trailing" end runs above 0, the latter the farther the fewer steps are taken.
#
# Exit 0: as described; 1: no longer so; 2: could not be tried.
set -u
folder=$(mktemp -d) || exit 2
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv" || exit 2
"$folder/venv/bin/pip" install --quiet --no-compile "diffusers==0.42.1" "torch==2.13.0" "numpy==2.4.6" || exit 2
HF_HUB_OFFLINE=1 DIFFUSERS_VERBOSITY=error "$folder/venv/bin/python" - <<'PYTHON'
import sys

import diffusers
import torch
from diffusers import DDPMScheduler

print(f"diffusers {diffusers.__version__}, torch {torch.__version__}")
print("The last step adds noise to the finished picture unless it is training step 0: its deviation there.")
left = {}
for variance in ("fixed_small", "fixed_large"):
    for options in (
        {"timestep_spacing": "leading", "steps_offset": 0},
        {"timestep_spacing": "leading", "steps_offset": 1},
        {"timestep_spacing": "trailing"},
    ):
        scheduler = DDPMScheduler(variance_type=variance, prediction_type="sample", **options)
        scheduler.set_timesteps(20)
        last = int(scheduler.timesteps[-1])
        clean = torch.zeros(1, 3, 64, 64)
        # The network's estimate of the clean picture is the clean picture.
        found = scheduler.step(clean, last, clean, generator=torch.Generator().manual_seed(0))
        name = f"{variance}, {' '.join(map(str, options.values()))}"
        left[name] = found.prev_sample.std().item()
        print(f"  {name:28} last step {last:2}: {left[name]:.4f} of [-1, 1]")
found = left["fixed_large, leading 1"] > 0.01 and left["fixed_large, trailing"] > 0.05
sys.exit(0 if found and left["fixed_small, trailing"] < 1e-6 and left["fixed_large, leading 0"] == 0 else 10)
PYTHON
case $? in 0) exit 0 ;; 10) exit 1 ;; *) exit 2 ;; esac
