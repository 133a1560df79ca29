"""What the machine has: devices, memory, CUDA graphs, and other ranks."""
