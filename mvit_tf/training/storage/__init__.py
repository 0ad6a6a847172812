"""The model directory and what lies in it: checkpoints, the lock, weights to start from."""
