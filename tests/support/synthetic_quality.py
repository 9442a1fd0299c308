"""Figures of the shape that the quality report writes, invented, of a bundle's own graphs."""

from typing import Any

from cascade.bundle.bundle import Bundle


def figures(bundle: Bundle) -> dict[str, Any]:
    """What the quality report writes, in short."""
    verdict = {
        "top1": 0.25, "top5": 0.831, "style": 0.97, "drawn_in_style": 0.99, "pictures": 12,
    }  # fmt: skip
    scores = {"psnr_db": 31.25, "ssim": 0.9123}
    return {
        "bundle": {
            "files": {entry.name: entry.sha256 for entry in bundle.manifest.files},
            "run": {"base": "ort fp32"},
            "stages": {
                "base": {
                    "steps": 8, "sampler": "ddim", "guidance": 2.0, "augmentation": None,
                    "evaluations": 16,
                },
            },
        },
        "probe": {"steps": 9, "on_real_renderings": {"kept": verdict},
                  "style_of_unseen_concepts": 0.981, "unseen_renderings": 54},
        "base": {
            "named": {"captions": verdict},
            "colours": {"pictures": 7, "colour": 0.857, "top1": 0.5, "top5": 0.75},
            "looks": {f"{n}{t}": 1.5 for n in ("sharpness", "chroma", "off_white")
                      for t in ("", "_true")},
            "nearest": {"combinations": 40.0, "captions": 20.0, "captions_nearest_is_asked": 0.5,
                        "real_unseen_concepts": 50.0},
            "variety": {"prompts": 2.0, "seeds": 8.0, "over_seeds": 30.0,
                        "over_styles_of_a_concept_true": 40.0,
                        "over_neighbouring_concepts_true": 60.0},
        },
        "held_out": [{"task": "8 -> 16", "style": "all", "pictures": 2,
                      "methods": {"ours": scores, "lanczos": scores}}],
        "regression_not_trained": ["sr16"],
        "continued": {"pictures": 2, "sharpness 8": 3.25},
        "surroundings": {"commit": "abc1234", "processor": "a processor", "cores": 2},
    }  # fmt: skip
