"""The training set: captions, drawings, their preparation and how batches are drawn from it."""
