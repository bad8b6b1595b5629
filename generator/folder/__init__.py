"""Many samples: filling a folder with shards, and looking at one."""
