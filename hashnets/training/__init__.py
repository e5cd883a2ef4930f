"""The training loop of all systems, its schedule, augmentation and checkpoints."""
