"""From labels to a clean image: grey values, textures, edges."""
