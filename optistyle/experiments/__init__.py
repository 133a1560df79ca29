"""Many runs at once: grids, sweeps on one machine or a cluster, ablations, and what they show."""
