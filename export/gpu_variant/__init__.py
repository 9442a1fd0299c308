"""The form of a graph that compilers for GPUs want: blocks whole, large weights left out."""
