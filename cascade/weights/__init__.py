"""Weights beside the graphs: one safetensors file per component, checked, then read in place."""
