#!/usr/bin/env bash
# diffusers 0.42.1: with timestep_spacing="trailing" DDPMScheduler appends a step -1 to some runs.
#
# The steps come from np.arange(trained, 0, -trained / steps), whose length is decided by rounding:
# where the sum of strides ends a hair above 0, one more value is made, and 0 - 1 = -1. The loop of a
# pipeline then evaluates its network a last time at step -1, and `alphas_cumprod[-1]` is the power
# of the noisiest step: the finished picture is treated as pure noise.
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
print("With timestep_spacing='trailing' some runs have one step more than asked for, and it is -1.")
scheduler = DDPMScheduler(timestep_spacing="trailing", beta_schedule="squaredcos_cap_v2")
wrong = []
for steps in range(1, 1001):
    scheduler.set_timesteps(steps)
    if len(scheduler.timesteps) != steps:
        wrong.append(steps)
print(f"{len(wrong)} of the runs of 1 to 1000 steps are too long: {wrong[:8]} ...")
for steps in (60, 61):
    scheduler.set_timesteps(steps)
    print(f"{steps} steps: {len(scheduler.timesteps)} made, the last ones {scheduler.timesteps[-3:].tolist()}")

# A network that always says "no noise": the finished picture should stay what it is.
picture = torch.full((1, 3, 2, 2), 0.5)
nothing = torch.zeros_like(picture)
scheduler.set_timesteps(61)
scheduler = DDPMScheduler.from_config(scheduler.config, clip_sample=False)
scheduler.set_timesteps(61)
before = scheduler.step(nothing, int(scheduler.timesteps[-2]), picture).prev_sample.max().item()
after = scheduler.step(nothing, int(scheduler.timesteps[-1]), picture).prev_sample.max().item()
print(f"a grey of 0.5 and no noise predicted: {before:.3f} after step {int(scheduler.timesteps[-2])}, "
      f"{after:.0f} after step -1")
sys.exit(0 if 61 in wrong and after > 100 else 10)
PYTHON
case $? in 0) exit 0 ;; 10) exit 1 ;; *) exit 2 ;; esac
