"""The diffusion family: schedules, denoisers, guidance, samplers and the stage made of them."""
