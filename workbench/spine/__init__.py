"""Spine landmarks: 17 centres, then 68 corners, found by shape-constrained cascades of CNNs, and Cobb angles."""
