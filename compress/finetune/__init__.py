"""Training after compression: ``finetune``."""
