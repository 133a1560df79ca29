"""Benchmarks: speed as ratios to a plain PyTorch loop, and quality in the real VGG-19."""
