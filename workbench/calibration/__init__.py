"""Calibration: one collection of real activations serves every algorithm and every release."""
