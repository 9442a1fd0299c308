"""What the grid of Stable Diffusion folders chooses from, and what of it is refused."""

from typing import Any

from tests.support.tiny_sd import CHANNELS, TOKENS, WIDTH

PUBLISHED: dict[str, Any] = {
    "_class_name": "DDIMScheduler",
    "num_train_timesteps": 1000,
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "steps_offset": 1,
}
"""The schedule of the published folders, as DDIM takes it."""

DDPM = {"_class_name": "DDPMScheduler"}
SOLVER = {"_class_name": "DPMSolverMultistepScheduler"}
ZERO_END = {"rescale_betas_zero_snr": True, "prediction_type": "v_prediction"}

SCHEDULERS: tuple[dict[str, Any], ...] = (
    {},
    {"prediction_type": "v_prediction"},
    {"prediction_type": "sample"},
    {"beta_schedule": "squaredcos_cap_v2"},
    {"beta_schedule": "linear", "beta_end": 0.02},
    {"trained_betas": [0.002 + 0.0001 * n for n in range(100)], "num_train_timesteps": 100},
    {**ZERO_END},
    {"num_train_timesteps": 250, "beta_end": 0.05},
    DDPM,
    {**DDPM, "variance_type": "fixed_large"},
    {**DDPM, "variance_type": "fixed_small_log", "prediction_type": "v_prediction"},
    {**DDPM, "prediction_type": "sample"},
    {**DDPM, "thresholding": True, "dynamic_thresholding_ratio": 0.9},
    {**DDPM, "thresholding": True, "sample_max_value": 1.5, "prediction_type": "v_prediction"},
    {**DDPM, "timestep_spacing": "trailing"},
    {**DDPM, "timestep_spacing": "linspace", "variance_type": "fixed_large"},
    {**DDPM, "beta_schedule": "sigmoid"},
    SOLVER,
    {**SOLVER, "use_karras_sigmas": True},
    {**SOLVER, "solver_order": 1},
    {**SOLVER, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
    {**SOLVER, "timestep_spacing": "linspace"},
    {**SOLVER, "thresholding": True},
    {**SOLVER, "euler_at_final": True, "lower_order_final": False},
    {**SOLVER, "prediction_type": "sample", "beta_schedule": "linear"},
)

PNDM = {"_class_name": "PNDMScheduler", "skip_prk_steps": True, "set_alpha_to_one": False}
NOISY_END = {"set_alpha_to_one": False}
PUBLISHED_SCHEDULERS: tuple[dict[str, Any], ...] = (
    PNDM,
    {**PNDM, "set_alpha_to_one": True},
    {**PNDM, "beta_schedule": "linear", "beta_end": 0.02},
    {**PNDM, "beta_schedule": "squaredcos_cap_v2"},
    {**PNDM, "trained_betas": [0.002 + 0.0001 * n for n in range(100)], "num_train_timesteps": 100},
    NOISY_END,
    {**NOISY_END, "prediction_type": "v_prediction"},
    {**NOISY_END, "prediction_type": "sample"},
    {**NOISY_END, "beta_schedule": "linear", "beta_end": 0.02},
    {**NOISY_END, **ZERO_END},
)
"""As published folders have them: PNDM, and DDIM that ends at the first training step."""

EULER = {"_class_name": "EulerDiscreteScheduler", "timestep_spacing": "leading"}
EULER_SCHEDULERS: tuple[dict[str, Any], ...] = (
    EULER,
    {**EULER, "timestep_spacing": "linspace"},
    {**EULER, "timestep_spacing": "trailing"},
    {**EULER, "prediction_type": "v_prediction"},
    {**EULER, "timestep_spacing": "linspace", "prediction_type": "v_prediction"},
    {**EULER, "timestep_spacing": "trailing", "prediction_type": "sample"},
    {**EULER, "timestep_spacing": "linspace", "beta_schedule": "squaredcos_cap_v2"},
    {**EULER, "beta_schedule": "linear", "beta_end": 0.02},
)
"""Euler's, as folders of newer pipelines have it."""

ANCESTRAL = {**EULER, "_class_name": "EulerAncestralDiscreteScheduler"}
ANCESTRAL_SCHEDULERS: tuple[dict[str, Any], ...] = (
    ANCESTRAL,
    {**ANCESTRAL, "timestep_spacing": "linspace"},
    {**ANCESTRAL, "timestep_spacing": "trailing", "prediction_type": "v_prediction"},
    {**ANCESTRAL, "timestep_spacing": "linspace", "beta_schedule": "linear", "beta_end": 0.02},
)
"""Euler's with noise, as users swap it in."""

KARRAS_BLOCKS: dict[str, Any] = {
    "layers_per_block": 1,
    "block_out_channels": (32, 64, 64),
    "down_block_types": ("KDownBlock2D", "KCrossAttnDownBlock2D", "KCrossAttnDownBlock2D"),
    "mid_block_type": None,
    "up_block_types": ("KCrossAttnUpBlock2D", "KCrossAttnUpBlock2D", "KUpBlock2D"),
    "cross_attention_norm": "layer_norm",
    "attention_head_dim": 8,
    "act_fn": "gelu",
    "conv_in_kernel": 1,
    "conv_out_kernel": 1,
    "resnet_time_scale_shift": "scale_shift",
    "time_embedding_type": "fourier",
    "timestep_post_act": "gelu",
    "time_cond_proj_dim": 128 + WIDTH,
    "norm_num_groups": 4,
}
"""A network of the latent upscaler's blocks."""
CLEAN = {**EULER, "timestep_spacing": "linspace", "prediction_type": "original_sample"}
LATENT_UPSCALERS: tuple[dict[str, dict[str, Any]], ...] = (
    {"scheduler": CLEAN},
    {"scheduler": {**CLEAN, "timestep_spacing": "leading"}},
    {"scheduler": {**CLEAN, "timestep_spacing": "trailing"}, "unet": {"layers_per_block": 2}},
    {"scheduler": {**CLEAN, "prediction_type": "sample"}, "unet": {"act_fn": "silu"}},
    {"scheduler": {**CLEAN, "beta_schedule": "linear", "beta_end": 0.02}},
    {"scheduler": {**CLEAN, "num_train_timesteps": 250, "beta_end": 0.05}},
    {"scheduler": {**CLEAN, "beta_schedule": "squaredcos_cap_v2"}, "unet": {"conv_in_kernel": 3}},
    {"scheduler": CLEAN, "unet": {"cross_attention_norm": None, "attention_head_dim": 16}},
)
"""Scheduler and network of folders of the latent upscaler, by what is not as published."""

NOISINGS: tuple[dict[str, Any], ...] = (
    {**DDPM, "beta_schedule": "squaredcos_cap_v2"},
    {**DDPM, "beta_start": 0.0001, "beta_end": 0.02, "beta_schedule": "scaled_linear"},
    {**DDPM, "num_train_timesteps": 400},
)
"""Schedules that noise the smaller picture."""

UNET: dict[str, Any] = {
    "layers_per_block": 1,
    "attention_head_dim": 2,
    "norm_num_groups": 4,
}
ONE = (8,)
TWO = (8, 16)
BLOCKS: tuple[dict[str, Any], ...] = (
    {
        "block_out_channels": ONE,
        "down_block_types": ("CrossAttnDownBlock2D",),
        "up_block_types": ("CrossAttnUpBlock2D",),
    },
    {
        "block_out_channels": TWO,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    },
    {
        "block_out_channels": TWO,
        "down_block_types": ("DownBlock2D", "AttnDownBlock2D"),
        "up_block_types": ("AttnUpBlock2D", "UpBlock2D"),
    },
    {
        "block_out_channels": TWO,
        "down_block_types": ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        "up_block_types": ("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
        "mid_block_type": "UNetMidBlock2DSimpleCrossAttn",
    },
    {
        "block_out_channels": TWO,
        "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        "mid_block_type": None,
    },
)
OPTIONS: tuple[dict[str, Any], ...] = (
    {},
    {"use_linear_projection": True, "attention_head_dim": 4},
    {"act_fn": "gelu", "layers_per_block": 2},
    {"act_fn": "mish", "norm_eps": 1e-6},
    {"resnet_time_scale_shift": "scale_shift", "resnet_out_scale_factor": 2.0},
    {"only_cross_attention": True},
    {"transformer_layers_per_block": 2, "use_linear_projection": True},
    {"center_input_sample": True, "flip_sin_to_cos": False, "freq_shift": 1},
    {"time_embedding_type": "fourier", "time_embedding_dim": 32},
    {"timestep_post_act": "silu", "conv_in_kernel": 5, "conv_out_kernel": 1},
    {"upcast_attention": True, "dropout": 0.1},
    {"mid_block_scale_factor": 2.0, "time_embedding_act_fn": "gelu"},
    {"attention_type": "gated"},
)

VAE: dict[str, Any] = {"norm_num_groups": 4, "latent_channels": CHANNELS, "scaling_factor": 0.18215}
WORDS: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": WIDTH,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": TOKENS,
    "bos_token_id": 62,
    "eos_token_id": 63,
    "pad_token_id": 63,
}

PARTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "vae": {
        "act_fn": ("silu", "silu", "gelu"),
        "latent_channels": (4, 4, 8),
        "layers_per_block": (1, 2),
        "mid_block_add_attention": (True, True, False),
        "use_post_quant_conv": (True, True, False),
        "scaling_factor": (0.18215, 0.13025, 1.0),
    },
    "words": {
        "hidden_act": ("quick_gelu", "gelu"),
        "num_hidden_layers": (1, 2, 3),
        "num_attention_heads": (1, 2, 4),
        "layer_norm_eps": (1e-5, 1e-3),
    },
    "notes": {
        "pad_token": ("<|endoftext|>", "a"),
        "model_max_length": (TOKENS, TOKENS, TOKENS - 4),
    },
}

