"""Measures of speed, each as a ratio to stdlib `ssl` in the same run."""
