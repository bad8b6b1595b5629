"""What the generator, the trainer and the evaluation share: shards, prompts, configs, weights."""