FILES = ("plain", "plain", "sharded", "fp16", "vocabulary")
"""How weights and tokenizers lie in a folder."""

SCHEDULER = "scheduler/scheduler_config.json"
REFUSED: tuple[tuple[int, str, dict[str, Any]], ...] = (
    (0, "model_index.json", {"_class_name": "StableDiffusionXLPipeline"}),
    (0, "model_index.json", {"vae": ["diffusers", "AutoencoderTiny"]}),
    (0, "model_index.json", {"unet": ["diffusers", "UNet2DModel"]}),
    (0, "model_index.json", {"text_encoder": ["transformers", "CLIPTextModelWithProjection"]}),
    (0, "model_index.json", {"tokenizer": ["transformers", "T5Tokenizer"]}),
    (0, SCHEDULER, {"skip_prk_steps": False, "_class_name": "PNDMScheduler"}),
    (0, SCHEDULER, {"_class_name": "LMSDiscreteScheduler"}),
    (0, SCHEDULER, {"prediction_type": "v_prediction", **PNDM}),
    (0, SCHEDULER, {"clip_sample": True}),
    (0, SCHEDULER, {"thresholding": True}),
    (0, SCHEDULER, {"steps_offset": 0}),
    (0, SCHEDULER, {"clip_sample": True, "_class_name": "DDPMScheduler"}),
    (0, SCHEDULER, {"timestep_spacing": "trailing"}),
    (0, SCHEDULER, {"a_field_of_tomorrow": 1}),
    (0, "unet/config.json", {"_class_name": "UNet2DModel"}),
    (0, "unet/config.json", {"in_channels": 9}),
    (0, "unet/config.json", {"out_channels": 8}),
    (0, "unet/config.json", {"class_embed_type": "timestep"}),
    (0, "unet/config.json", {"addition_embed_type": "text_time"}),
    (0, "unet/config.json", {"encoder_hid_dim_type": "text_proj"}),
    (0, "unet/config.json", {"time_cond_proj_dim": 256}),
    (0, "unet/config.json", {"sample_size": [8, 16]}),
    (0, "unet/config.json", {"sample_size": 8, "_diffusers_version": "0.8.1"}),
    (0, "vae/config.json", {"_class_name": "VQModel"}),
    (0, "vae/config.json", {"shift_factor": 0.1}),
    (0, "vae/config.json", {"latents_mean": [0.0] * 4}),
    (0, "vae/config.json", {"latents_std": [1.0] * 4}),
    (0, "vae/config.json", {"scaling_factor": 0}),
    (0, "text_encoder/config.json", {"model_type": "t5"}),
    (0, "text_encoder/config.json", {"use_attention_mask": True}),
    (0, "tokenizer/tokenizer_config.json", {"model_max_length": 77}),
    (0, "tokenizer/tokenizer_config.json", {"model_max_length": None}),
    (0, "tokenizer/tokenizer_config.json", {"pad_token": "<nothing>"}),
    (0, "tokenizer/tokenizer_config.json", {"padding_side": "left"}),
    (1, "model_index.json", {"_class_name": "StableDiffusionInpaintPipeline"}),
    (1, "model_index.json", {"max_noise_level": 19}),
    (1, "vae/config.json", {"scaling_factor": 0.18215}),
    (1, "unet/config.json", {"in_channels": 4}),
    (1, "unet/config.json", {"num_class_embeds": None}),
    (1, "vae/config.json", {"use_post_quant_conv": False}),
    (1, "low_res_scheduler/scheduler_config.json", {"_class_name": "DDIMScheduler"}),
    (1, "low_res_scheduler/scheduler_config.json", {"beta_schedule": "cosine"}),
    (1, "scheduler/scheduler_config.json", {"timestep_spacing": "trailing"}),
    (0, SCHEDULER, {"variance_type": "learned_range", **DDPM, "timestep_spacing": "linspace"}),
    (0, SCHEDULER, {"prediction_type": "flow"}),
    (0, SCHEDULER, {"algorithm_type": "sde-dpmsolver++", **SOLVER}),
    (0, SCHEDULER, {"solver_order": 3, **SOLVER}),
    (0, SCHEDULER, {"final_sigmas_type": "sigma_min", **SOLVER}),
    (0, SCHEDULER, {"use_lu_lambdas": True, **SOLVER}),
    (0, "unet/diffusion_pytorch_model.safetensors", {}),
    (0, "text_encoder/model.safetensors", {}),
    (0, "vae/config.json", {}),
    (0, "scheduler/scheduler_config.json", {}),
    (0, "tokenizer/tokenizer_config.json", {}),
    (0, SCHEDULER, {"use_karras_sigmas": True, **EULER}),
    (0, SCHEDULER, {"final_sigmas_type": "sigma_min", **EULER}),
    (0, SCHEDULER, {"prediction_type": "sample", **ANCESTRAL}),
    (0, SCHEDULER, {"rescale_betas_zero_snr": True, **ANCESTRAL}),
    (0, SCHEDULER, {"beta_schedule": "squaredcos_cap_v2", **ANCESTRAL}),
)
"""Folder, file and what of it makes it no model that a bundle can hold, named by the first of the
fields; the file is not there where none are changed."""
