"""Training: objectives, recipes, distillation, checkpoints."""
