"""What scanners make of a clean image."""
