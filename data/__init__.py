"""What the generator, the trainer and the evaluation share: shards, prompts, configs, weights."""

if __name__ == "data":  # found as a folder of the checkout: its modules would be loaded a second time
    raise ImportError("the package data is synthfm.data now: from synthfm.data import ...")
